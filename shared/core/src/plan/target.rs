//! Which address and port of a workload a connection ends at.

use std::net::IpAddr;
use std::sync::Arc;

use crate::index::Index;
use crate::model::{NetworkMode, PortMapping, Service, TunnelProtocol, Workload};

/// The workload's port behind a service port: what the workload itself says (named ports differ
/// between pods), else what the service says.
#[must_use]
pub fn target_port(service: &Service, of_workload: &[PortMapping], port: u16) -> Option<u16> {
    let mapped = |ports: &[PortMapping]| {
        ports
            .iter()
            .find(|mapping| mapping.service_port == port && mapping.target_port != 0)
            .map(|mapping| mapping.target_port)
    };
    mapped(of_workload).or_else(|| mapped(&service.ports))
}

/// Whether this port of a workload is one that it serves the service on.
pub(super) fn serves_on(service: &Service, of_workload: &[PortMapping], port: u16) -> bool {
    let mut ports = of_workload.iter().chain(&service.ports);
    ports.any(|mapping| target_port(service, of_workload, mapping.service_port) == Some(port))
}

/// Whether a client reaches a workload by its own address. What is outside the mesh and of no network that is named is as near to
/// all.
#[must_use]
pub fn is_on_the_network_of(workload: &Workload, from: &Workload) -> bool {
    let anywhere = || workload.network.is_empty() && !is_tunneled(workload);
    workload.network == from.network || anywhere()
}

/// Whether a workload takes tunnels.
pub(super) fn is_tunneled(workload: &Workload) -> bool {
    workload.tunnel_protocol == TunnelProtocol::Hbone
        && workload.network_mode == NetworkMode::Standard
}

/// The workload's address for a client that dialled `dialled`: of that family when there is one,
/// else of a family the client has.
pub(super) fn reachable_ip(
    workload: &Workload,
    from: &Workload,
    dialled: IpAddr,
) -> Option<IpAddr> {
    if !is_on_the_network_of(workload, from) {
        return None;
    }
    fitting(&workload.addresses, from, dialled)
}

/// The one of these addresses that fits the client best.
pub(super) fn fitting(addresses: &[IpAddr], from: &Workload, dialled: IpAddr) -> Option<IpAddr> {
    let family = |ip: &IpAddr| ip.is_ipv4();
    let wanted = family(&dialled);
    let same = addresses.iter().find(|ip| family(ip) == wanted);
    let other = || {
        addresses.iter().find(|ip| {
            from.addresses.is_empty() || from.addresses.iter().any(|own| family(own) == family(ip))
        })
    };
    same.or_else(other).copied()
}

/// The service that a call to a workload's port most likely meant, for telemetry: the one the
/// client names, else the only one (or the first by name) that is served on that port.
pub(super) fn service_for<'a>(
    index: &'a Index,
    workload: &Workload,
    port: u16,
    hint: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let mut served: Option<&Arc<Service>> = None;
    for (key, ports) in &workload.services {
        let Some(service) = index.service(key) else {
            continue;
        };
        if hint.is_some_and(|hint| hint == &*key.name) {
            return Some(service);
        }
        if serves_on(service, ports, port) && served.is_none_or(|first| key < &first.key) {
            served = Some(service);
        }
    }
    served
}
