use std::io;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::log::{Format, Logging, Sink};
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// Sends raw bytes and gives the status and the body.
async fn ask(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.expect("a server");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.expect("a body"))
}

async fn call(addr: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let request = format!("{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    ask(addr, &request).await
}

async fn start(router: Router) -> SocketAddr {
    let addr = "127.0.0.1:0".parse().expect("an address");
    let listener = bind(&[addr]).await.expect("bound").remove(0);
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(serve(listener, Arc::new(router)));
    addr
}

#[tokio::test]
async fn answers_by_path_and_method() {
    let router = Router::default()
        .route(Method::GET, "/a", "says a", |_| async {
            text(StatusCode::OK, "a")
        })
        .route(
            Method::POST,
            "/b",
            "says its x",
            |query: Query| async move {
                text(
                    StatusCode::OK,
                    query.value("x").unwrap_or("none").to_owned(),
                )
            },
        );
    let addr = start(router).await;
    for (method, target, status, body) in [
        ("GET", "/a", 200, "a"),
        ("GET", "/a?x=1", 200, "a"),
        ("POST", "/b?x=1%202", 200, "1 2"),
        ("POST", "/a", 405, "wrong method; / lists them\n"),
        ("GET", "/c", 404, "no such page; / lists them\n"),
        ("GET", "/", 200, "GET  /a  says a\nPOST /b  says its x\n"),
        ("HEAD", "/a", 200, ""),
    ] {
        let got = call(addr, method, target).await;
        assert_eq!(got, (status, body.to_owned()), "{method} {target}");
    }
}

#[tokio::test]
async fn headers_are_bounded() {
    let addr = start(Router::default()).await;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(32 * 1024)
    );
    assert_eq!(ask(addr, &request).await.0, 431);
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let readiness = Readiness::default();
    let task = readiness.task("the mesh");
    let addr = start(ready(Router::default(), &readiness)).await;
    let (status, body) = call(addr, "GET", "/healthz/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("the mesh"), "{body}");
    drop(task);
    assert_eq!(call(addr, "GET", "/healthz/ready").await.0, 200);
}

#[tokio::test]
async fn the_log_filter_is_shown_and_changed() {
    let (log, _subscriber) =
        Logging::new(Format::Plain, "info", Sink::new(io::sink())).expect("a filter");
    let addr = start(logging(Router::default(), &log)).await;
    for (target, status, word) in [
        ("/logging", 200, "info"),
        ("/logging?level=debug", 200, "debug"),
        (
            "/logging?level=access:off,ambit_net::xds:trace",
            200,
            "ambit_net::xds=trace",
        ),
        ("/logging?level=loud", 400, "loud"),
        ("/logging?level=a%3Dloud", 400, "TARGET=LEVEL"),
        ("/logging?reset", 200, "info"),
    ] {
        let (got, body) = call(addr, "POST", target).await;
        assert_eq!(got, status, "{target}: {body}");
        assert!(body.contains(word), "{target}: {body}");
    }
    assert_eq!(log.level(), "info");
}

#[tokio::test]
async fn metrics_are_served_at_both_paths() {
    let router = metrics(Router::default(), &Metrics::default(), || {});
    let addr = start(router).await;
    for path in ["/metrics", "/stats/prometheus"] {
        let (status, body) = call(addr, "GET", path).await;
        assert_eq!(status, 200, "{path}");
        assert!(body.contains("# TYPE istio_tcp_connections_opened_total counter"));
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_is_named() {
    let addr = "192.0.2.1:1".parse().expect("an address");
    let error = bind(&[addr]).await.expect_err("not ours");
    assert!(error.to_string().contains("192.0.2.1:1"), "{error}");
}

#[tokio::test]
async fn openmetrics_is_for_those_who_ask_where_there_are_exemplars() {
    for (has_exemplars, accept, open) in [
        (true, "application/openmetrics-text", true),
        (true, "*/*", false),
        (false, "application/openmetrics-text", false),
    ] {
        let all = Metrics::default().with_exemplars(has_exemplars);
        let addr = start(metrics(Router::default(), &all, || {})).await;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        let (status, body) = ask(addr, &request).await;
        assert_eq!((status, body.ends_with("# EOF\n")), (200, open), "{accept}");
    }
}
