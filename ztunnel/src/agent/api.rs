//! What the CNI plugin asks the agent: JSON over HTTP on a Unix socket that only root reaches.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::cni::agent::{Answer, Command, Refusal, Request};
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{counter, describe_counter};
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};

use super::enrolment::Enrolment;
use super::exchange::{exchange, words};
use super::source::Source;

/// Longest question; real ones are some hundred octets.
const LONGEST: usize = 64 * 1024;
/// Time for a question to arrive.
const HEADERS: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks the agent behind `socket`.
pub(super) async fn ask(
    socket: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Answer, Refusal> {
    let asked = tokio::time::timeout(patience, post(socket, request)).await;
    let answered = asked.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
    let unreachable = |reason| {
        let reason = format!("node agent at {}: {reason}", socket.display());
        Refusal::later(&request.pod, reason)
    };
    let (status, body) = answered.map_err(unreachable)?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| unreachable(error.to_string()));
    }
    Err(serde_json::from_slice(&body)
        .unwrap_or_else(|_| unreachable(format!("it answered {status}"))))
}

async fn post(socket: &Path, request: &Request) -> Result<(StatusCode, Bytes), String> {
    let stream = UnixStream::connect(socket).await.map_err(words)?;
    let body = serde_json::to_vec(request).map_err(words)?;
    let request = http::Request::post("/v1/cni")
        .header(header::HOST, "agent")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(words)?;
    exchange(stream, request, LONGEST).await
}

/// Listens at `path`, in the place of a socket that an earlier agent left.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let in_path = |error| {
        io::Error::other(format!(
            "listen for the CNI plugin at {}: {error}",
            path.display()
        ))
    };
    if std::fs::symlink_metadata(path).is_ok_and(|old| old.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(in_path)?;
    }
    let listener = UnixListener::bind(path).map_err(in_path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(in_path)?;
    Ok(listener)
}

/// Says whether the socket at `path` is still the one that is there now. A newer agent, which puts its own in that place,
/// sees to the pods from then on. (While a socket is open its inode is not used again.)
pub(super) fn owner(path: &Path) -> io::Result<impl Fn() -> bool + Clone + Send + Sync + use<>> {
    let identity = |path: &Path| -> io::Result<(u64, u64)> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let (path, own) = (path.to_owned(), identity(path)?);
    Ok(move || identity(&path).map_or(true, |there| there == own))
}

/// Answers plugins, for ever.
pub(super) async fn serve<S: Source>(listener: UnixListener, enrolment: Arc<Enrolment<S>>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a CNI plugin");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let enrolment = enrolment.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let enrolment = enrolment.clone();
                async move { Ok::<_, Infallible>(respond(request, enrolment).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a CNI plugin's connection");
            }
        });
    }
}

async fn respond<S: Source>(
    request: http::Request<Incoming>,
    enrolment: Arc<Enrolment<S>>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::POST || request.uri().path() != "/v1/cni" {
        return json(StatusCode::NOT_FOUND, &"POST /v1/cni is all there is");
    }
    let body = Limited::new(request.into_body(), LONGEST).collect().await;
    let parsed = match body {
        Ok(body) => Request::parse(&body.to_bytes()),
        Err(error) => Err(Refusal::of_a_question(error)),
    };
    let request = match parsed {
        Ok(request) => request,
        Err(refusal) => return json(StatusCode::BAD_REQUEST, &refusal),
    };
    // A plugin that is killed does not leave its pod half done.
    let outcome = tokio::spawn(async move { perform(&request, &enrolment).await }).await;
    match outcome.expect("enrolment does not panic and is not cancelled") {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => json(StatusCode::SERVICE_UNAVAILABLE, &refusal),
    }
}

const REQUESTS: &str = "ambit_agent_cni_requests_total";

/// Says what the metric is, and that nothing was asked.
pub(super) fn describe() {
    describe_counter!(
        REQUESTS,
        "Requests of the CNI plugin: the pod was enrolled, was left as it is, or was refused."
    );
    let possible = [
        ("add", "enrolled"),
        ("add", "left"),
        ("add", "refused"),
        ("del", "left"),
        ("del", "refused"),
        ("check", "enrolled"),
        ("check", "left"),
        ("check", "refused"),
    ];
    for (command, result) in possible {
        counter!(REQUESTS, "command" => command, "result" => result).absolute(0);
    }
}

async fn perform<S: Source>(
    request: &Request,
    enrolment: &Enrolment<S>,
) -> Result<Answer, Refusal> {
    let (outcome, command) = match request.command {
        Command::Add => (enrolment.add(request).await, "add"),
        Command::Del => (enrolment.del(request).await, "del"),
        Command::Check => (enrolment.check(request).await, "check"),
    };
    let result = match &outcome {
        Ok(answer) if answer.enrolled => "enrolled",
        Ok(_) => "left",
        Err(refusal) => {
            tracing::warn!(pod = %request.pod, command, reason = refusal.details, "pod refused");
            "refused"
        }
    };
    counter!(REQUESTS, "command" => command, "result" => result).increment(1);
    outcome
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("answers are plain JSON");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
