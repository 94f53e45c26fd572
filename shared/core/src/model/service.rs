//! A service: virtual IPs, ports and how a workload behind them is chosen.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::GatewayAddress;
use crate::addr::NamespacedName;
use crate::identity::Identity;

/// A service as discovery describes it. Its endpoints are the workloads that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its Kubernetes name.
    pub name: Arc<str>,
    /// `namespace/hostname`: its key in the index.
    pub key: NamespacedName,
    /// Virtual IPs; none for a headless service.
    pub vips: Vec<Vip>,
    /// Service ports. A target port of 0 means: the workload says.
    pub ports: Vec<PortMapping>,
    /// Those of UDP, which may have numbers that those of TCP have too. Nothing is declared of what is spoken there.
    pub udp_ports: Vec<PortMapping>,
    /// Identities its servers may show besides the workload's own.
    pub subject_alt_names: Vec<Identity>,
    /// Traffic to this service goes through here.
    pub waypoint: Option<GatewayAddress>,
    /// How its new connections are shared out among waypoints, `waypoint` being one of them; empty when that one takes
    /// them all.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// The waypoint may be gone around: by who calls a pod, and by all while it has no instance. For
    /// migration, by a label of the service.
    pub waypoint_bypass: bool,
    /// Direct calls to its pods are taken as well: it comes to a waypoint, or leaves one, and not all know yet.
    pub takes_direct: bool,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// Preferred among services that share a hostname or address.
    pub canonical: bool,
    /// Gateways at the edge send through the waypoint as well.
    pub ingress_use_waypoint: bool,
    /// Seen only by clients of its own namespace.
    pub namespace_private: bool,
    /// The addresses of its endpoints that are its own.
    pub ip_families: IpFamilies,
    /// Names of its ports, for DNS; none when discovery does not say.
    pub port_names: Vec<PortName>,
}

impl Service {
    /// All waypoints that calls may come through, the one of [`Service::waypoint`] first. Also one that is drawn for no
    /// new connection serves those that it has, and one that the service comes from or goes to those that are sent there.
    pub fn waypoints(&self) -> impl Iterator<Item = &GatewayAddress> {
        let others = self.weighted_waypoints.iter().map(|it| &it.waypoint);
        let others = others.filter(|it| Some(*it) != self.waypoint.as_ref());
        self.waypoint.iter().chain(others)
    }

    /// The waypoints that new calls are sent to: the one of [`Service::waypoint`], and those with a share.
    pub fn sent_to(&self) -> impl Iterator<Item = &GatewayAddress> {
        let shares = self.weighted_waypoints.iter().filter(|it| it.weight > 0);
        self.waypoint.iter().chain(shares.map(|it| &it.waypoint))
    }

    /// Whether its pods take calls that came through none of its waypoints.
    #[must_use]
    pub fn takes_direct_calls(&self) -> bool {
        self.waypoint.is_none() || self.waypoint_bypass || self.takes_direct
    }
}

/// One of several waypoints of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightedWaypoint {
    #[allow(missing_docs)]
    pub waypoint: GatewayAddress,
    /// Its share of new connections, as part of the sum of all weights.
    pub weight: u32,
}

/// The name of a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortName {
    /// The port that clients use.
    pub port: u16,
    #[allow(missing_docs)]
    pub name: Arc<str>,
}

/// The address families of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum IpFamilies {
    /// Those of its addresses.
    #[default]
    Automatic,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

/// A virtual IP or range, on a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Vip {
    /// The network it is valid on.
    pub network: Arc<str>,
    /// Host routes (/32, /128) are single addresses.
    pub net: IpNet,
}

/// A service port and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PortMapping {
    /// The port clients use, 1-65535.
    pub service_port: u16,
    /// The port of the workload; 0 in a [`Service`] means that the workload says.
    pub target_port: u16,
    /// What is spoken there, when declared.
    pub app_protocol: AppProtocol,
}

/// A declared application protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum AppProtocol {
    Unknown,
    Http11,
    Http2,
    Grpc,
    Tcp,
    Tls,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct LoadBalancing {
    /// Scopes to match, the most important first.
    pub preference: Vec<Scope>,
    /// What a mismatch means.
    pub mode: Mode,
    /// Unhealthy endpoints are used as well (`publishNotReadyAddresses`).
    pub allow_unhealthy: bool,
    /// Connections of one client address go to the same endpoint (`sessionAffinity: ClientIP`).
    pub client_affinity: bool,
}

/// A circle around the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum Scope {
    Region,
    Zone,
    Subzone,
    Node,
    Cluster,
    Network,
}

/// What a mismatch of a [`Scope`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum Mode {
    /// All endpoints are equal.
    #[default]
    Unspecified,
    /// Only endpoints that match every scope.
    Strict,
    /// Those that match the most leading scopes.
    Failover,
    /// No balancing: the address the client dialled.
    Passthrough,
}
