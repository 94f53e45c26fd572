//! HTTP/1.1 and h2c: does what the request's directives ask, and answers with what was received.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::behaviour::{Behaviour, ResetAt};
use super::body::{self, Aborted, CutOff, PatternBody};
use super::socket::{Ends, Reset, Socket};
use super::stats::Open;
use super::{Process, grpc, received, websocket};
use crate::programs::pattern;

/// Responses up to this size are sent whole.
const WHOLE: u64 = 64 * 1024;
/// Size of a body that a reset interrupts, when the request names none.
const INTERRUPTED: u64 = 1024 * 1024;

/// A body known at once, or a stream.
pub(super) type ResponseBody = Either<Full<Bytes>, tonic::body::Body>;

/// One connection, as its requests see it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) process: Arc<Process>,
    pub(super) ends: Ends,
    pub(super) reset: Reset,
}

/// Serves HTTP/1.1 until the connection ends; a client may end its own stream before it has read the answer.
pub(super) async fn serve_http1(
    process: Arc<Process>,
    socket: Socket,
    _open: Open,
) -> io::Result<()> {
    let connection = Connection {
        process,
        ends: socket.ends()?,
        reset: socket.reset(),
    };
    let reset = connection.reset.clone();
    let service = service_fn(move |request| answer(connection.clone(), request));
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    // Serving is polled first, so that what a response sent before its reset is on the wire.
    tokio::select! {
        biased;
        result = serving => result.map_err(io::Error::other),
        () = reset.wanted() => Ok(()),
    }
}

/// Serves HTTP/2 until the connection ends.
pub(super) async fn serve_http2(
    process: Arc<Process>,
    socket: Socket,
    _open: Open,
) -> io::Result<()> {
    let connection = Connection {
        process,
        ends: socket.ends()?,
        reset: socket.reset(),
    };
    let service = service_fn(move |request| answer(connection.clone(), request));
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(1024)
        .serve_connection(TokioIo::new(socket), service)
        .await
        .map_err(io::Error::other)
}

/// A service error resets the stream on HTTP/2; on HTTP/1.1 the connection's [`Reset`] has been triggered before.
async fn answer(
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Aborted> {
    let mut behaviour = match Behaviour::parse(request.uri(), request.headers()) {
        Ok(behaviour) => behaviour,
        Err(error) => {
            return Ok(whole(
                StatusCode::BAD_REQUEST,
                "text/plain",
                format!("{error}\n"),
            ));
        }
    };
    if let Some(page) = page(&connection.process, request.uri()) {
        return Ok(shown(&page));
    }
    behaviour.status = behaviour.status.or(connection.process.status);
    connection.process.requests.count(request.uri().path());
    let failure = failure(&connection.process, &behaviour, request.uri().path());
    if behaviour.fail.is_some() && failure.is_none() {
        (behaviour.delay, behaviour.reset) = (None, None);
    }
    if let Some(delay) = behaviour.delay {
        tokio::time::sleep(delay).await;
    }
    if behaviour.reset == Some(ResetAt::Request) {
        return abort(&connection, request.version()).await;
    }
    if grpc::is_call(&request) {
        return Ok(grpc::answer(&connection, &behaviour, failure, request)
            .await
            .map(Either::Right));
    }
    if websocket::is_handshake(&request) && failure.is_none() {
        return Ok(websocket::upgrade(&connection, request));
    }
    if request.uri().path() == "/stats" {
        return Ok(shown(&json!(connection.process.stats.snapshot())));
    }
    echo(&connection, behaviour, failure, request).await
}

/// What is shown to tests whatever else requests are answered.
fn page(process: &Process, uri: &Uri) -> Option<Value> {
    match uri.path() {
        "/requests" => Some(json!(process.requests.snapshot())),
        "/health" => {
            process.health.change(uri.query().unwrap_or_default());
            Some(json!(process.health.snapshot()))
        }
        _ => None,
    }
}

fn shown(page: &Value) -> Response<ResponseBody> {
    whole(StatusCode::OK, "application/json", format!("{page:#}\n"))
}

async fn abort<T>(connection: &Connection, version: Version) -> Result<T, Aborted> {
    if version != Version::HTTP_2 {
        connection.reset.trigger();
        std::future::pending::<Infallible>().await;
    }
    Err(Aborted)
}

/// The status to fail with, if this request is to fail.
fn failure(process: &Process, behaviour: &Behaviour, path: &str) -> Option<StatusCode> {
    match behaviour.fail {
        Some(times) => {
            let key = behaviour.key.as_deref().unwrap_or(path);
            let status = behaviour.status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            process.failures.fails(key, times).then_some(status)
        }
        None => behaviour.status,
    }
}

async fn echo(
    connection: &Connection,
    behaviour: Behaviour,
    failure: Option<StatusCode>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Aborted> {
    let status = failure.unwrap_or(StatusCode::OK);
    let (parts, incoming) = request.into_parts();
    let empty = hyper::body::Body::is_end_stream(&incoming);
    let mut response = match (behaviour.size, behaviour.reset) {
        (Some(size), None) if size <= WHOLE && behaviour.write_rate.is_none() && empty => {
            whole(status, "application/octet-stream", pattern::piece(0, size))
        }
        (None, None) => {
            let Ok(summary) = body::summarize(incoming, behaviour.read_rate).await else {
                return Err(Aborted);
            };
            let about = received::about_request(
                &connection.process,
                connection.ends,
                &parts,
                Some(summary),
            );
            whole(status, "application/json", format!("{about:#}\n"))
        }
        (size, reset) => {
            if !empty
                && body::summarize(incoming, behaviour.read_rate)
                    .await
                    .is_err()
            {
                return Err(Aborted);
            }
            let size = size.unwrap_or(INTERRUPTED);
            let cut_off = reset.map(|at| CutOff {
                after: if at == ResetAt::Headers { 0 } else { size / 2 },
                connection: (parts.version != Version::HTTP_2).then(|| connection.reset.clone()),
            });
            stream(
                status,
                PatternBody::new(size, behaviour.write_rate, cut_off),
            )
        }
    };
    if behaviour.close && parts.version != Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

pub(super) fn whole(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    respond(status, kind, Either::Left(Full::new(body.into())))
}

fn stream(status: StatusCode, body: PatternBody) -> Response<ResponseBody> {
    respond(
        status,
        "application/octet-stream",
        Either::Right(tonic::body::Body::new(body)),
    )
}

fn respond(status: StatusCode, kind: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
