use std::time::{Duration, UNIX_EPOCH};

use ambit_proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
use ambit_proto::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tonic::{Request, Response};

use super::*;

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse {}))
    }
}

fn settings(endpoint: String) -> Settings {
    Settings {
        endpoint,
        sampled: 250_000,
        service: "gateway.shop".to_owned(),
    }
}

fn span(id: u64) -> Span {
    Span {
        trace: 7,
        id,
        parent: (id > 1).then_some(1),
        name: "GET".to_owned(),
        start: UNIX_EPOCH + Duration::from_nanos(5),
        end: UNIX_EPOCH + Duration::from_nanos(9),
        error: (id == 2).then(|| "no route".to_owned()),
        attributes: vec![
            ("url.path", Value::Text("/a".to_owned())),
            ("http.response.status_code", Value::Number(404)),
        ],
    }
}

#[tokio::test]
async fn spans_reach_a_collector_in_one_batch() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sent, mut received) = mpsc::unbounded_channel();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .serve_with_incoming(TraceServiceServer::new(Collector(sent)), incoming);
    let server = tokio::spawn(server);
    let (tracing, exporting) = Tracing::new(settings(format!("http://{address}")));
    let exporting = tokio::spawn(exporting);
    tracing.record(span(1));
    tracing.record(span(2));
    let request = received.recv().await.expect("a batch");
    let resource = &request.resource_spans[0];
    let service = &resource.resource.as_ref().expect("a resource").attributes[0];
    assert_eq!(service.key, "service.name");
    let spans = &resource.scope_spans[0].spans;
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0].trace_id, 7u128.to_be_bytes());
    assert_eq!(spans[0].parent_span_id, Vec::<u8>::new());
    assert_eq!(spans[1].parent_span_id, 1u64.to_be_bytes());
    assert_eq!(
        (spans[0].start_time_unix_nano, spans[0].end_time_unix_nano),
        (5, 9)
    );
    assert_eq!(
        spans[1].status.as_ref().expect("an error").message,
        "no route"
    );
    drop(tracing);
    exporting.await.expect("it ends with the last holder");
    server.abort();
}

#[tokio::test]
async fn a_full_queue_takes_no_more_and_nobody_waits() {
    let (tracing, exporting) = Tracing::new(settings("http://127.0.0.1:9".to_owned()));
    for id in 1..=(QUEUE as u64 + 10) {
        tracing.record(span(id));
    }
    assert_eq!(tracing.queue.capacity(), 0);
    drop(exporting);
}

#[test]
fn the_share_that_is_sampled() {
    let (tracing, exporting) = Tracing::new(settings("http://127.0.0.1:9".to_owned()));
    assert!(tracing.samples(0) && tracing.samples(249_999));
    assert!(!tracing.samples(250_000) && !tracing.samples(999_999));
    drop(exporting);
}
