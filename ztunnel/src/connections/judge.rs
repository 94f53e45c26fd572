//! May this connection reach this pod? Asked when it arrives, and again whenever the answer may
//! have changed. The plan and the policies are judged together, by one index.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::authz::authorize_all;
use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_core::plan::{
    Inbound, InboundPlan, Passthrough, Refusal, Transport, plan_inbound, plan_passthrough,
};

/// What a connection to a pod says of itself, and what is known for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Uid of the pod it arrived at.
    pub local: Arc<str>,
    /// The caller's address.
    pub peer_addr: SocketAddr,
    /// What carries it.
    pub transport: Transport,
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
        /// The `for` of it.
        forwarded_for: Option<SocketAddr>,
        /// Who called, if the peer is a waypoint and may say so.
        caller: Option<Box<str>>,
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

/// Where a connection leads, if policies let it.
#[derive(Debug)]
pub struct Planned {
    /// Where it leads.
    pub plan: InboundPlan,
    /// The pod, as it is described now.
    pub local: Arc<Workload>,
}

/// Plans and authorizes.
///
/// # Errors
/// Why it may not, with the policy that says so.
pub fn judge(index: &Index, claim: &Claim) -> Result<Planned, Refusal> {
    let planned = Planned::of(index, claim)?;
    planned.authorize(index, claim)?;
    Ok(planned)
}

impl Planned {
    /// Plans. Nothing is authorized by that.
    ///
    /// # Errors
    /// Why it leads nowhere.
    pub fn of(index: &Index, claim: &Claim) -> Result<Self, Refusal> {
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
                forwarded_for,
                caller,
            } => plan_inbound(
                index,
                &Inbound {
                    local,
                    peer,
                    peer_addr,
                    socket_destination: *socket,
                    authority,
                    transport: claim.transport,
                    forwarded_host: forwarded_host.as_deref(),
                    forwarded_for: *forwarded_for,
                    caller: caller.as_deref(),
                },
            )?,
            Asked::Plaintext { destination } => plan_passthrough(
                index,
                &Passthrough {
                    local,
                    peer_addr,
                    destination: *destination,
                    transport: claim.transport,
                },
            )?,
        };
        let local = local.clone();
        Ok(Self { plan, local })
    }

    /// Judges it by the policies of the index that it was planned with.
    ///
    /// # Errors
    /// The policy that refuses.
    pub fn authorize(&self, index: &Index, claim: &Claim) -> Result<(), Refusal> {
        let facts = self.plan.facts(claim.peer(), claim.peer_addr);
        let verdict = match self.plan.caller_facts(claim.peer_addr) {
            Some(caller) => authorize_all(index, &self.local, &[facts, caller]),
            None => authorize_all(index, &self.local, &[facts]),
        };
        for hit in &verdict.dry_run {
            tracing::info!(
                target: "ambit_ztunnel::dry_run",
                policy = %hit.policy,
                rule = hit.rule,
                action = ?hit.action,
                src.addr = %claim.peer_addr,
                dst.addr = %self.plan.dial,
                "a dry-run policy matches"
            );
        }
        verdict.into_result(claim.transport).map(drop)
    }
}
