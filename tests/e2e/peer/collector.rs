//! A collector of spans: OTLP over gRPC on one port, what has come so far as JSON on another.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ambit_proto::otlp::any_value::Value as Any;
use ambit_proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
use ambit_proto::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Span};
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::Collect;

type Spans = Arc<Mutex<Vec<Value>>>;

pub(super) async fn serve(options: &Collect) -> anyhow::Result<()> {
    let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any(options.http)).await?;
    let spans = Spans::default();
    let calls = TcpListener::bind(any(options.grpc)).await?;
    let grpc = TraceServiceServer::new(Collector(spans.clone()));
    let grpc = Server::builder().serve_with_incoming(grpc, TcpIncoming::from(calls));
    tokio::select! {
        result = grpc => Ok(result?),
        result = show(listener, spans) => result,
    }
}

struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of in request.into_inner().resource_spans {
            let resource = attributes(of.resource.unwrap_or_default().attributes);
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| shown(span, &resource)));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse {}))
    }
}

fn shown(span: Span, resource: &Value) -> Value {
    json!({
        "resource": resource,
        "trace": hex(&span.trace_id),
        "span": hex(&span.span_id),
        "parent": hex(&span.parent_span_id),
        "name": span.name,
        "kind": span.kind,
        "nanoseconds": span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        "error": span.status.map(|it| it.message),
        "attributes": attributes(span.attributes),
    })
}

fn attributes(all: Vec<KeyValue>) -> Value {
    let pairs = all.into_iter().map(|it| {
        let value = match it.value.and_then(|it| it.value) {
            Some(Any::StringValue(text)) => json!(text),
            Some(Any::IntValue(number)) => json!(number),
            Some(Any::BoolValue(flag)) => json!(flag),
            None => Value::Null,
        };
        (it.key, value)
    });
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

async fn show(listener: TcpListener, spans: Spans) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let spans = spans.clone();
        let service = service_fn(move |_| {
            let all = spans.lock().unwrap_or_else(PoisonError::into_inner);
            let body = Bytes::from(json!(*all).to_string());
            async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(serving.await) });
    }
}
