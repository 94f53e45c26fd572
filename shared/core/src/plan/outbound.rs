//! Where a connection that a pod opened goes, and how.
//!
//! In this order: a service by its virtual IP (through its waypoint, or to one endpoint), a
//! workload by its address (through its waypoint, or directly), anything else as it is, unless the
//! mesh lets nothing else be reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::network::Gateway;
use super::planner::Planner;
use super::{OutboundTrafficPolicy, Refusal, Transport, is_own_port};
use crate::addr::NetworkAddr;
use crate::balance::Picker;
use crate::hbone::Authority;
use crate::identity::Identity;
use crate::index::Index;
use crate::model::{Service, Workload};

/// The addresses of a host, if they are known.
type Hosts<'a> = dyn Fn(&Arc<str>) -> Option<Vec<IpAddr>> + 'a;

/// A captured connection.
#[derive(Clone, Copy)]
pub struct Outbound<'a> {
    /// The pod that opened it.
    pub source: &'a Workload,
    /// Its end of the connection.
    pub source_addr: SocketAddr,
    /// What it dialled.
    pub destination: SocketAddr,
    /// What carries it.
    pub transport: Transport,
    /// Whether this node proxy serves that workload too, so that no wire lies between.
    pub local: &'a dyn Fn(&Workload) -> bool,
    /// Streams that the pod has to a peer at this address with these identities. Among the instances of
    /// a waypoint the less busy one is taken, so that one that was added gets its share.
    pub streams: &'a dyn Fn(SocketAddr, &[Identity]) -> usize,
    /// The addresses of a host, for an endpoint that has its name in the place of addresses: the first that fits is taken. `None` when
    /// they are not known yet: who is asked in vain finds them out, and plans again.
    pub hosts: &'a Hosts<'a>,
    /// Uids of endpoints that were tried in vain.
    pub exclude: &'a [Arc<str>],
    /// What becomes of it if nobody knows the destination.
    pub policy: OutboundTrafficPolicy,
}

impl fmt::Debug for Outbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("source", &self.source.uid)
            .field("source_addr", &self.source_addr)
            .field("destination", &self.destination)
            .field("transport", &self.transport)
            .field("exclude", &self.exclude)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundPlan {
    /// How the bytes travel.
    pub kind: OutboundKind,
    /// The workload at the end of this hop (the waypoint's, when there is one), if known.
    pub workload: Option<Arc<Workload>>,
    /// The service that was dialled, if it was one.
    pub service: Option<Arc<Service>>,
}

/// How the bytes travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboundKind {
    /// In an HBONE tunnel.
    Hbone(Tunnel),
    /// To a pod of this node: plan it inbound, authorize with the identities the kernel vouches
    /// for, and relay between the two sockets.
    Local {
        /// The pod.
        workload: Arc<Workload>,
        /// Its address and port.
        destination: SocketAddr,
    },
    /// As they are.
    Plain {
        /// Where.
        target: SocketAddr,
    },
}

/// A tunnel to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Where the TLS connection goes.
    pub target: SocketAddr,
    /// What the CONNECT asks for.
    pub authority: Authority,
    /// The server must show exactly one of these.
    pub identities: Vec<Identity>,
    /// What is at the other end.
    pub hop: Hop,
    /// The gateway that relays the TLS connection, which is then asked for `target`: its network is another one.
    pub gateway: Option<Gateway>,
}

/// What is at the other end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The destination itself.
    Workload,
    /// A waypoint, which goes on from there.
    Waypoint,
}

/// Decides where a captured connection goes.
///
/// # Errors
/// A [`Refusal`] when it must not or cannot go anywhere. Traffic for something bound to a
/// waypoint never goes around it; UDP, which waypoints do not carry, does not go there at all.
pub fn plan_outbound(
    index: &Index,
    outbound: &Outbound<'_>,
    picker: &mut impl Picker,
) -> Result<OutboundPlan, Refusal> {
    let source = outbound.source;
    let dialled = canonical(outbound.destination);
    let in_the_pod = dialled.ip().is_loopback() || source.addresses.contains(&dialled.ip());
    if is_own_port(dialled.port()) && in_the_pod {
        return Err(Refusal::unavailable(format!(
            "{dialled} is a port of the node proxy in the pod itself, not of an application"
        )));
    }
    let mut planner = Planner::new(index, outbound, dialled, picker);
    let addr = NetworkAddr::new(source.network.clone(), dialled.ip());
    if let Some(service) = index.service_at(&addr, &source.namespace) {
        return planner.plan_service(service, index.workload_at(&addr));
    }
    if let Some(workload) = index.workload_at(&addr) {
        return planner.plan_workload(workload);
    }
    // The node of a pod that shares its address is known as that pod is.
    let known = in_the_pod || index.is_of_a_node(&addr);
    let policy = outbound.policy;
    if policy == OutboundTrafficPolicy::RegistryOnly && !known {
        return Err(Refusal::denied(format!(
            "{dialled} is no service and no workload that the mesh knows, and the outbound traffic policy is \
             {policy}; a ServiceEntry makes it known"
        )));
    }
    Ok(OutboundPlan {
        kind: OutboundKind::Plain { target: dialled },
        workload: None,
        service: None,
    })
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
