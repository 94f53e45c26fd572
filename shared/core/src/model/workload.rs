//! A workload: one pod, virtual machine or external endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::PortMapping;
use crate::addr::{NamespacedName, NetworkAddr};
use crate::identity::Identity;

/// One pod, virtual machine or external endpoint, as discovery describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// `cluster/group/kind/namespace/name[/section]`; unique in the mesh.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// Its IP addresses, canonical form; may be empty when it has a hostname.
    pub addresses: Vec<IpAddr>,
    /// A DNS name instead of addresses, or empty.
    pub hostname: Arc<str>,
    /// The network its addresses are on.
    pub network: Arc<str>,
    /// What its certificate says; namespace equals [`Workload::namespace`].
    pub identity: Identity,
    /// How it is reached.
    pub tunnel_protocol: TunnelProtocol,
    /// It terminates HBONE itself, without a node proxy.
    pub native_tunnel: bool,
    /// Traffic addressed to this workload goes through here.
    pub waypoint: Option<GatewayAddress>,
    /// The gateway of its network, for callers on another one.
    pub network_gateway: Option<GatewayAddress>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// The cluster it belongs to.
    pub cluster_id: Arc<str>,
    /// For telemetry: `service.istio.io/canonical-name` or the app's name.
    pub canonical_name: Arc<str>,
    /// For telemetry: revision of the canonical service.
    pub canonical_revision: Arc<str>,
    /// For telemetry: what owns the pod.
    pub workload_type: WorkloadType,
    /// For telemetry: name of the owner.
    pub workload_name: Arc<str>,
    /// Policies with a selector that select this workload.
    pub authorization_policies: Vec<NamespacedName>,
    /// Whether it wants new connections.
    pub health: Health,
    /// The services it is an endpoint of, with the ports it serves them on.
    pub services: Vec<(NamespacedName, Vec<PortMapping>)>,
    /// The UDP ports that it serves services on; those that it serves on none are left out.
    pub udp_ports: Vec<(NamespacedName, Vec<PortMapping>)>,
    /// It takes UDP in tunnels.
    pub takes_udp: bool,
    /// Wrap application data in another protocol on the last hop.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it runs.
    pub locality: Locality,
    /// Whether it has an address of its own.
    pub network_mode: NetworkMode,
    /// Relative weight in load balancing, at least 1.
    pub capacity: u32,
}

impl Workload {
    /// Its addresses as keys.
    pub fn network_addrs(&self) -> impl Iterator<Item = NetworkAddr> + '_ {
        self.addresses
            .iter()
            .map(|ip| NetworkAddr::new(self.network.clone(), *ip))
    }

    /// The UDP ports that it serves a service on.
    #[must_use]
    pub fn udp_ports_of(&self, service: &NamespacedName) -> &[PortMapping] {
        let mut all = self.udp_ports.iter();
        let found = all.find(|(key, _)| key == service);
        found.map_or(&[], |(_, ports)| ports)
    }

    /// Whether it runs on a node, and has its address from there.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        !self.node.is_empty()
    }

    /// Whether it is known by the name of a host alone.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.addresses.is_empty() && !self.hostname.is_empty()
    }
}

/// How a workload is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TunnelProtocol {
    /// Plain TCP.
    None,
    /// HTTP/2 CONNECT over mutual TLS on port 15008.
    Hbone,
    /// Sidecar mutual TLS; reached as plain TCP by a node proxy.
    LegacyIstioMtls,
}

/// Whether a workload wants new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Health {
    /// Yes.
    Healthy,
    /// Only when the service says so.
    Unhealthy,
}

/// Whether a workload shares its node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum NetworkMode {
    /// It has its own.
    Standard,
    /// It shares the node's; its address does not identify it.
    HostNetwork,
}

/// What owns a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum WorkloadType {
    Deployment,
    CronJob,
    Pod,
    Job,
}

/// Where a workload runs; empty parts are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Default)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Arc<str>,
    /// `topology.istio.io/subzone`.
    pub subzone: Arc<str>,
}

/// Application data is wrapped in PROXY protocol v2 on its way into the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ApplicationTunnel {
    /// The port that accepts it; `None` means the port that was asked for.
    pub port: Option<u16>,
}

/// A gateway (waypoint or network gateway) and its HBONE port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct GatewayAddress {
    /// Where it is.
    pub destination: Destination,
    /// Its HBONE port, usually 15008.
    pub hbone_port: u16,
}

/// How a gateway is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Destination {
    /// By address, of a service or a workload.
    Address(NetworkAddr),
    /// By the service it is.
    Hostname(NamespacedName),
}
