//! What to do with a connection: pure decisions over an [`Index`](crate::index::Index).
//!
//! A plan names everything the IO needs (where, as whom, expecting whom) and everything telemetry
//! needs; a [`Refusal`] says why not. Nothing is looked up later, so what was decided is what
//! happens.

mod crossing;
mod gateway;
mod inbound;
mod network;
mod outbound;
mod passthrough;
mod planner;
mod policy;
mod reasons;
mod refusal;
mod target;
#[cfg(test)]
mod tests;
mod waypoint;

pub use crossing::plan_crossing;
pub use gateway::{
    BoundTo, GatewayTarget, GatewayTunnel, Upstream, is_sent_here, plan_tunnel,
    upstream_of_endpoint, upstream_of_workload,
};
pub use inbound::{Caller, Inbound, InboundPlan, plan_inbound};
pub use network::Gateway;
pub use outbound::{Hop, Outbound, OutboundKind, OutboundPlan, Tunnel, plan_outbound};
pub use passthrough::{Passthrough, plan_passthrough};
pub use policy::{OutboundTrafficPolicy, OutboundTrafficPolicyError};
pub use refusal::{Refusal, ResponseFlag};
pub use target::{Transport, is_on_the_network_of, target_port};
pub use waypoint::is_instance;

/// Captured outbound TCP and UDP arrive here.
pub const OUTBOUND_PORT: u16 = 15001;
/// Captured inbound plaintext arrives here.
pub const PASSTHROUGH_PORT: u16 = 15006;
/// Inbound HBONE.
pub const HBONE_PORT: u16 = 15008;

/// Whether the node proxy itself listens there, in every pod: a tunnel to it would be a loop.
#[must_use]
pub fn is_own_port(port: u16) -> bool {
    matches!(port, OUTBOUND_PORT | PASSTHROUGH_PORT | HBONE_PORT)
}
