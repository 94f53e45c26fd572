//! To another network: addresses of one mean nothing on another, so its pods are reached through its gateway.
//!
//! The gateway is asked for a tunnel to a pod's HBONE port and relays it. In it is another one, by which the pod and its caller
//! prove to each other who they are (double HBONE): the gateway sees neither what is asked for nor what is carried. So it leads
//! to tunnels of its own network and to nothing else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::planner::identities;
use super::reasons::Named;
use super::target::{fitting, is_tunneled, target_port};
use super::waypoint::Shown;
use super::{HBONE_PORT, Outbound};
use crate::balance::{Picker, pick};
use crate::identity::Identity;
use crate::index::{Endpoint, Index, Target};
use crate::model::{Destination, GatewayAddress, Health, Service, Workload};

/// The gateway of another network that a tunnel goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Where the outer TLS connection goes.
    pub target: SocketAddr,
    /// The gateway must show exactly one of these.
    pub identities: Vec<Identity>,
    /// The instance of the gateway.
    pub workload: Arc<Workload>,
}

/// Who may be asked for a tunnel into a network.
enum Entrance<'a> {
    /// One of the endpoints of the gateway's service.
    Service(&'a Service),
    /// What is at the address by which others reach the gateway.
    Workload(&'a Arc<Workload>, SocketAddr),
}

/// The pod's address as its gateway knows it. None when no gateway leads to it.
pub(super) fn address(index: &Index, outbound: &Outbound<'_>, to: &Workload) -> Option<IpAddr> {
    let entrance = entrance(index, to).ok()?;
    let open = match entrance {
        Entrance::Workload(gateway, _) => !outbound.exclude.contains(&gateway.uid),
        Entrance::Service(service) => {
            let mut instances = index.endpoints(&service.key)?.iter();
            let port = to.network_gateway.as_ref()?.hbone_port;
            instances.any(|it| {
                let ready = it.workload().health == Health::Healthy;
                ready && instance(outbound, service, port, it).is_some()
            })
        }
    };
    to.addresses.first().copied().filter(|_| open)
}

/// An instance of the gateway that leads to a pod.
///
/// # Errors
/// Why there is none.
pub(super) fn gateway(
    index: &Index,
    outbound: &Outbound<'_>,
    to: &Workload,
    picker: &mut impl Picker,
) -> Result<Gateway, String> {
    let (service, port) = match entrance(index, to)? {
        Entrance::Workload(workload, target) => {
            return Ok(Gateway {
                target,
                identities: identities(workload, &[]),
                workload: workload.clone(),
            });
        }
        Entrance::Service(service) => {
            let gateway = to.network_gateway.as_ref();
            (service, gateway.map_or(HBONE_PORT, |it| it.hbone_port))
        }
    };
    let picked = index.endpoints(&service.key).and_then(|endpoints| {
        let able = |endpoint| instance(outbound, service, port, endpoint);
        let how = &service.load_balancing;
        pick(endpoints, how, outbound.source, picker, able)
    });
    let (endpoint, target) = picked.ok_or_else(|| {
        format!(
            "gateway {} of network {} has no instance that is ready and takes connections",
            service.key, to.network
        )
    })?;
    Ok(Gateway {
        target,
        identities: identities(endpoint.workload(), &service.subject_alt_names),
        workload: endpoint.workload().clone(),
    })
}

/// Why a workload of another network is not reached; that what would be asked takes no connections, when nothing else is wrong.
pub(super) fn why_not(index: &Index, to: &Workload) -> String {
    match entrance(index, to) {
        Ok(_) => format!("no gateway of network {} takes connections", to.network),
        Err(why) => why,
    }
}

fn entrance<'a>(index: &'a Index, to: &Workload) -> Result<Entrance<'a>, String> {
    if !is_tunneled(to) {
        return Err(format!(
            "{} is on network {:?} and not in the mesh; only tunnels go through a gateway",
            Named(to),
            to.network
        ));
    }
    let Some(gateway) = &to.network_gateway else {
        return Err(format!(
            "network {:?} is another one and has no gateway",
            to.network
        ));
    };
    let GatewayAddress {
        destination,
        hbone_port,
    } = gateway;
    let found = match destination {
        // Whatever service has taken the same address is somebody else.
        Destination::Address(at) => index
            .workload_at(at)
            .map(|it| Entrance::Workload(it, SocketAddr::new(at.ip, *hbone_port))),
        Destination::Hostname(_) => match index.destination(destination) {
            Some(Target::Service(service)) => Some(Entrance::Service(service)),
            _ => None,
        },
    };
    found.ok_or_else(|| {
        format!(
            "gateway {} of network {:?} does not exist",
            Shown(destination),
            to.network
        )
    })
}

/// Where an instance of a gateway is reached, if it has an address for the client and has not failed.
fn instance(
    outbound: &Outbound<'_>,
    gateway: &Service,
    port: u16,
    endpoint: &Endpoint,
) -> Option<SocketAddr> {
    let workload = endpoint.workload();
    if outbound.exclude.contains(&workload.uid) || !is_tunneled(workload) {
        return None;
    }
    let like = outbound.destination.ip().to_canonical();
    let ip = fitting(&workload.addresses, outbound.source, like)?;
    let port = target_port(gateway, endpoint.ports(), port).unwrap_or(port);
    Some(SocketAddr::new(ip, port))
}
