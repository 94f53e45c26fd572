//! What is not HTTP, relayed as it is: judged once as a connection, routed by TLSRoute and TCPRoute.

mod record;

use std::sync::Arc;
use std::time::Instant;

use ambit_core::addr::NamespacedName;
use ambit_core::model::Workload;
use ambit_core::plan::BoundTo;
use ambit_http::authz::{self, Decision, Facts, Verdict};
use ambit_http::balance::{Wish, address_hash};
use ambit_http::breaker::Kind;
use ambit_http::config::Scope;
use ambit_http::model::RouteRule;
use ambit_http::model::route::BackendRef;
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::retry::Outcome;
use bytes::Bytes;
use tokio::sync::watch;

use record::Record;

use crate::io::{Io, Prefixed};
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::upstream::Chosen;

/// Endpoints that are tried before a connection is given up.
const TRIES: usize = 3;

/// Where a connection goes.
enum Destination {
    /// One of its endpoints.
    Service(NamespacedName, u16),
    /// The pod that was addressed itself.
    Workload(Arc<Workload>),
}

/// Carries one connection. A client that is refused sees its connection reset.
pub(crate) async fn serve(session: &Session, io: Io, first: Bytes, sni: Option<&str>) {
    let mut record = Record::new(session);
    // From now on: what changes while it is judged judges it again.
    let mut policies = session.shared.policies.clone();
    policies.mark_unchanged();
    let opened = match decide(session, sni, &mut record) {
        Ok(destination) => open(session, &destination, &mut record).await,
        Err(refusal) => Err(refusal),
    };
    let mut upstream = match opened {
        Ok(opened) => opened,
        Err(refusal) => return record.refuse(&refusal),
    };
    let mut downstream = record.opened(Prefixed::new(first, io));
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut downstream, &mut upstream.io) => record.ended(&carried.map(drop)),
        refusal = denied(session, sni, policies) => record.refuse(&refusal),
    }
}

/// A connection that an endpoint has taken.
struct Upstream {
    io: Io,
    /// It counts as one of the endpoint's as long as this is held.
    _chosen: Chosen,
}

/// Connects to an endpoint that agrees to it; to another one when the first does not.
async fn open(
    session: &Session,
    destination: &Destination,
    record: &mut Record<'_>,
) -> Result<Upstream, Refusal> {
    let upstreams = &session.shared.upstreams;
    let mut tried: Vec<Arc<str>> = Vec::new();
    loop {
        let chosen = match destination {
            Destination::Workload(workload) => {
                let protocol = session.target.protocol;
                upstreams.of_workload(workload, session.target.address, protocol)
            }
            Destination::Service(service, port) => {
                let snapshot = session.shared.snapshot();
                let traffic = snapshot.config.traffic(service, *port);
                let wish = Wish {
                    tried: &tried,
                    hash: traffic
                        .and_then(|it| address_hash(session.caller.address.ip(), &it.balance)),
                };
                upstreams.pick(&snapshot, service, *port, Kind::Connection, &wish)?
            }
        };
        record.attempt(&chosen.endpoint);
        let connected = upstreams.establish(&chosen, Some(&session.caller)).await;
        if let Some(counted) = &chosen.counted {
            let outcome = match &connected {
                // As good as an answer: there is nothing else to judge it by.
                Ok(_) => Outcome::Response {
                    status: 200,
                    grpc: None,
                },
                Err(_) => Outcome::NotConnected,
            };
            counted.report(&outcome, Instant::now());
        }
        let reason = match connected {
            Ok(io) => {
                return Ok(Upstream {
                    io,
                    _chosen: chosen,
                });
            }
            Err(reason) => reason,
        };
        let uid = chosen.endpoint.workload.uid.clone();
        tracing::debug!(endpoint = %uid, reason, "an endpoint takes no connection");
        if tried.contains(&uid) || tried.len() + 1 == TRIES {
            let reason = format!(
                "endpoint {} takes no connection: {reason}",
                chosen.endpoint.address
            );
            return Err(Refusal::new(503, Flag::UpstreamConnectionFailure, reason));
        }
        tried.push(uid);
    }
}

fn decide(
    session: &Session,
    sni: Option<&str>,
    record: &mut Record<'_>,
) -> Result<Destination, Refusal> {
    let snapshot = session.shared.snapshot();
    let verdict = judge(session, &snapshot, sni);
    record.verdict(&verdict);
    enforce(&verdict)?;
    let port = session.target.address.port();
    match &session.target.bound {
        BoundTo::Workload(workload) => Ok(Destination::Workload(workload.clone())),
        BoundTo::Service(service) => {
            let rule = snapshot.config.opaque_route(&service.key, port, sni)?;
            record.rule = rule.map(|rule| rule.key.clone());
            let (service, port) = match rule {
                Some(rule) => backend(rule)?,
                None => (service.key.clone(), port),
            };
            record.service = snapshot.index.service(&service).cloned();
            Ok(Destination::Service(service, port))
        }
    }
}

/// Waits until policies that changed deny a connection that runs.
async fn denied(
    session: &Session,
    sni: Option<&str>,
    mut policies: watch::Receiver<()>,
) -> Refusal {
    while policies.changed().await.is_ok() {
        if let Err(refusal) = enforce(&judge(session, &session.shared.snapshot(), sni)) {
            return refusal;
        }
    }
    std::future::pending().await
}

fn judge(session: &Session, snapshot: &Snapshot, sni: Option<&str>) -> Verdict {
    let ip = session.caller.address.ip().to_canonical();
    let facts = Facts {
        source: Some(&session.caller.identity),
        source_ip: ip,
        remote_ip: ip,
        destination: session.target.address,
        sni,
        request: None,
    };
    let scope = Scope {
        waypoint: &session.shared.gateway,
        services: &session.target.services,
    };
    let policies = snapshot.config.policies(scope);
    authz::authorize(policies.map(|it| &**it), &facts)
}

fn enforce(verdict: &Verdict) -> Result<(), Refusal> {
    match &verdict.decision {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(verdict.reason.refusal()),
        Decision::Ask(_) => Err(Refusal::new(
            403,
            Flag::ExternalAuthDenied,
            "a connection cannot be put to an external authorizer",
        )),
    }
}

/// The service port that a rule sends a connection to.
fn backend(rule: &RouteRule) -> Result<(NamespacedName, u16), Refusal> {
    let mut picker = |bound: u32| rand::random_range(0..bound);
    match ambit_http::route::draw(rule, &mut picker)? {
        BackendRef::Service { service, port } => Ok((service.clone(), *port)),
        BackendRef::Invalid { reason } => Err(Refusal::new(
            500,
            Flag::NoClusterFound,
            format!("rule {} cannot be followed: {reason}", rule.key),
        )),
    }
}
