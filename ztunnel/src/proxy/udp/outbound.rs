//! A flow that a pod begins: to where its plan leads, or to where the next plan does.

use std::sync::Arc;

use ambit_core::hbone::Authority;
use ambit_core::model::Workload;
use ambit_core::plan::{OutboundKind, OutboundPlan, Refusal, Tunnel};
use ambit_net::hbone::Datagrams;

use super::super::outbound::{Tries, targets};
use super::super::{Failure, PodProxy, details, dial, local};
use super::end::End;
use crate::connections::Open;

/// The far end of a flow, and the workload that it is at, if nothing but the plan says that: a plain socket goes on to an address whoever has
/// it, while a tunnel and a neighbour end with whom they lead to.
pub(super) async fn connect(
    proxy: &PodProxy,
    open: &Open,
) -> Result<(End, Option<Arc<Workload>>), Failure> {
    let mut tries = Tries::default();
    loop {
        let (source, plan) = tries.next(proxy, open).await?;
        match attempt(proxy, open, &source, &plan).await {
            Ok(end) => {
                open.describe(details::outbound(&source, &plan));
                let unproven = match plan.kind {
                    OutboundKind::Plain { .. } => plan.workload,
                    OutboundKind::Hbone(_) | OutboundKind::Local { .. } => None,
                };
                return Ok((end, unproven));
            }
            Err(failure) => tries.failed(open, &source, &plan, failure)?,
        }
    }
}

async fn attempt(
    proxy: &PodProxy,
    open: &Open,
    source: &Arc<Workload>,
    plan: &OutboundPlan,
) -> Result<End, Failure> {
    match &plan.kind {
        OutboundKind::Hbone(tunnel) => {
            let opening = open_tunnel(proxy, open, source, plan, tunnel).await?;
            Ok(End::Tunnel(Box::new(opening)))
        }
        OutboundKind::Local {
            workload,
            destination,
        } => {
            let service = plan.service.as_deref();
            let (pod, admitted, client) =
                local::admit(proxy, open, workload, *destination, service)?;
            let dialled = dial::datagrams(
                &pod.sockets,
                &admitted.plan,
                client.ip(),
                proxy.shared.settings(),
            );
            if dialled.is_err() {
                open.disclaim();
            }
            Ok(End::Socket(dialled?))
        }
        OutboundKind::Plain { target } => {
            dial::plain_datagrams(&proxy.pod.sockets, *target).map(End::Socket)
        }
    }
}

async fn open_tunnel(
    proxy: &PodProxy,
    open: &Open,
    source: &Arc<Workload>,
    plan: &OutboundPlan,
    tunnel: &Tunnel,
) -> Result<Datagrams, Failure> {
    let Authority::Addr(destination) = &tunnel.authority else {
        let why = format!("{} is no address to send UDP to", tunnel.authority);
        return Err(Refusal::unavailable(why).into());
    };
    let certified = proxy.pod.identity()?.get().await?;
    let (target, gateway) = targets(tunnel);
    let client = open.ends().source;
    let service = plan.service.as_deref();
    let headers = proxy.baggage.request(source, client, service);
    let pool = &proxy.pool;
    let opening = pool.open_datagrams(gateway.as_ref(), &target, &certified, *destination, headers);
    Ok(opening.await?.into())
}
