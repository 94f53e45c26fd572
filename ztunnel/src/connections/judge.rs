//! May this connection reach this pod? Asked when it arrives, and again whenever the answer may
//! have changed. The plan and the policies are judged together, by one index.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::authz::authorize;
use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_core::plan::{
    Inbound, InboundPlan, Passthrough, Refusal, plan_inbound, plan_passthrough,
};

/// What a connection to a pod says of itself, and what is known for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Uid of the pod it arrived at.
    pub local: Arc<str>,
    /// The caller's address.
    pub peer_addr: SocketAddr,
    /// How it arrived.
    pub asked: Asked,
}

/// How a connection arrived at a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// By CONNECT, over mutual TLS or from a pod of this node.
    Tunnel {
        /// The caller, by certificate or by the kernel.
        peer: Arc<Identity>,
        /// The pod's end of the connection.
        socket: SocketAddr,
        /// The authority of the CONNECT.
        authority: Box<str>,
        /// The `host` of its `forwarded` header.
        forwarded_host: Option<Box<str>>,
    },
    /// In the clear.
    Plaintext {
        /// What the caller dialled.
        destination: SocketAddr,
    },
}

impl Claim {
    /// The caller's identity.
    #[must_use]
    pub fn peer(&self) -> Option<&Identity> {
        match &self.asked {
            Asked::Tunnel { peer, .. } => Some(peer),
            Asked::Plaintext { .. } => None,
        }
    }
}

/// A connection that may go on.
#[derive(Debug)]
pub struct Admitted {
    /// Where it leads.
    pub plan: InboundPlan,
    /// The pod, as it is described now.
    pub local: Arc<Workload>,
}

/// Plans and authorizes.
///
/// # Errors
/// Why it may not, with the policy that says so.
pub fn judge(index: &Index, claim: &Claim) -> Result<Admitted, Refusal> {
    let local = index
        .workload(&claim.local)
        .ok_or_else(|| Refusal::unknown_workload(&claim.local))?;
    let peer_addr = claim.peer_addr;
    let plan = match &claim.asked {
        Asked::Tunnel {
            peer,
            socket,
            authority,
            forwarded_host,
        } => plan_inbound(
            index,
            &Inbound {
                local,
                peer,
                peer_addr,
                socket_destination: *socket,
                authority,
                forwarded_host: forwarded_host.as_deref(),
            },
        )?,
        Asked::Plaintext { destination } => plan_passthrough(
            index,
            &Passthrough {
                local,
                peer_addr,
                destination: *destination,
            },
        )?,
    };
    let facts = plan.facts(claim.peer(), peer_addr);
    let verdict = authorize(index, local, &facts);
    for hit in &verdict.dry_run {
        tracing::info!(
            target: "ambit_ztunnel::dry_run",
            policy = %hit.policy,
            rule = hit.rule,
            action = ?hit.action,
            src.addr = %peer_addr,
            dst.addr = %plan.dial,
            "a dry-run policy matches"
        );
    }
    let local = local.clone();
    verdict.into_result()?;
    Ok(Admitted { plan, local })
}
