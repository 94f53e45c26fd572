//! What is not HTTP, relayed as it is: judged once as a connection, routed by TLSRoute and TCPRoute.

use std::sync::Arc;
use std::time::Instant;

use ambit_core::addr::NamespacedName;
use ambit_core::model::Workload;
use ambit_core::plan::BoundTo;
use ambit_http::authz::{self, Decision, Facts};
use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::config::Scope;
use ambit_http::model::route::BackendRef;
use ambit_http::refusal::{Flag, Refusal};
use ambit_http::retry::Outcome;
use bytes::Bytes;
use tokio::sync::watch;

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
    let caller = &session.caller;
    let target = session.target.address;
    // From now on: what changes while it is judged judges it again.
    let mut policies = session.shared.policies.clone();
    policies.mark_unchanged();
    let opened = match decide(session, &session.shared.snapshot(), sni) {
        Ok(destination) => open(session, &destination).await,
        Err(refusal) => Err(refusal),
    };
    let (chosen, mut upstream) = match opened {
        Ok(opened) => opened,
        Err(refusal) => {
            tracing::info!(peer = %caller.address, caller = %caller.identity, %target, flag = %refusal.flag, reason = %refusal, "connection refused");
            return;
        }
    };
    let endpoint = &chosen.endpoint;
    let mut downstream = Prefixed::new(first, io);
    let carried = tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut downstream, &mut upstream) => carried,
        refusal = denied(session, sni, policies) => {
            tracing::info!(peer = %caller.address, caller = %caller.identity, %target, upstream = %endpoint.address, flag = %refusal.flag, reason = %refusal, "connection ended by a policy");
            return;
        }
    };
    match carried {
        Ok((sent, received)) => {
            tracing::info!(peer = %caller.address, caller = %caller.identity, %target, upstream = %endpoint.address, sent, received, "connection complete");
        }
        Err(error) => {
            tracing::info!(peer = %caller.address, caller = %caller.identity, %target, upstream = %endpoint.address, %error, "connection broke");
        }
    }
}

/// Connects to an endpoint that agrees to it; to another one when the first does not.
async fn open(session: &Session, destination: &Destination) -> Result<(Chosen, Io), Refusal> {
    let upstreams = &session.shared.upstreams;
    let mut tried: Vec<Arc<str>> = Vec::new();
    loop {
        let chosen = match destination {
            Destination::Workload(workload) => {
                let protocol = session.target.protocol;
                upstreams.of_workload(workload, session.target.address, protocol)
            }
            Destination::Service(service, port) => {
                let wish = Wish {
                    tried: &tried,
                    ..Wish::default()
                };
                upstreams.pick(
                    &session.shared.snapshot(),
                    service,
                    *port,
                    Kind::Connection,
                    &wish,
                )?
            }
        };
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
            Ok(upstream) => return Ok((chosen, upstream)),
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
    snapshot: &Snapshot,
    sni: Option<&str>,
) -> Result<Destination, Refusal> {
    authorize(session, snapshot, sni)?;
    let port = session.target.address.port();
    match &session.target.bound {
        BoundTo::Workload(workload) => Ok(Destination::Workload(workload.clone())),
        BoundTo::Service(service) => backend(snapshot, &service.key, port, sni),
    }
}

/// Waits until policies that changed deny a connection that runs.
async fn denied(
    session: &Session,
    sni: Option<&str>,
    mut policies: watch::Receiver<()>,
) -> Refusal {
    while policies.changed().await.is_ok() {
        if let Err(refusal) = authorize(session, &session.shared.snapshot(), sni) {
            return refusal;
        }
    }
    std::future::pending().await
}

fn authorize(session: &Session, snapshot: &Snapshot, sni: Option<&str>) -> Result<(), Refusal> {
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
    let verdict = authz::authorize(policies.map(|it| &**it), &facts);
    match verdict.decision {
        Decision::Allow => Ok(()),
        Decision::Deny => Err(verdict.reason.refusal()),
        Decision::Ask(_) => Err(Refusal::new(
            403,
            Flag::ExternalAuthDenied,
            "a connection cannot be put to an external authorizer",
        )),
    }
}

/// The service port that a rule sends a connection to; the dialled one without a rule.
fn backend(
    snapshot: &Snapshot,
    service: &NamespacedName,
    port: u16,
    sni: Option<&str>,
) -> Result<Destination, Refusal> {
    let Some(rule) = snapshot.config.opaque_route(service, port, sni)? else {
        return Ok(Destination::Service(service.clone(), port));
    };
    let mut picker = |bound: u32| rand::random_range(0..bound);
    match ambit_http::route::draw(rule, &mut picker)? {
        BackendRef::Service { service, port } => Ok(Destination::Service(service.clone(), *port)),
        BackendRef::Invalid { reason } => Err(Refusal::new(
            500,
            Flag::NoClusterFound,
            format!("rule {} cannot be followed: {reason}", rule.key),
        )),
    }
}
