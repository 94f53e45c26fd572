//! Bound means required: a service or workload with a waypoint is reached through it or not at
//! all.

use std::fmt;

use super::Refusal;
use super::target::serves_on;
use crate::identity::Identity;
use crate::index::{Index, Target};
use crate::model::{Destination, GatewayAddress, Workload};

/// The waypoints that calls to this port of a workload may come through: its own, then those of
/// the services it serves on that port.
pub(super) fn bindings<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: u16,
) -> impl Iterator<Item = &'a GatewayAddress> + 'a {
    let of_services = workload.services.iter().filter_map(move |(key, ports)| {
        let service = index.service(key)?;
        let waypoint = service.waypoint.as_ref()?;
        serves_on(service, ports, port).then_some(waypoint)
    });
    workload.waypoint.iter().chain(of_services)
}

/// Whether `workload` is an instance of this waypoint.
pub(super) fn is_instance(index: &Index, gateway: &GatewayAddress, workload: &Workload) -> bool {
    match index.destination(&gateway.destination) {
        Some(Target::Service(service)) => index
            .endpoints(&service.key)
            .is_some_and(|endpoints| endpoints.by_uid(&workload.uid).is_some()),
        Some(Target::Workload(instance)) => instance.uid == workload.uid,
        None => false,
    }
}

/// Whether an instance of this waypoint has this identity.
fn has_identity(index: &Index, gateway: &GatewayAddress, identity: &Identity) -> bool {
    match index.destination(&gateway.destination) {
        Some(Target::Service(service)) => index.endpoints(&service.key).is_some_and(|endpoints| {
            endpoints
                .iter()
                .any(|endpoint| endpoint.workload().identity == *identity)
        }),
        Some(Target::Workload(instance)) => instance.identity == *identity,
        None => false,
    }
}

/// Refuses a call to this port of `local` that should have come through a waypoint and did not.
pub(super) fn require(
    index: &Index,
    local: &Workload,
    port: u16,
    peer: Option<&Identity>,
) -> Result<(), Refusal> {
    let mut required = None;
    for gateway in bindings(index, local, port) {
        if peer.is_some_and(|peer| has_identity(index, gateway, peer)) {
            return Ok(());
        }
        required.get_or_insert(gateway);
    }
    let Some(gateway) = required else {
        return Ok(());
    };
    let caller: &dyn fmt::Display = match &peer {
        Some(peer) => peer,
        None => &"a caller without an identity",
    };
    Err(Refusal::denied(format!(
        "port {port} of {}/{} is bound to waypoint {}, and {caller} is not that waypoint",
        local.namespace,
        local.name,
        Shown(&gateway.destination),
    )))
}

/// A gateway as an operator knows it.
pub(super) struct Shown<'a>(pub(super) &'a Destination);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Destination::Hostname(key) => key.fmt(f),
            Destination::Address(addr) => addr.ip.fmt(f),
        }
    }
}
