//! Plaintext that arrives at a pod: it has no identity, and policies judge it as such.

use std::net::SocketAddr;

use super::inbound::{InboundPlan, caller};
use super::target::{Port, Transport, service_for};
use super::{Refusal, is_own_port, waypoint};
use crate::index::Index;
use crate::model::Workload;

/// A captured plaintext connection.
#[derive(Debug, Clone, Copy)]
pub struct Passthrough<'a> {
    /// The pod it arrived at.
    pub local: &'a Workload,
    /// The caller's address, which proves nothing.
    pub peer_addr: SocketAddr,
    /// What the caller dialled.
    pub destination: SocketAddr,
    /// What carries it.
    pub transport: Transport,
}

/// Decides what a plaintext connection leads to.
///
/// # Errors
/// 503 for the node proxy's own ports, 401 when it should have come through a waypoint.
pub fn plan_passthrough(
    index: &Index,
    passthrough: &Passthrough<'_>,
) -> Result<InboundPlan, Refusal> {
    let local = passthrough.local;
    let dialled = passthrough.destination;
    let dial = SocketAddr::new(dialled.ip().to_canonical(), dialled.port());
    if is_own_port(dial.port()) {
        return Err(Refusal::unavailable(format!(
            "{dial} is a port of the node proxy; plaintext cannot be passed on to it"
        )));
    }
    let port = Port {
        transport: passthrough.transport,
        number: dial.port(),
    };
    waypoint::require(index, local, port, None)?;
    Ok(InboundPlan {
        dial,
        proxy_header: None,
        service: service_for(index, local, port, None).cloned(),
        source: caller(index, local, passthrough.peer_addr).cloned(),
        caller: None,
    })
}
