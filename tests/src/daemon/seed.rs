//! The objects that a cluster has before anything is applied.

use ambit_control::translate::labels::NETWORK;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, ServiceAccount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{new_uid, now};
use crate::cluster::{Cluster, LabNode};
use crate::controllers::{SYSTEM_NAMESPACES, namespace};
use crate::mesh::virtual_pod;
use crate::net::plan;

/// Puts namespaces, nodes and the proxies' own pods into the store.
pub(super) fn seed(cluster: &Cluster) {
    cluster.write(|store| {
        for name in SYSTEM_NAMESPACES {
            store.namespaces.put(namespace(name));
        }
        for node in &cluster.nodes {
            store.nodes.put(node_object(node));
        }
        if !cluster.settings.mesh {
            return;
        }
        store.service_accounts.put(ServiceAccount {
            metadata: ObjectMeta {
                name: Some("ztunnel".to_owned()),
                namespace: Some("ambit-system".to_owned()),
                uid: Some(new_uid()),
                creation_timestamp: Some(now()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        });
        for node in &cluster.nodes {
            store.pods.put(virtual_pod(node));
        }
    });
}

/// A node as its kubelet describes it.
pub(crate) fn node_object(node: &LabNode) -> Node {
    let network = (!node.network.is_empty()).then(|| (NETWORK, node.network.clone()));
    let labels = [
        ("kubernetes.io/hostname", node.name.clone()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("topology.kubernetes.io/region", "lab".to_owned()),
        (
            "topology.kubernetes.io/zone",
            format!("lab-{}", node.number),
        ),
    ];
    let address = |type_: &str, address: String| NodeAddress {
        address,
        type_: type_.to_owned(),
    };
    let mut addresses = vec![address("Hostname", node.name.clone())];
    for ip in plan::node(node.number).both() {
        addresses.push(address("InternalIP", ip.to_string()));
    }
    let range = plan::pod_range(node.number);
    let ranges = vec![
        format!("{}/{}", range.v4, plan::POD_PREFIX.0),
        format!("{}/{}", range.v6, plan::POD_PREFIX.1),
    ];
    Node {
        metadata: ObjectMeta {
            name: Some(node.name.clone()),
            uid: Some(new_uid()),
            creation_timestamp: Some(now()),
            labels: Some(
                labels
                    .into_iter()
                    .chain(network)
                    .map(|(key, it)| (key.to_owned(), it))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: ranges.first().cloned(),
            pod_cidrs: Some(ranges),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            addresses: Some(addresses),
            conditions: Some(vec![NodeCondition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(now()),
                ..NodeCondition::default()
            }]),
            ..NodeStatus::default()
        }),
    }
}
