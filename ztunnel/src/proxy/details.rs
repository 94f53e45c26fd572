//! What telemetry is told of a planned connection.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::addr::NetworkAddr;
use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_core::plan::{InboundPlan, OutboundKind, OutboundPlan};
use ambit_telemetry::metrics::Security;

use crate::connections::{Asked, Claim, Details};

/// A connection that a pod opened.
pub(super) fn outbound(source: &Arc<Workload>, plan: &OutboundPlan) -> Details {
    let (destination_addr, hbone_addr, security) = match &plan.kind {
        OutboundKind::Hbone(tunnel) => {
            let authority = tunnel.authority.to_string().into_boxed_str();
            let gateway = tunnel.gateway.as_ref().map(|gateway| gateway.target);
            let first = gateway.unwrap_or(tunnel.target);
            (first, Some(authority), Security::MutualTls)
        }
        OutboundKind::Local { destination, .. } => (*destination, None, Security::Local),
        OutboundKind::Plain { target } => (*target, None, Security::Unknown),
    };
    let vouched = security != Security::Unknown;
    let destination = plan.workload.as_ref();
    Details {
        source: Some(source.clone()),
        source_identity: vouched.then(|| source.identity.clone()),
        source_addr: None,
        waypoint: None,
        destination: destination.cloned(),
        destination_identity: destination.filter(|_| vouched).map(|w| w.identity.clone()),
        destination_addr,
        hbone_addr,
        service: plan.service.clone(),
        security,
    }
}

/// A connection that a pod opened and that leads nowhere.
pub(super) fn nowhere(source: &Arc<Workload>, dialled: SocketAddr) -> Details {
    Details {
        source: Some(source.clone()),
        ..Details::unknown(dialled)
    }
}

/// A connection that arrived at a pod; `plan` when it leads somewhere.
pub(super) fn inbound(
    index: &Index,
    claim: &Claim,
    arrived_at: SocketAddr,
    plan: Option<&InboundPlan>,
) -> Details {
    let local = index.workload(&claim.local);
    let peer = claim.peer();
    let (hbone_addr, security) = match &claim.asked {
        Asked::Tunnel { authority, .. } => (Some(authority.clone()), Security::MutualTls),
        Asked::Plaintext { .. } => (None, Security::Unknown),
    };
    let source = match plan {
        Some(plan) => plan.source.clone(),
        None => local.and_then(|local| {
            let addr = NetworkAddr::new(local.network.clone(), claim.peer_addr.ip());
            let source = index.workload_at(&addr);
            source
                .filter(|w| peer.is_none_or(|peer| *peer == w.identity))
                .cloned()
        }),
    };
    let caller = plan.and_then(|plan| plan.caller.as_ref());
    Details {
        source,
        source_identity: caller.map(|caller| &caller.identity).or(peer).cloned(),
        source_addr: caller.and_then(|caller| caller.address),
        waypoint: caller.and(peer).cloned(),
        destination: local.cloned(),
        destination_identity: peer.and(local).map(|local| local.identity.clone()),
        destination_addr: arrived_at,
        hbone_addr,
        service: plan.and_then(|plan| plan.service.clone()),
        security,
    }
}
