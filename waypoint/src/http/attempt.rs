//! Attempts of one request: an endpoint, a connection, an exchange; and whether there is another.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ambit_core::balance;
use ambit_core::model::AppProtocol;
use ambit_core::plan::BoundTo;
use ambit_http::balance::{Wish, address_hash};
use ambit_http::breaker::Kind;
use ambit_http::cluster::Cluster;
use ambit_http::model::traffic::HashKey;
use ambit_http::path::CanonicalPath;
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::retry::{Attempts, DEFAULT_REPLAY, Outcome, Verdict};
use ambit_http::route::Forward;
use ambit_http::timeout;
use bytestring::ByteString;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::{sleep_until, timeout_at};

use super::body::{Body, Repeatable};
use super::connections::Sought;
use super::desk::Desk;
use super::h1::{self, Failure, Head};
use super::h2;
use super::message::Response;
use super::pipeline::picker;
use super::record::Record;
use crate::session::{Caller, Session};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::Chosen;

/// A request as it is sent on.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) path: CanonicalPath,
    pub(super) host: ByteString,
    pub(super) headers: HeaderMap,
    pub(super) upgrade: Option<HeaderValue>,
    pub(super) grpc: bool,
    /// Who asks, after the proxies that are believed; `None` when nobody but this waypoint does.
    pub(super) client: Option<IpAddr>,
    /// Where interim responses go.
    pub(super) desk: Option<Arc<Desk>>,
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
    let mut attempts = Attempts::new(forward.retry.as_ref(), limits, record.started());
    let traffic = snapshot.config.traffic(&forward.service, forward.port);
    let traffic = traffic.map(|it| &**it);
    let mut now = Instant::now();
    let clusters = &session.shared.upstreams.clusters;
    let cluster = clusters.of(&forward.service, forward.port, now);
    cluster.budget(traffic, now).on_request(now);
    let hash = hash(snapshot, outgoing, forward);
    let body = Repeatable::new(body, DEFAULT_REPLAY);
    record.body(body.clone());
    loop {
        // The attempt before this one counts no more.
        record.counts_no_more();
        let wish = Wish {
            hash,
            tried: attempts.tried(),
        };
        let mut chosen = choose(session, snapshot, (forward, &cluster), &wish, now)?;
        let attempt = attempts.begin(&chosen.endpoint.workload.uid, now);
        if !speaks_http2(&chosen, outgoing) {
            connection(&mut chosen, attempt.deadline).await?;
        }
        record.attempt(&mut chosen, attempt.number);
        let caller = Some(&session.caller);
        let trying = exchange(&session.shared, caller, &chosen, outgoing, &body);
        let result = match attempt.deadline {
            Some(deadline) => timeout_at(deadline.into(), trying)
                .await
                .unwrap_or_else(|_| Err(Failure::new(Outcome::TimedOut, ""))),
            None => trying.await,
        };
        now = Instant::now();
        record.answered(now);
        if body.is_broken() {
            return Err(Refusal::new(
                400,
                Flag::DownstreamClosed,
                "the body of the request broke off",
            ));
        }
        let outcome = match &result {
            Ok(response) => Outcome::response(response.status.as_u16(), &response.headers),
            Err(failure) => failure.outcome,
        };
        if let Some(counted) = record.counted()
            && let Some(rest) = counted.report(&outcome, now)
        {
            let endpoint = &chosen.endpoint.workload.uid;
            tracing::info!(%endpoint, ?rest, "an endpoint that fails rests");
        }
        let verdict = match outcome.status() {
            // The common case asks nobody.
            Some(status) if status < 400 => Verdict::Finish(Flag::None),
            _ => {
                // What becomes another protocol is begun once.
                let once = outgoing.upgrade.is_some() && !outcome.is_unseen();
                let whole = body.is_whole() && !once;
                attempts.on_result(
                    &outcome,
                    whole,
                    now,
                    &mut cluster.budget(traffic, now),
                    &mut picker(),
                )
            }
        };
        match (verdict, result) {
            (Verdict::Retry { at }, result) => {
                tracing::debug!(?outcome, endpoint = %chosen.endpoint.workload.uid, "trying again");
                // A response that is not used gives its connection up.
                drop(result);
                sleep_until(at.into()).await;
                now = Instant::now();
            }
            (Verdict::Finish(flag), Ok(mut response)) => {
                if let Some(refusal) = outcome.refusal(flag, "") {
                    return Err(refusal);
                }
                record.flag(flag);
                body.close();
                if let Some(deadline) = attempts.deadline() {
                    response.body = response.body.until(deadline.into(), outgoing.grpc);
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

/// Counts the connection that a request of HTTP/1.1 has for itself.
async fn connection(chosen: &mut Chosen, deadline: Option<Instant>) -> Result<(), Refusal> {
    let Some(counted) = &mut chosen.counted else {
        return Ok(());
    };
    match deadline {
        Some(deadline) => timeout_at(deadline.into(), counted.connect())
            .await
            .unwrap_or_else(|_| {
                let reason = "the service has as many connections as it may have, and none has ended in time";
                Err(Refusal::new(504, Flag::UpstreamTimeout, reason))
            }),
        None => counted.connect().await,
    }
}

fn choose(
    session: &Session,
    snapshot: &Snapshot,
    (forward, cluster): (&Forward, &Arc<Cluster>),
    wish: &Wish<'_>,
    now: Instant,
) -> Result<Chosen, Refusal> {
    let upstreams = &session.shared.upstreams;
    match &session.target.bound {
        BoundTo::Workload(workload) => {
            Ok(upstreams.of_workload(workload, session.target.address, session.target.protocol))
        }
        BoundTo::Service(_) => {
            let service = &forward.service;
            upstreams.pick_of(cluster, snapshot, service, Kind::Request, wish, now)
        }
    }
}

/// What keeps requests together, where the service's traffic policy says so.
fn hash(snapshot: &Snapshot, outgoing: &Outgoing, forward: &Forward) -> Option<u64> {
    let traffic = snapshot.config.traffic(&forward.service, forward.port)?;
    let text = |text: &str| Some(balance::hash(text.as_bytes()));
    match traffic.balance.key()? {
        HashKey::Header(name) => {
            let value = outgoing.headers.get(name)?;
            Some(balance::hash(value.as_bytes()))
        }
        HashKey::Cookie(name) => {
            let crumbs = outgoing.headers.get(header::COOKIE)?.to_str().ok()?;
            let mut pairs = crumbs.split(';').filter_map(|it| it.trim().split_once('='));
            text(pairs.find(|(key, _)| **key == **name)?.1)
        }
        HashKey::Query(name) => {
            let mut pairs = outgoing.path.query()?.split('&');
            let value = pairs.find_map(|it| it.strip_prefix(&**name)?.strip_prefix('='))?;
            text(value)
        }
        HashKey::SourceIp => address_hash(outgoing.client?, &traffic.balance),
    }
}

/// One exchange with one endpoint. A kept connection that turns out to be gone is replaced at once: that
/// counts as no attempt, as nobody has seen the request.
pub(super) async fn exchange(
    shared: &Arc<Shared>,
    caller: Option<&Caller>,
    chosen: &Chosen,
    outgoing: &Outgoing,
    body: &Repeatable,
) -> Result<Response, Failure> {
    let connections = &shared.http.connections;
    let sought = sought(caller, chosen);
    let head = Head {
        method: &outgoing.method,
        target: outgoing.path.as_str(),
        host: &outgoing.host,
        headers: &outgoing.headers,
        upgrade: outgoing.upgrade.as_ref(),
        desk: outgoing.desk.as_deref(),
    };
    if speaks_http2(chosen, outgoing) {
        loop {
            let open = || {
                let connecting = connecting(shared.clone(), caller.cloned(), chosen.clone_way());
                async move { h2::connect(connecting.await?).await }.boxed()
            };
            let client = connections.client(&sought, open).await;
            let (client, kept) =
                client.map_err(|failure| Failure::new(failure.outcome, &failure.reason))?;
            match client.exchange(&head, body.body()).await {
                Err(failure) if kept && failure.outcome == Outcome::Unsent && body.is_whole() => {
                    // Somebody has seen that one and would not take it; the connection is as good as it was.
                    if failure.refused {
                        return Err(failure);
                    }
                    connections.forget(&sought, &failure);
                }
                result => return result,
            }
        }
    }
    // Many may have ended at once; there is no sense in trying all of them.
    for _ in 0..KEPT_TRIES {
        let place = connections.place(&sought);
        let Some(connection) = place.take(chosen.at) else {
            break;
        };
        match h1::exchange(connection, &head, body.body(), place).await {
            Err(failure) if failure.outcome == Outcome::Unsent && body.is_whole() => {}
            result => return result,
        }
    }
    let io = shared.upstreams.connect(chosen, caller).await;
    let io = io.map_err(|error| Failure::new(Outcome::NotConnected, error))?;
    let place = connections.place(&sought);
    h1::exchange(h1::Connection::new(io), &head, body.body(), place).await
}

/// Kept connections that may turn out to be gone before a new one is opened.
const KEPT_TRIES: usize = 3;

async fn connecting(
    shared: Arc<Shared>,
    caller: Option<Caller>,
    chosen: Chosen,
) -> Result<crate::io::Io, Failure> {
    // HTTP/2 does not say why a connection ended.
    let connected = shared.upstreams.establish(&chosen, caller.as_ref()).await;
    connected.map_err(|error| Failure::new(Outcome::NotConnected, error))
}

fn sought<'a>(caller: Option<&'a Caller>, chosen: &'a Chosen) -> Sought<'a> {
    Sought {
        workload: &chosen.endpoint.workload.uid,
        address: chosen.endpoint.address,
        caller: caller.map(|caller| (&caller.identity, caller.address.ip())),
        tls: chosen.tls.as_ref().map(|it| it.number),
    }
}

/// HTTP/2 where the backend's port says so, and for gRPC, which is spoken in nothing else. What becomes
/// another protocol goes over HTTP/1.1.
fn speaks_http2(chosen: &Chosen, outgoing: &Outgoing) -> bool {
    let declared = matches!(
        chosen.endpoint.protocol,
        AppProtocol::Grpc | AppProtocol::Http2
    );
    (declared || outgoing.grpc) && outgoing.upgrade.is_none()
}
