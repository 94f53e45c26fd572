//! Batches of spans to a collector.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_proto::otlp::any_value::Value as Any;
use ambit_proto::otlp::span::SpanKind;
use ambit_proto::otlp::status::StatusCode;
use ambit_proto::otlp::trace_service_client::TraceServiceClient;
use ambit_proto::otlp::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans,
    ScopeSpans, Span as Wire, Status,
};
use metrics::{counter, describe_counter};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint};

use super::{Settings, Span, Value};

/// Spans that are sent together,
const BATCH: usize = 512;
/// or as many as come in this time.
const GATHER: Duration = Duration::from_secs(1);
/// A collector may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

const DROPPED: &str = "ambit_trace_spans_dropped_total";
const EXPORTED: &str = "ambit_trace_spans_exported_total";

/// Says what the metrics are, and that there was no span.
pub(super) fn describe() {
    describe_counter!(
        DROPPED,
        "Spans that no collector was told: too many waited, or it failed."
    );
    describe_counter!(EXPORTED, "Spans that a collector was told.");
    for name in [DROPPED, EXPORTED] {
        counter!(name).absolute(0);
    }
}

/// Spans that were not exported.
pub(super) fn dropped(count: usize) {
    counter!(DROPPED).increment(count as u64);
}

pub(super) async fn run(settings: Settings, mut spans: mpsc::Receiver<Span>) {
    let endpoint = match Endpoint::from_shared(settings.endpoint.clone()) {
        Ok(endpoint) => endpoint.connect_timeout(PATIENCE).timeout(PATIENCE),
        Err(error) => {
            let endpoint = &settings.endpoint;
            tracing::error!(endpoint, %error, "spans are not exported");
            return;
        }
    };
    // It connects when it is used, and again after every loss.
    let mut client = TraceServiceClient::new(endpoint.connect_lazy());
    let mut failing = false;
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut spans, &mut batch).await {
        let count = batch.len();
        match send(&mut client, &settings, &mut batch).await {
            Ok(()) => {
                counter!(EXPORTED).increment(count as u64);
                failing = false;
            }
            Err(error) => {
                dropped(count);
                // Said once, not for every batch.
                if !std::mem::replace(&mut failing, true) {
                    let endpoint = &settings.endpoint;
                    tracing::warn!(endpoint, error, "spans cannot be exported");
                }
            }
        }
    }
}

/// Waits for spans; `false` when there will be no more.
async fn gather(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    batch.clear();
    if spans.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match timeout_at(until, spans.recv_many(batch, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    true
}

async fn send(
    client: &mut TraceServiceClient<Channel>,
    settings: &Settings,
    batch: &mut Vec<Span>,
) -> Result<(), String> {
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Any::StringValue(value.to_owned())),
        }),
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", &settings.service)],
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "ambit".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }),
                spans: batch.drain(..).map(wire).collect(),
            }],
        }],
    };
    match timeout(PATIENCE, client.export(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

fn wire(span: Span) -> Wire {
    let attributes = span.attributes.into_iter().map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(match value {
                Value::Text(text) => Any::StringValue(text),
                Value::Number(number) => Any::IntValue(number),
            }),
        }),
    });
    Wire {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span
            .parent
            .map(|it| it.to_be_bytes().to_vec())
            .unwrap_or_default(),
        name: span.name,
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(span.start),
        end_time_unix_nano: nanoseconds(span.end),
        attributes: attributes.collect(),
        status: span.error.map(|message| Status {
            message,
            code: StatusCode::Error.into(),
        }),
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
