//! What a pod opens: captured, planned, and carried to where the plan leads.
//!
//! An endpoint that fails before it has seen anything of the connection is left out and the
//! connection is planned again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use ambit_core::plan::{Outbound, OutboundKind, OutboundPlan, Refusal, Tunnel, plan_outbound};
use ambit_net::hbone::{Opening, Target};
use ambit_net::relay::{Far, relay_tcp, relay_tunnel};
use ambit_net::sys;
use ambit_telemetry::access::Direction;
use tokio::net::TcpStream;

use super::client::Client;
use super::{Failure, PodProxy, details, dial, local};
use crate::connections::{Details, Ends, Open};

/// Endpoints of a service that are tried for one connection.
const ATTEMPTS: usize = 3;

/// Carries one captured connection.
pub(super) async fn serve(proxy: Arc<PodProxy>, stream: TcpStream, client: SocketAddr) {
    let dialled = sys::original_dst(&stream);
    serve_to(proxy, stream, client, dialled).await;
}

/// Carries one connection to what the client dialled.
pub(super) async fn serve_to(
    proxy: Arc<PodProxy>,
    stream: TcpStream,
    client: SocketAddr,
    dialled: io::Result<SocketAddr>,
) {
    let destination = match &dialled {
        Ok(dialled) => *dialled,
        Err(_) => stream.local_addr().unwrap_or(client),
    };
    let open = proxy.shared.connections().open(Ends {
        direction: Direction::Outbound,
        source: client,
        destination,
        server_is_near: false,
    });
    let waiting = Client::new(stream);
    let result = match dialled {
        Ok(_) => carry(&proxy, &open, waiting).await,
        Err(error) => Err(Failure::Accept(error)),
    };
    open.finish(&result);
}

async fn carry(proxy: &PodProxy, open: &Open, client: Client) -> Result<(), Failure> {
    let _admitted = proxy.pod.admit(Direction::Outbound)?;
    proxy.identity().await?;
    let upstream = connect(proxy, open).await?;
    let counters = open.counters();
    let stream = client.serve();
    tokio::select! {
        result = async {
            match upstream {
                Upstream::Tunnel(opening) => {
                    relay_tunnel(stream, Far::Opening(opening), counters, |_| {}).await
                }
                Upstream::Tcp(far) => relay_tcp(stream, far, counters).await,
            }
        } => Ok(result?),
        closed = open.closed() => Err(closed),
    }
}

/// The way on.
enum Upstream {
    Tunnel(Opening),
    Tcp(TcpStream),
}

/// Connects to where the plan leads, or to where the next plan leads.
async fn connect(proxy: &PodProxy, open: &Open) -> Result<Upstream, Failure> {
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut failed: Option<(Details, Failure)> = None;
    loop {
        let planned = Box::pin(plan_with_hosts(proxy, open.ends(), &tried)).await;
        let (source, plan) = match (planned, failed.take()) {
            (Ok(planned), _) => planned,
            // No endpoint is left: why the last one failed says more.
            (Err(_), Some((details, failure))) => {
                open.describe(details);
                return Err(failure);
            }
            (Err(refusal), None) => return Err(refusal.into()),
        };
        let details = details::outbound(&source, &plan);
        match attempt(proxy, open, &source, &plan).await {
            Ok(upstream) => {
                open.describe(details);
                return Ok(upstream);
            }
            Err(failure) => match &plan.workload {
                Some(workload) if failure.may_retry() && plan.service.is_some() => {
                    tracing::debug!(%failure, workload = %workload.uid, "trying another endpoint");
                    tried.push(workload.uid.clone());
                    if tried.len() == ATTEMPTS {
                        open.describe(details);
                        return Err(failure);
                    }
                    failed = Some((details, failure));
                }
                _ => {
                    open.describe(details);
                    return Err(failure);
                }
            },
        }
    }
}

/// The addresses of hosts that endpoints are known by.
type Hosts = HashMap<Arc<str>, Arc<[IpAddr]>>;

/// Plans, and plans again with the addresses of hosts that it turned out to need.
async fn plan_with_hosts(
    proxy: &PodProxy,
    ends: Ends,
    tried: &[Arc<str>],
) -> Result<(Arc<Workload>, OutboundPlan), Refusal> {
    let mut hosts = Hosts::new();
    let missing = RefCell::default();
    let planned = plan(proxy, ends, tried, &hosts, &missing);
    let missing: BTreeSet<Arc<str>> = missing.into_inner();
    if missing.is_empty() {
        return planned;
    }
    for host in missing {
        let found = proxy.shared.hosts().addresses(&host).await;
        hosts.insert(host, found);
    }
    plan(proxy, ends, tried, &hosts, &RefCell::default())
}

fn plan(
    proxy: &PodProxy,
    ends: Ends,
    tried: &[Arc<str>],
    hosts: &Hosts,
    missing: &RefCell<BTreeSet<Arc<str>>>,
) -> Result<(Arc<Workload>, OutboundPlan), Refusal> {
    let shared = &proxy.shared;
    let index = shared.index();
    let source = index
        .workload(&proxy.pod.uid)
        .ok_or_else(|| proxy.pod.unknown())?;
    let local = |workload: &Workload| shared.settings().node_local && shared.serves(&workload.uid);
    let streams = |address: SocketAddr, identities: &[Identity]| {
        let identities = identities.into();
        proxy.pool.streams(&Target {
            address,
            identities,
        })
    };
    let outbound = Outbound {
        source,
        source_addr: ends.source,
        destination: ends.destination,
        local: &local,
        streams: &streams,
        hosts: &|host| {
            let known = hosts.get(host).cloned();
            if known.is_none() {
                missing.borrow_mut().insert(host.clone());
            }
            known
        },
        exclude: tried,
    };
    let mut picker = |bound: u32| rand::random_range(0..bound);
    let plan = plan_outbound(&index, &outbound, &mut picker)?;
    Ok((source.clone(), plan))
}

async fn attempt(
    proxy: &PodProxy,
    open: &Open,
    source: &Arc<Workload>,
    plan: &OutboundPlan,
) -> Result<Upstream, Failure> {
    match &plan.kind {
        OutboundKind::Hbone(tunnel) => {
            let opening = open_tunnel(proxy, open.ends().source, source, plan, tunnel).await?;
            Ok(Upstream::Tunnel(opening))
        }
        OutboundKind::Local {
            workload,
            destination,
        } => {
            let service = plan.service.as_deref();
            let local = local::connect(proxy, open, workload, *destination, service);
            Ok(Upstream::Tcp(Box::pin(local).await?))
        }
        OutboundKind::Plain { target } => {
            let sockets = &proxy.pod.sockets;
            let far = dial::plain(sockets, *target, proxy.shared.settings());
            Ok(Upstream::Tcp(Box::pin(far).await?))
        }
    }
}

async fn open_tunnel(
    proxy: &PodProxy,
    client: SocketAddr,
    source: &Arc<Workload>,
    plan: &OutboundPlan,
    tunnel: &Tunnel,
) -> Result<Opening, Failure> {
    let certified = proxy.pod.identity()?.get().await?;
    let target = Target {
        address: tunnel.target,
        identities: tunnel.identities.as_slice().into(),
    };
    let headers = proxy
        .baggage
        .request(source, client, plan.service.as_deref());
    let authority = tunnel.authority.to_string();
    Ok(proxy
        .pool
        .open(&target, &certified, &authority, headers)
        .await?)
}
