//! Asking external authorizers, over gRPC or HTTP. What is asked and what an answer means is decided in
//! `ambit_http::extauth`.

mod grpc;

use std::sync::Arc;

use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::extauth::{self, Answer, Check, Outcome, Reply};
use ambit_http::model::policy::{Authorizer, AuthorizerKind};
use ambit_http::model::route::BackendRef;
use ambit_http::path;
use ambit_http::refusal::{Flag, Refusal};
use bytes::Bytes;
use http::HeaderMap;
use tokio::time::timeout;

use super::attempt::{self, Outgoing};
use super::body::{Body, Repeatable};
use super::message::{Request, Response};
use crate::session::Session;
use crate::snapshot::Snapshot;

/// Bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// Asks about a request. As much of its body as the authorizer wants is read, and still there afterwards.
///
/// # Errors
/// 413 when the body is longer than the authorizer takes, 400 when it breaks off.
pub(super) async fn ask(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    request: &mut Request,
) -> Result<Outcome, Refusal> {
    let body = read(authorizer, request).await?;
    let check = Check {
        source: Some(&session.caller.identity),
        source_address: session.caller.address,
        destination: session.target.address,
        method: &request.method,
        host: request.host.authority(),
        path: request.path.as_str(),
        headers: &request.headers,
        body,
    };
    let asking = answer(session, snapshot, authorizer, &check);
    let answer = timeout(authorizer.timeout, asking).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("not within {:?}", authorizer.timeout)));
    let answer = answer.unwrap_or_else(Answer::Failed);
    Ok(extauth::decide(authorizer, answer))
}

async fn read(authorizer: &Authorizer, request: &mut Request) -> Result<Bytes, Refusal> {
    let limit = authorizer.body_limit as usize;
    if limit == 0 || request.body.is_empty() {
        return Ok(Bytes::new());
    }
    let body = std::mem::replace(&mut request.body, Body::Empty);
    let (body, whole) = body
        .read_ahead(limit)
        .await
        .map_err(|error| Refusal::new(400, Flag::DownstreamClosed, error.to_string()))?;
    request.body = body;
    match whole {
        Some(whole) => Ok(whole),
        None => Err(extauth::body_fits(authorizer, limit + 1)
            .err()
            .unwrap_or_else(|| {
                Refusal::new(413, Flag::ExternalAuthDenied, "the body is too long")
            })),
    }
}

async fn answer(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    check: &Check<'_>,
) -> Result<Answer, String> {
    match &authorizer.kind {
        AuthorizerKind::Grpc => {
            let (outgoing, body) = grpc::question(authorizer, check);
            let response = send(session, snapshot, authorizer, &outgoing, body).await?;
            grpc::answer(response, ANSWER).await
        }
        AuthorizerKind::Http { path_prefix } => {
            let target = check.path_below(path_prefix);
            let headers = check.headers_for(authorizer);
            let outgoing = Outgoing {
                method: check.method.clone(),
                path: path::canonical(target).map_err(|error| error.to_string())?,
                host: check.host.into(),
                headers: headers.map(|(n, v)| (n.clone(), v.clone())).collect(),
                upgrade: None,
                grpc: false,
                client: None,
                desk: None,
            };
            let body = match check.body.is_empty() {
                true => Body::Empty,
                false => Body::Full(check.body.clone()),
            };
            let response = send(session, snapshot, authorizer, &outgoing, body).await?;
            let (status, headers) = (response.status.as_u16(), response.headers);
            let body = whole(response.body).await?;
            Ok(Answer::Http(Reply {
                status,
                headers,
                body,
            }))
        }
    }
}

/// Sends a question, as the waypoint itself.
async fn send(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    authorizer: &Authorizer,
    outgoing: &Outgoing,
    body: Body,
) -> Result<Response, String> {
    let (service, port) = match &authorizer.backend {
        BackendRef::Service { service, port } => (service, *port),
        BackendRef::Invalid { reason } => return Err(reason.to_string()),
    };
    let shared = &session.shared;
    let chosen = shared
        .upstreams
        .pick(snapshot, service, port, Kind::Request, &Wish::default())
        .map_err(|refusal| refusal.reason)?;
    let body = Repeatable::new(body, ANSWER);
    attempt::exchange(shared, None, &chosen, outgoing, &body)
        .await
        .map_err(|failure| failure.reason)
}

/// All of an answer's body.
async fn whole(body: Body) -> Result<Bytes, String> {
    let read = body.read_ahead(ANSWER).await;
    let (_, whole) = read.map_err(|error| error.to_string())?;
    whole.ok_or_else(|| format!("its answer is longer than {ANSWER} bytes"))
}

/// Headers as the wire of gRPC names them.
fn values(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> + '_ {
    headers.keys().map(|name| {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
        (name.to_string(), values.collect::<Vec<_>>().join(","))
    })
}
