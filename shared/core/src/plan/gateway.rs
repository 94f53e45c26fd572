//! What a waypoint does with a tunnel, and where it goes on from there.
//!
//! A waypoint serves what is bound to it and nothing else: it never becomes a way to an address that
//! somebody names.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Refusal;
use super::planner::identities;
use super::target::{is_tunneled, reachable_ip, serves_on, target_port};
use crate::addr::{NamespacedName, NetworkAddr};
use crate::hbone::Authority;
use crate::identity::Identity;
use crate::index::{Endpoint, Index, Target as At};
use crate::model::{AppProtocol, GatewayAddress, Service, Workload};

/// A CONNECT that arrived at a waypoint.
#[derive(Debug, Clone, Copy)]
pub struct GatewayTunnel<'a> {
    /// The waypoint's own service.
    pub waypoint: &'a NamespacedName,
    /// The network it is on.
    pub network: &'a str,
    /// Who asks, by certificate.
    pub caller: &'a Identity,
    /// What is asked for.
    pub authority: &'a str,
}

/// What was asked for, and is bound to the waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayTarget {
    /// A service, or a pod that was addressed itself.
    pub bound: BoundTo,
    /// The address and port that was asked for.
    pub address: SocketAddr,
    /// What is spoken there, when declared.
    pub protocol: AppProtocol,
    /// Whose policies apply: the service, or those that are served on that port of the pod.
    pub services: Vec<NamespacedName>,
}

/// A service, or a pod that was addressed itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundTo {
    #[allow(missing_docs)]
    Service(Arc<Service>),
    #[allow(missing_docs)]
    Workload(Arc<Workload>),
}

/// The way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    #[allow(missing_docs)]
    pub workload: Arc<Workload>,
    /// Where the application listens; of a workload that is known by the name of a host alone the port, and no address.
    pub address: SocketAddr,
    /// What it speaks, when declared.
    pub protocol: AppProtocol,
    /// In a tunnel, whose server must show one of these; else as it is.
    pub tunnel: Option<Arc<[Identity]>>,
}

/// Decides what a CONNECT to a waypoint leads to.
///
/// # Errors
/// 400 when the authority does not read as one; 404 when it is not bound to this waypoint, or the
/// service has no such port.
pub fn plan_tunnel(index: &Index, tunnel: &GatewayTunnel<'_>) -> Result<GatewayTarget, Refusal> {
    let authority: Authority = tunnel
        .authority
        .parse()
        .map_err(|error: crate::hbone::AuthorityError| Refusal::bad_request(error.to_string()))?;
    let namespace = &tunnel.caller.namespace();
    let (service, address) = match &authority {
        Authority::Addr(address) => {
            let at = NetworkAddr::new(tunnel.network, address.ip());
            match index.service_at(&at, namespace) {
                Some(service) => (service, *address),
                None => return workload(index, tunnel, &at, *address),
            }
        }
        Authority::Host(host, port) => {
            let service = index.service_by_hostname(host, namespace);
            let service = service.ok_or_else(|| foreign(&authority))?;
            let vip = service.vips.first().ok_or_else(|| {
                Refusal::unavailable(format!("service {} has no virtual IP", service.key))
            })?;
            (service, SocketAddr::new(vip.net.addr(), *port))
        }
    };
    if !serves(index, service, tunnel.waypoint) {
        return Err(foreign(&authority));
    }
    let port = service
        .ports
        .iter()
        .find(|it| it.service_port == address.port());
    let port = port.ok_or_else(|| {
        let text = format!("service {} has no port {}", service.key, address.port());
        Refusal::new(404, super::ResponseFlag::Connect, text)
    })?;
    Ok(GatewayTarget {
        services: vec![service.key.clone()],
        protocol: port.app_protocol,
        bound: BoundTo::Service(service.clone()),
        address,
    })
}

fn workload(
    index: &Index,
    tunnel: &GatewayTunnel<'_>,
    at: &NetworkAddr,
    address: SocketAddr,
) -> Result<GatewayTarget, Refusal> {
    let no = || foreign(&Authority::Addr(address));
    let workload = index.workload_at(at).ok_or_else(no)?;
    let served: Vec<&Arc<Service>> = workload
        .services
        .iter()
        .filter_map(|(key, ports)| {
            let service = index.service(key)?;
            serves_on(service, ports, address.port()).then_some(service)
        })
        .collect();
    let mine = |gateway: &GatewayAddress| is_mine(index, gateway, tunnel.waypoint);
    let mut services = served.iter();
    let bound = workload.waypoint.as_ref().is_some_and(mine)
        || services.any(|service| serves(index, service, tunnel.waypoint));
    if !bound {
        return Err(no());
    }
    let protocol = workload.services.iter().find_map(|(key, ports)| {
        let service = index.service(key)?;
        let mappings = service.ports.iter();
        let mut leading = mappings
            .filter(|it| target_port(service, ports, it.service_port) == Some(address.port()));
        leading.next().map(|it| it.app_protocol)
    });
    Ok(GatewayTarget {
        services: served.iter().map(|service| service.key.clone()).collect(),
        protocol: protocol.unwrap_or(AppProtocol::Unknown),
        bound: BoundTo::Workload(workload.clone()),
        address,
    })
}

/// Whether this waypoint is one of a service's.
fn serves(index: &Index, service: &Service, waypoint: &NamespacedName) -> bool {
    let mut all = service.waypoints();
    all.any(|gateway| is_mine(index, gateway, waypoint))
}

/// Whether a client that came now for the same target would be sent to this waypoint. One that has a share of nothing, or
/// that a service is about to leave, ends what it has.
#[must_use]
pub fn is_sent_here(
    index: &Index,
    target: &GatewayTarget,
    caller: &Identity,
    waypoint: &NamespacedName,
) -> bool {
    let is_sent = |service: &Service| {
        let mut all = service.sent_to();
        all.any(|gateway| is_mine(index, gateway, waypoint))
    };
    match &target.bound {
        BoundTo::Service(service) => match index.service(&service.key) {
            // Mostly it is not the one that has changed.
            Some(now) if Arc::ptr_eq(now, service) => is_sent(now),
            Some(now) => leads_to(target.address, now, caller) && is_sent(now),
            None => false,
        },
        // A pod that is gone ends its connections itself.
        BoundTo::Workload(workload) => index.workload(&workload.uid).is_none_or(|now| {
            let own = now.waypoint.as_ref();
            let mut services = target.services.iter();
            own.is_some_and(|gateway| is_mine(index, gateway, waypoint))
                || services.any(|key| index.service(key).is_some_and(|it| is_sent(it)))
        }),
    }
}

/// Whether this address and port is a service's, and the service one that the caller may see.
fn leads_to(address: SocketAddr, service: &Service, caller: &Identity) -> bool {
    let is_seen = !service.namespace_private || service.key.namespace == *caller.namespace();
    let mut vips = service.vips.iter();
    let mut ports = service.ports.iter();
    is_seen
        && vips.any(|it| it.net.contains(&address.ip()))
        && ports.any(|it| it.service_port == address.port())
}

/// Whether a binding names this waypoint.
fn is_mine(index: &Index, gateway: &GatewayAddress, waypoint: &NamespacedName) -> bool {
    match index.destination(&gateway.destination) {
        Some(At::Service(service)) => service.key == *waypoint,
        _ => false,
    }
}

fn foreign(authority: &Authority) -> Refusal {
    Refusal::new(
        404,
        super::ResponseFlag::Connect,
        format!("{authority} is not bound to this waypoint"),
    )
}

/// The way of a waypoint that runs as `from` to an endpoint of a service's port. `None`: it does not serve
/// the port, or has no address that the waypoint can reach.
#[must_use]
pub fn upstream_of_endpoint(
    service: &Service,
    port: u16,
    endpoint: &Endpoint,
    from: &Workload,
) -> Option<Upstream> {
    let mapping = service.ports.iter().find(|it| it.service_port == port)?;
    let workload = endpoint.workload();
    let dialled = from.addresses.first().copied();
    let dialled = dialled.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let tunnel = tunnel(workload, &service.subject_alt_names);
    let ip = match workload.is_host() {
        // A tunnel is to an address.
        true if tunnel.is_some() => return None,
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => reachable_ip(workload, from, dialled)?,
    };
    let port = target_port(service, endpoint.ports(), port)?;
    Some(Upstream {
        tunnel,
        protocol: mapping.app_protocol,
        workload: workload.clone(),
        address: SocketAddr::new(ip, port),
    })
}

/// The way to a pod that was addressed itself.
#[must_use]
pub fn upstream_of_workload(
    workload: &Arc<Workload>,
    address: SocketAddr,
    protocol: AppProtocol,
) -> Upstream {
    Upstream {
        workload: workload.clone(),
        address,
        protocol,
        tunnel: tunnel(workload, &[]),
    }
}

fn tunnel(workload: &Workload, names: &[Identity]) -> Option<Arc<[Identity]>> {
    is_tunneled(workload).then(|| identities(workload, names).into())
}
