//! Which address and port of a workload a connection ends at.

use std::net::IpAddr;
use std::sync::Arc;

use crate::index::Index;
use crate::model::{NetworkMode, PortMapping, Service, TunnelProtocol, Workload};

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: a connection is a flow of datagrams between two addresses.
    Udp,
}

impl Transport {
    /// The word of metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of a workload: TCP and UDP count theirs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) transport: Transport,
    pub(super) number: u16,
}

/// The workload's port behind a service port: what the workload itself says (named ports differ
/// between pods), else what the service says.
#[must_use]
pub fn target_port(service: &Service, of_workload: &[PortMapping], port: u16) -> Option<u16> {
    mapped([of_workload, &service.ports], port)
}

/// The mappings that count: those of the workload (`of_tcp` are its TCP ports for the service) before those of the service.
pub(super) fn mappings<'a>(
    service: &'a Service,
    workload: &'a Workload,
    of_tcp: &'a [PortMapping],
    transport: Transport,
) -> [&'a [PortMapping]; 2] {
    match transport {
        Transport::Tcp => [of_tcp, &service.ports],
        Transport::Udp => [workload.udp_ports_of(&service.key), &service.udp_ports],
    }
}

/// The port behind a service port by these mappings.
pub(super) fn mapped(mappings: [&[PortMapping]; 2], port: u16) -> Option<u16> {
    let mut all = mappings.into_iter().flatten();
    all.find(|mapping| mapping.service_port == port && mapping.target_port != 0)
        .map(|mapping| mapping.target_port)
}

/// Whether any service port is this port by these mappings.
fn leads_to(mappings: [&[PortMapping]; 2], port: u16) -> bool {
    let mut all = mappings.into_iter().flatten();
    all.any(|mapping| mapped(mappings, mapping.service_port) == Some(port))
}

/// Whether this port of a workload is one that it serves the service on; `of_tcp` are its TCP ports for that.
pub(super) fn serves(
    service: &Service,
    workload: &Workload,
    of_tcp: &[PortMapping],
    port: Port,
) -> bool {
    let mappings = mappings(service, workload, of_tcp, port.transport);
    leads_to(mappings, port.number)
}

/// Whether this TCP port of a workload is one that it serves the service on.
pub(super) fn serves_on(service: &Service, of_workload: &[PortMapping], port: u16) -> bool {
    leads_to([of_workload, &service.ports], port)
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

/// Whether it takes tunnels that carry this.
pub(super) fn takes(workload: &Workload, transport: Transport) -> bool {
    is_tunneled(workload) && (transport == Transport::Tcp || workload.takes_udp)
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
    port: Port,
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
        if serves(service, workload, ports, port) && served.is_none_or(|first| key < &first.key) {
            served = Some(service);
        }
    }
    served
}
