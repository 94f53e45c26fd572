//! Networks: islands whose pods reach each other by address, and the gateways that lead into them.
//!
//! A pod is on the network that its own label names, else that of its node, else the cluster's, which the root namespace's label
//! names, else control's flag. A Gateway of one of [`CLASSES`] leads into the network that its label names. Addresses of services mean the same on all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::addr::{NamespacedName, NetworkAddr};
use ambit_core::identity::Identity;
use ambit_core::model::{
    Destination, GatewayAddress, Health, Locality, NetworkMode, TunnelProtocol, Vip, Workload,
    WorkloadType,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Mesh;
use super::entry::age;
use super::labels::{NETWORK, label};
use super::waypoint::HBONE_PORT;
use crate::index::objects::Objects;
use crate::source::gateway::Gateway;

/// The classes of Gateways that lead into a network.
pub const CLASSES: [&str; 2] = ["ambit-east-west", "istio-east-west"];

/// The networks that nodes, gateways and the root namespace name, and who leads into them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// The root namespace's word for the cluster's.
    home: Option<Arc<str>>,
    names: BTreeSet<Arc<str>>,
    /// Of several Gateways the oldest, then the first by namespace and name.
    gateways: BTreeMap<Arc<str>, NamespacedName>,
}

impl Networks {
    /// Those of these objects.
    #[must_use]
    pub fn of(objects: &Objects, mesh: &Mesh) -> Self {
        let root = objects.namespaces.find("", &mesh.root_namespace);
        let home: Option<Arc<str>> = root.and_then(|it| named(&it.metadata)).map(Arc::from);
        let mut found = Self {
            names: home.iter().cloned().collect(),
            home,
            ..Self::default()
        };
        for (_, _, node) in objects.nodes.all() {
            found.names.extend(named(&node.metadata).map(Arc::from));
        }
        let mut leading: Vec<_> = objects
            .gateways
            .all()
            .filter_map(|(namespace, name, it)| Some((leads_into(it)?, namespace, name, it)))
            .collect();
        leading.sort_by_key(|(_, namespace, name, it)| (age(&it.metadata), *namespace, *name));
        for (network, namespace, name, gateway) in leading {
            found.names.insert(network.into());
            // One that nobody can reach keeps no other from it.
            if addresses(gateway).is_ok() {
                let gateway = NamespacedName::new(namespace.clone(), name.clone());
                found.gateways.entry(network.into()).or_insert(gateway);
            }
        }
        found
    }

    /// The cluster's.
    pub(super) fn home<'a>(&'a self, mesh: &'a Mesh) -> &'a Arc<str> {
        self.home.as_ref().unwrap_or(&mesh.network)
    }

    /// The Gateway that leads into a network.
    #[must_use]
    pub fn gateway(&self, network: &str) -> Option<&NamespacedName> {
        self.gateways.get(network)
    }
}

/// The network that an object's label names.
#[must_use]
pub fn named(metadata: &ObjectMeta) -> Option<&str> {
    label(metadata, NETWORK).filter(|network| !network.is_empty())
}

/// Whether a Gateway is one that leads into a network, or would if it said which.
#[must_use]
pub fn is_gateway(gateway: &Gateway) -> bool {
    CLASSES.contains(&gateway.spec.gateway_class_name.as_str())
}

/// The network that a Gateway leads into.
#[must_use]
pub fn leads_into(gateway: &Gateway) -> Option<&str> {
    named(&gateway.metadata).filter(|_| is_gateway(gateway))
}

/// The addresses at which other networks reach a Gateway, where it says so; the first one counts.
///
/// # Errors
/// One that is no IP address.
pub fn addresses(gateway: &Gateway) -> Result<Vec<IpAddr>, String> {
    let Some(addresses) = gateway.spec.addresses.as_ref() else {
        return Ok(Vec::new());
    };
    let addresses = addresses.as_array().map(Vec::as_slice).unwrap_or_default();
    let read = addresses.iter().enumerate().map(|(at, address)| {
        let value = address["value"].as_str().unwrap_or_default();
        let ip = value.parse::<IpAddr>().map(|ip| ip.to_canonical());
        ip.map_err(|_| format!("spec.addresses[{at}].value: {value:?} is not an IP address"))
    });
    read.collect()
}

/// The network of a pod. A name that no node and no Gateway has is none: services would have no addresses there, and what is sent
/// to them would go past the mesh.
#[must_use]
pub fn of_pod(pod: &Pod, node: Option<&Node>, objects: &Objects, mesh: &Mesh) -> Arc<str> {
    let of_node = || named(&node?.metadata);
    let known = |network: &&str| objects.networks.names.contains(*network);
    let own = named(&pod.metadata).filter(known).or_else(of_node);
    own.map_or_else(|| objects.networks.home(mesh).clone(), Arc::from)
}

/// The gateway by which others reach what is on a network.
#[must_use]
pub fn gateway_of(network: &str, objects: &Objects, mesh: &Mesh) -> Option<GatewayAddress> {
    let NamespacedName { namespace, name } = objects.networks.gateway(network)?;
    let gateway = objects.gateways.find(namespace, name)?;
    let destination = match addresses(gateway).ok()?.first() {
        Some(ip) => Destination::Address(NetworkAddr::new(network, *ip)),
        None => Destination::Hostname(mesh.service_key(namespace, name)),
    };
    Some(GatewayAddress {
        destination,
        hbone_port: HBONE_PORT,
    })
}

/// Who answers at the address that a Gateway says it is reached at.
///
/// # Errors
/// An address or a name that cannot be.
pub fn translate(
    namespace: &str,
    name: &str,
    gateway: &Gateway,
    mesh: &Mesh,
) -> Result<Vec<Workload>, String> {
    let Some(network) = leads_into(gateway) else {
        return Ok(Vec::new());
    };
    let Some(ip) = addresses(gateway)?.first().copied() else {
        return Ok(Vec::new());
    };
    let identity = Identity::new(mesh.trust_domains.own().clone(), namespace, name)
        .map_err(|error| error.to_string())?;
    let cluster = &mesh.cluster_id;
    let name: Arc<str> = name.into();
    Ok(vec![Workload {
        uid: format!("{cluster}/NetworkGateway/{namespace}/{name}/{ip}").into(),
        name: name.clone(),
        namespace: namespace.into(),
        addresses: vec![ip],
        hostname: "".into(),
        network: network.into(),
        identity,
        tunnel_protocol: TunnelProtocol::Hbone,
        native_tunnel: true,
        waypoint: None,
        // It leads to no gateway, itself included.
        network_gateway: Some(GatewayAddress {
            destination: Destination::Address(NetworkAddr::new(network, ip)),
            hbone_port: HBONE_PORT,
        }),
        node: "".into(),
        cluster_id: cluster.clone(),
        canonical_name: name.clone(),
        canonical_revision: "latest".into(),
        workload_type: WorkloadType::Deployment,
        workload_name: name,
        authorization_policies: Vec::new(),
        health: Health::Healthy,
        services: Vec::new(),
        application_tunnel: None,
        locality: Locality::default(),
        network_mode: NetworkMode::Standard,
        capacity: 1,
        udp_ports: Vec::new(),
        takes_udp: false,
    }])
}

/// The same addresses of a service on every network that is known.
#[must_use]
pub fn on_all(vips: Vec<Vip>, objects: &Objects, mesh: &Mesh) -> Vec<Vip> {
    let others = objects.networks.names.iter();
    let others = others.filter(|network| **network != mesh.network);
    let elsewhere = others.flat_map(|network| {
        vips.iter().map(|vip| Vip {
            network: network.clone(),
            net: vip.net,
        })
    });
    let elsewhere: Vec<Vip> = elsewhere.collect();
    vips.into_iter().chain(elsewhere).collect()
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
