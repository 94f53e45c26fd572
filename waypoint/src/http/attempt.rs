//! Attempts of one request: an endpoint, a connection, an exchange; and whether there is another.

use std::sync::Arc;
use std::time::Instant;

use ambit_core::model::AppProtocol;
use ambit_core::plan::BoundTo;
use ambit_http::model::traffic::RetryBudget;
use ambit_http::path::CanonicalPath;
use ambit_http::refusal::Refusal;
use ambit_http::retry::{Attempts, Budget, DEFAULT_REPLAY, Outcome, Verdict};
use ambit_http::route::Forward;
use ambit_http::timeout;
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::{sleep_until, timeout_at};

use super::body::{Body, Repeatable};
use super::connections::Key;
use super::h1::{self, Failure};
use super::h2;
use super::message::Response;
use super::pipeline::picker;
use super::record::Record;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::upstream::Endpoint;

/// A request as it is sent on.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) path: CanonicalPath,
    pub(super) host: Box<str>,
    pub(super) headers: HeaderMap,
    pub(super) upgrade: Option<HeaderValue>,
    pub(super) grpc: bool,
}

/// Sends a request on until an answer stands.
pub(super) async fn forward(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    outgoing: &Outgoing,
    body: Body,
    forward: &Forward,
    limits: timeout::Limits,
    record: &mut Record,
) -> Result<Response, Refusal> {
    let mut attempts = Attempts::new(forward.retry.as_ref(), limits, Instant::now());
    count(session, snapshot, forward);
    let body = Repeatable::new(body, DEFAULT_REPLAY);
    loop {
        let endpoint = endpoint(session, snapshot, forward, attempts.tried())?;
        let attempt = attempts.begin(&endpoint.workload.uid, Instant::now());
        record.attempt(&endpoint, attempt.number);
        let trying = exchange(session, &endpoint, outgoing, &body);
        let result = match attempt.deadline {
            Some(deadline) => timeout_at(deadline.into(), trying)
                .await
                .unwrap_or_else(|_| {
                    Err(Failure::new(Outcome::TimedOut, "the attempt's time is up"))
                }),
            None => trying.await,
        };
        let outcome = match &result {
            Ok(response) => Outcome::response(response.status.as_u16(), &response.headers),
            Err(failure) if failure.client => return Err(client_gone(failure)),
            Err(failure) => failure.outcome,
        };
        let verdict = {
            let now = Instant::now();
            let mut budgets = session.shared.http.budgets.lock();
            let budget = budgets
                .entry(forward.service.clone())
                .or_insert_with(|| Budget::new(RetryBudget::default(), now));
            let whole = body.is_whole() && outgoing.upgrade.is_none();
            attempts.on_result(&outcome, whole, now, budget, &mut picker())
        };
        match (verdict, result) {
            (Verdict::Retry { at }, result) => {
                tracing::debug!(?outcome, endpoint = %endpoint.workload.uid, "trying again");
                // A response that is not used gives its connection up.
                drop(result);
                sleep_until(at.into()).await;
            }
            (Verdict::Finish(flag), Ok(mut response)) => {
                record.flag(flag);
                if let Some(deadline) = attempts.deadline() {
                    response.body = Body::Until(Box::new(response.body), deadline.into());
                }
                return Ok(response);
            }
            (Verdict::Finish(flag), Err(failure)) => {
                let refusal = outcome.refusal(flag, &failure.reason);
                return Err(refusal.unwrap_or_else(|| Refusal::new(502, flag, failure.reason)));
            }
        }
    }
}

fn client_gone(failure: &Failure) -> Refusal {
    let flag = ambit_http::refusal::Flag::DownstreamClosed;
    Refusal::new(400, flag, format!("the request's {}", failure.reason))
}

/// Counts a request for the share of them that may be tried again.
fn count(session: &Session, snapshot: &Snapshot, forward: &Forward) {
    let now = Instant::now();
    let limit = snapshot.config.traffic(&forward.service, forward.port);
    let limit = limit.map(|it| it.retry_budget.clone()).unwrap_or_default();
    let mut budgets = session.shared.http.budgets.lock();
    let budget = budgets
        .entry(forward.service.clone())
        .or_insert_with(|| Budget::new(limit.clone(), now));
    budget.reconfigure(limit, now);
    budget.on_request(now);
}

fn endpoint(
    session: &Session,
    snapshot: &Snapshot,
    forward: &Forward,
    tried: &[Arc<str>],
) -> Result<Endpoint, Refusal> {
    let upstreams = &session.shared.upstreams;
    match &session.target.bound {
        BoundTo::Workload(workload) => {
            Ok(upstreams.of_workload(workload, session.target.address, session.target.protocol))
        }
        BoundTo::Service(_) => upstreams.pick(snapshot, &forward.service, forward.port, tried),
    }
}

/// One exchange with one endpoint. A kept connection that turns out to be gone is replaced at once.
pub(super) async fn exchange(
    session: &Arc<Session>,
    endpoint: &Endpoint,
    outgoing: &Outgoing,
    body: &Repeatable,
) -> Result<Response, Failure> {
    let connections = &session.shared.http.connections;
    let key = Key {
        address: endpoint.address,
        caller: session.caller.identity.clone(),
        worker: std::thread::current().id(),
    };
    let http2 = matches!(endpoint.protocol, AppProtocol::Grpc | AppProtocol::Http2)
        || outgoing.grpc && outgoing.upgrade.is_none();
    if http2 {
        if let Some(client) = connections.client(&key) {
            match ask_h2(client, outgoing, body.body()).await {
                Err(failure) if failure.outcome == Outcome::Unsent && body.is_whole() => {
                    connections.forget_client(&key);
                }
                result => {
                    if result.is_err() {
                        connections.forget_client(&key);
                    }
                    return result;
                }
            }
        }
        let io = connect(session, endpoint).await?;
        let client = h2::connect(io).await?;
        connections.set_client(key, client.clone());
        return ask_h2(client, outgoing, body.body()).await;
    }
    let head = h1::Head {
        method: &outgoing.method,
        target: outgoing.path.as_str(),
        host: &outgoing.host,
        headers: &outgoing.headers,
        upgrade: outgoing.upgrade.as_ref(),
    };
    let keep = connections.keep(key.clone());
    while let Some(connection) = connections.take(&key) {
        match h1::exchange(connection, &head, body.body(), keep.clone()).await {
            Err(failure) if failure.outcome == Outcome::Unsent && body.is_whole() => {}
            result => return result,
        }
    }
    let connection = h1::Connection::new(connect(session, endpoint).await?);
    h1::exchange(connection, &head, body.body(), keep).await
}

async fn ask_h2(client: h2::Client, outgoing: &Outgoing, body: Body) -> Result<Response, Failure> {
    let headers = outgoing.headers.clone();
    let (target, host) = (outgoing.path.as_str(), &*outgoing.host);
    client
        .exchange(&outgoing.method, target, host, headers, body)
        .await
}

async fn connect(session: &Session, endpoint: &Endpoint) -> Result<crate::io::Io, Failure> {
    let connecting = session.shared.upstreams.connect(endpoint, &session.caller);
    let connected = connecting.await;
    connected.map_err(|error| Failure::new(Outcome::NotConnected, error))
}
