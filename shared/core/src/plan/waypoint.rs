//! Bound means required: a service or workload with a waypoint is reached through it or not at
//! all.
//!
//! A pod cannot tell which service a direct connection meant. So a port of a pod that any bound
//! service is served on is reached only through a waypoint, whatever name or address was dialled;
//! and a pod with a waypoint of its own accepts direct calls only on ports of its services. A service
//! that lets its waypoint be gone around (for migration) requires it of nobody. One that comes to a waypoint or leaves it
//! requires none until all are sent the way it is to be.
//!
//! A service may have several waypoints, which share its new connections by weight: a canary beside the one it is bound
//! to. Calls are taken from each of them, whatever its weight.

use std::fmt;
use std::net::IpAddr;

use super::Refusal;
use super::target::{Port, serves};
use crate::addr::NetworkAddr;
use crate::balance::Picker;
use crate::identity::Identity;
use crate::index::{Index, Target};
use crate::model::{Destination, GatewayAddress, Service, Workload};

/// The waypoint that calls to a service go through; none when `source` is an instance of one of its waypoints.
pub(super) fn for_service<'a>(
    index: &Index,
    service: &'a Service,
    source: &Workload,
) -> Option<&'a GatewayAddress> {
    let gateway = service.waypoint.as_ref()?;
    let own = match index.destination(&gateway.destination) {
        // A waypoint's own service is not behind itself.
        Some(Target::Service(waypoint)) => waypoint.key == service.key,
        _ => false,
    };
    (!own && !is_instance_of_any(index, service, source)).then_some(gateway)
}

/// The one of a service's weighted waypoints that takes a new connection. None when it has none, or all of them weigh nothing.
pub(super) fn drawn<'a>(
    service: &'a Service,
    picker: &mut impl Picker,
) -> Option<&'a GatewayAddress> {
    let weighted = &service.weighted_waypoints;
    let weights = weighted.iter().map(|it| it.weight);
    let total = weights.fold(0, u32::saturating_add);
    if total == 0 {
        return None;
    }
    let mut left = picker.next(total);
    let found = weighted
        .iter()
        .find(|it| match left.checked_sub(it.weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
    found.map(|it| &it.waypoint)
}

/// The waypoint that a call to a pod's address goes through; none when `source` is an instance of
/// one that may reach it.
pub(super) fn for_workload<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
    source: &Workload,
) -> Option<&'a GatewayAddress> {
    let own = own_binding(index, workload);
    let first = own.or_else(|| sent_through(index, workload, port).next())?;
    (!may_reach(index, workload, port, source)).then_some(first)
}

/// The waypoint that a call to an endpoint of an unbound service goes through all the same,
/// because a bound service is served on that port as well.
pub(super) fn for_endpoint<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
    source: &Workload,
) -> Option<&'a GatewayAddress> {
    let first = sent_through(index, workload, port).next()?;
    (!may_reach(index, workload, port, source)).then_some(first)
}

/// Whether this workload is the waypoint of a pod's port, of its own or of a service.
pub(super) fn may_reach(index: &Index, workload: &Workload, port: Port, source: &Workload) -> bool {
    own_binding(index, workload)
        .into_iter()
        .chain(service_bindings(index, workload, port))
        .any(|gateway| is_instance(index, gateway, source))
}

/// The waypoints of services that are served on this port of a workload; of each service first the one it is bound to.
fn service_bindings<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
) -> impl Iterator<Item = &'a GatewayAddress> + 'a {
    bindings(index, workload, port, |_| true)
}

/// Those that direct calls to the port are sent through instead.
fn sent_through<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
) -> impl Iterator<Item = &'a GatewayAddress> + 'a {
    bindings(index, workload, port, |service| {
        service.waypoint.is_some() && !service.waypoint_bypass
    })
}

/// Those of services whose pods take no direct calls.
fn required_bindings<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
) -> impl Iterator<Item = &'a GatewayAddress> + 'a {
    bindings(index, workload, port, |service| {
        !service.takes_direct_calls()
    })
}

fn bindings<'a>(
    index: &'a Index,
    workload: &'a Workload,
    port: Port,
    of: fn(&Service) -> bool,
) -> impl Iterator<Item = &'a GatewayAddress> + 'a {
    let served = workload.services.iter().filter_map(move |(key, ports)| {
        let service = index.service(key)?;
        serves(service, workload, ports, port).then_some(&**service)
    });
    served
        .filter(move |service| of(service) && !is_instance_of_any(index, service, workload))
        .flat_map(Service::waypoints)
}

fn own_binding<'a>(index: &Index, workload: &'a Workload) -> Option<&'a GatewayAddress> {
    let waypoint = workload.waypoint.as_ref()?;
    (!is_instance(index, waypoint, workload)).then_some(waypoint)
}

/// Whether `workload` is an instance of one of a service's waypoints.
pub(super) fn is_instance_of_any(index: &Index, service: &Service, workload: &Workload) -> bool {
    let mut all = service.waypoints();
    all.any(|waypoint| is_instance(index, waypoint, workload))
}

/// Whether `workload` is an instance of this waypoint.
#[must_use]
pub fn is_instance(index: &Index, gateway: &GatewayAddress, workload: &Workload) -> bool {
    match index.destination(&gateway.destination) {
        Some(Target::Service(service)) => index
            .endpoints(&service.key)
            .is_some_and(|endpoints| endpoints.by_uid(&workload.uid).is_some()),
        Some(Target::Workload(instance)) => instance.uid == workload.uid,
        None => false,
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    /// By certificate.
    pub(super) identity: &'a Identity,
    /// The other end of the connection, as the kernel tells it.
    pub(super) address: IpAddr,
}

/// Whether an instance of this waypoint asks `local`: the pod at that address is one, and the certificate is its own. A
/// certificate alone could be that of another pod with the same service account.
fn is_asked_by(index: &Index, local: &Workload, gateway: &GatewayAddress, peer: Peer<'_>) -> bool {
    let address = NetworkAddr::new(local.network.clone(), peer.address);
    index.workload_at(&address).is_some_and(|workload| {
        workload.identity == *peer.identity && is_instance(index, gateway, workload)
    })
}

/// Refuses a call to this port of `local` that should have come through a waypoint and did not.
pub(super) fn require(
    index: &Index,
    local: &Workload,
    port: Port,
    peer: Option<Peer<'_>>,
) -> Result<(), Refusal> {
    let own = own_binding(index, local);
    let known = |gateway| peer.is_some_and(|peer| is_asked_by(index, local, gateway, peer));
    let required = required_bindings(index, local, port).next();
    if required.is_some() && service_bindings(index, local, port).any(known) {
        return Ok(());
    }
    // A direct call to a port of an unbound service may have meant that service.
    let required = required.or(own.filter(|_| !serves_any(index, local, port)));
    let Some(gateway) = required.filter(|_| !own.is_some_and(known)) else {
        return Ok(());
    };
    let caller: &dyn fmt::Display = match &peer {
        Some(peer) => peer.identity,
        None => &"a caller without an identity",
    };
    Err(Refusal::denied(format!(
        "port {} of {}/{} is bound to waypoint {}, and {caller} is not that waypoint",
        port.number,
        local.namespace,
        local.name,
        Shown(&gateway.destination),
    )))
}

/// Whether `peer` is the waypoint of this port of `local`, or of `local` itself, and may therefore say
/// who called it.
pub(super) fn speaks_for_callers(
    index: &Index,
    local: &Workload,
    port: Port,
    peer: Peer<'_>,
) -> bool {
    own_binding(index, local)
        .into_iter()
        .chain(service_bindings(index, local, port))
        .any(|gateway| is_asked_by(index, local, gateway, peer))
}

/// Whether any service is served on this port of a workload.
fn serves_any(index: &Index, workload: &Workload, port: Port) -> bool {
    workload.services.iter().any(|(key, ports)| {
        let service = index.service(key);
        service.is_some_and(|service| serves(service, workload, ports, port))
    })
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
