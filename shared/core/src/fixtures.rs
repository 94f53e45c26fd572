//! Small worlds for tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addr::NamespacedName;
use crate::identity::Identity;
use crate::index::{Change, Index};
use crate::model::policy::Scope;
use crate::model::{
    Action, AppProtocol, AuthorizationPolicy, Clause, Destination, GatewayAddress, Health,
    IpFamilies, LoadBalancing, Locality, Match, NetworkMode, PortMapping, Rule, Service,
    TunnelProtocol, Vip, Workload, WorkloadType,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn sock(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

pub(crate) fn key(text: &str) -> NamespacedName {
    text.parse().expect("namespace/name")
}

pub(crate) fn identity(namespace: &str, account: &str) -> Identity {
    Identity::new("cluster.local", namespace, account).expect("an identity")
}

/// An enrolled pod `name` of namespace `ns`, service account like its name, on node-1.
pub(crate) fn pod(name: &str, addresses: &[&str]) -> Workload {
    pod_in("ns", name, addresses)
}

pub(crate) fn pod_in(namespace: &str, name: &str, addresses: &[&str]) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}").into(),
        name: name.into(),
        namespace: namespace.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        hostname: "".into(),
        network: "".into(),
        identity: identity(namespace, name),
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
        services: Vec::new(),
        application_tunnel: None,
        locality: Locality::default(),
        network_mode: NetworkMode::Standard,
        capacity: 1,
        udp_ports: Vec::new(),
        takes_udp: false,
    }
}

pub(crate) fn ports(mappings: &[(u16, u16)]) -> Vec<PortMapping> {
    mappings
        .iter()
        .map(|(service_port, target_port)| PortMapping {
            service_port: *service_port,
            target_port: *target_port,
            app_protocol: AppProtocol::Unknown,
        })
        .collect()
}

impl Workload {
    /// As an endpoint of a service.
    pub(crate) fn serving(mut self, service: &str, mappings: &[(u16, u16)]) -> Self {
        self.services.push((key(service), ports(mappings)));
        self
    }
}

/// A service `namespace/name`, its hostname like its name, port 80 to 8080.
pub(crate) fn service(name: &str, vips: &[&str]) -> Service {
    Service {
        name: key(name).name,
        key: key(name),
        vips: vips.iter().map(|text| vip(text)).collect(),
        ports: ports(&[(80, 8080)]),
        subject_alt_names: Vec::new(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        waypoint_bypass: false,
        takes_direct: false,
        load_balancing: LoadBalancing::default(),
        canonical: false,
        ingress_use_waypoint: false,
        namespace_private: false,
        ip_families: IpFamilies::Automatic,
        port_names: Vec::new(),
        udp_ports: Vec::new(),
    }
}

/// An address or a range on the default network.
pub(crate) fn vip(text: &str) -> Vip {
    let net = text
        .parse()
        .or_else(|_| text.parse().map(|ip: IpAddr| ip.into()));
    Vip {
        network: "".into(),
        net: net.expect("an address or a range"),
    }
}

pub(crate) fn by_hostname(service: &str) -> GatewayAddress {
    GatewayAddress {
        destination: Destination::Hostname(key(service)),
        hbone_port: 15008,
    }
}

/// An ALLOW policy of its namespace with these matches, each in a rule of its own.
pub(crate) fn policy(name: &str, matches: Vec<Match>) -> AuthorizationPolicy {
    let rule = |m| Rule {
        clauses: vec![Clause { matches: vec![m] }],
    };
    AuthorizationPolicy {
        key: key(name),
        scope: Scope::Namespace,
        action: Action::Allow,
        rules: matches.into_iter().map(rule).collect(),
        dry_run: false,
    }
}

/// A synced index with these.
pub(crate) fn index(changes: impl IntoIterator<Item = Change>) -> Index {
    let mut index = Index::default();
    index.apply(Change::PoliciesSynced);
    for change in changes {
        index.apply(change);
    }
    index
}

impl From<Workload> for Change {
    fn from(workload: Workload) -> Self {
        Self::Workload(Arc::new(workload))
    }
}

impl From<Service> for Change {
    fn from(service: Service) -> Self {
        Self::Service(Arc::new(service))
    }
}

impl From<AuthorizationPolicy> for Change {
    fn from(policy: AuthorizationPolicy) -> Self {
        Self::Policy(Arc::new(policy))
    }
}
