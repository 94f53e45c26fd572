//! What a pod opens: captured, planned, and carried to where the plan leads.
//!
//! An endpoint that fails before it has seen anything of the connection is left out and the
//! connection is planned again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::model::Workload;
use ambit_core::plan::{OutboundKind, OutboundPlan, Transport, Tunnel};
use ambit_net::hbone::{Opening, Target};
use ambit_net::relay::{Far, relay_tcp, relay_tunnel};
use ambit_net::sys;
use ambit_telemetry::access::Direction;
use tokio::net::TcpStream;

use super::attempts::Attempts;
use super::client::Client;
use super::{Failure, PodProxy, details, dial, local};
use crate::connections::{Details, Ends, Open};

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
        transport: Transport::Tcp,
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
    let (counters, half_closed) = (open.counters(), proxy.shared.settings().half_closed);
    let stream = client.serve();
    tokio::select! {
        result = async {
            match upstream {
                Upstream::Tunnel(opening) => {
                    let far = Far::Opening(opening);
                    relay_tunnel(stream, far, counters, half_closed, |_| {}).await
                }
                Upstream::Tcp(far) => relay_tcp(stream, far, counters, half_closed).await,
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
    let mut tries = Tries::default();
    loop {
        let (source, plan) = tries.next(proxy, open).await?;
        match attempt(proxy, open, &source, &plan).await {
            Ok(upstream) => {
                open.describe(details::outbound(&source, &plan));
                return Ok(upstream);
            }
            Err(failure) => tries.failed(open, &source, &plan, failure)?,
        }
    }
}

/// The plans that were tried.
#[derive(Default)]
pub(super) struct Tries {
    attempts: Attempts,
    failed: Option<(Details, Failure)>,
}

impl Tries {
    /// Who connects, and where to.
    ///
    /// # Errors
    /// Why it leads nowhere. Of endpoints that have failed, why the last one did.
    pub(super) async fn next(
        &mut self,
        proxy: &PodProxy,
        open: &Open,
    ) -> Result<(Arc<Workload>, OutboundPlan), Failure> {
        match (
            self.attempts.plan(proxy, open.ends()).await,
            self.failed.take(),
        ) {
            (Ok(planned), _) => Ok(planned),
            // No endpoint is left: why the last one failed says more.
            (Err(_), Some((details, failure))) => {
                open.describe(details);
                Err(failure)
            }
            (Err(refusal), None) => {
                if let Some(source) = proxy.shared.index().workload(&proxy.pod.uid) {
                    open.describe(details::nowhere(source, open.ends().destination));
                }
                Err(refusal.into())
            }
        }
    }

    /// A plan has failed. What it led to is left out of the next one.
    ///
    /// # Errors
    /// There is to be no other: why this one failed.
    pub(super) fn failed(
        &mut self,
        open: &Open,
        source: &Arc<Workload>,
        plan: &OutboundPlan,
        failure: Failure,
    ) -> Result<(), Failure> {
        let details = details::outbound(source, plan);
        if let Some(workload) = &plan.workload
            && failure.may_retry()
            && plan.service.is_some()
        {
            tracing::debug!(%failure, workload = %workload.uid, "trying another endpoint");
            let workload = failed_at_gateway(plan, &failure).unwrap_or(workload);
            if self.attempts.go_on_without(plan, workload) {
                self.failed = Some((details, failure));
                return Ok(());
            }
        }
        open.describe(details);
        Err(failure)
    }
}

/// The gateway between networks that a plan failed at before it came to the endpoint. What a gateway says of an endpoint leaves
/// the gateway as good as it was.
fn failed_at_gateway<'a>(plan: &'a OutboundPlan, failure: &Failure) -> Option<&'a Arc<Workload>> {
    match (&plan.kind, failure) {
        (OutboundKind::Hbone(tunnel), Failure::Tunnel(error)) if error.is_gateways_own() => {
            Some(&tunnel.gateway.as_ref()?.workload)
        }
        _ => None,
    }
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
    let (target, gateway) = targets(tunnel);
    let headers = proxy
        .baggage
        .request(source, client, plan.service.as_deref());
    let authority = tunnel.authority.to_string();
    let pool = &proxy.pool;
    let opening = match &gateway {
        None => pool.open(&target, &certified, &authority, headers).await?,
        Some(gateway) => {
            let opening = pool.open_through(gateway, &target, &certified, &authority, headers);
            Box::pin(opening).await?
        }
    };
    Ok(opening)
}

/// Who a tunnel ends at, and the gateway that it goes through.
pub(super) fn targets(tunnel: &Tunnel) -> (Target, Option<Target>) {
    let target = Target {
        address: tunnel.target,
        identities: tunnel.identities.as_slice().into(),
    };
    let gateway = tunnel.gateway.as_ref().map(|gateway| Target {
        address: gateway.target,
        identities: gateway.identities.as_slice().into(),
    });
    (target, gateway)
}
