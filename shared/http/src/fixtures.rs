//! Small worlds for tests.

use std::time::Instant;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::{
    Health, IpFamilies, LoadBalancing, Locality, NetworkMode, Service, TunnelProtocol, Workload,
    WorkloadType,
};

pub(crate) fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's zero")]
    Instant::now()
}

/// A name of namespace `ns`.
pub(crate) fn key(name: &str) -> NamespacedName {
    NamespacedName::new("ns", name)
}

/// An endpoint of the service `of`; its uid is like its name.
pub(crate) fn pod(name: &str, of: &str) -> Workload {
    Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "ns".into(),
        addresses: Vec::new(),
        hostname: "".into(),
        network: "".into(),
        identity: Identity::new("cluster.local", "ns", "default").expect("an identity"),
        tunnel_protocol: TunnelProtocol::Hbone,
        native_tunnel: false,
        waypoint: None,
        network_gateway: None,
        node: "node-1".into(),
        cluster_id: "Kubernetes".into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        workload_type: WorkloadType::Deployment,
        workload_name: name.into(),
        authorization_policies: Vec::new(),
        health: Health::Healthy,
        services: vec![(key(of), Vec::new())],
        application_tunnel: None,
        locality: Locality::default(),
        network_mode: NetworkMode::Standard,
        capacity: 1,
        udp_ports: Vec::new(),
        takes_udp: false,
    }
}

/// A service without ports.
pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        key: key(name),
        vips: Vec::new(),
        ports: Vec::new(),
        subject_alt_names: Vec::new(),
        waypoint: None,
        load_balancing: LoadBalancing::default(),
        canonical: false,
        ingress_use_waypoint: false,
        namespace_private: false,
        ip_families: IpFamilies::Automatic,
        port_names: Vec::new(),
        udp_ports: Vec::new(),
        weighted_waypoints: Vec::new(),
        waypoint_bypass: false,
        takes_direct: false,
    }
}
