//! The lab's nodes as the API server knows them: registered as a kubelet registers itself, and alive
//! as long as their leases are renewed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::FIELD_MANAGER;
use crate::api::now;
use crate::cluster::{Cluster, LabNode};
use crate::daemon::node_object;
use crate::kubelet;
use crate::net::plan;

const LEASES: &str = "kube-node-lease";
/// How often a node says that it is alive, and how long that is believed, as a kubelet's defaults.
const BEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

/// Says that the lab's nodes are there and ready.
///
/// # Errors
/// What the API server refuses.
pub(super) async fn register(client: &Client, cluster: &Cluster) -> kube::Result<()> {
    for node in &cluster.nodes {
        apply(client, node).await?;
        renew(client, node).await?;
    }
    Ok(())
}

/// Keeps the nodes alive for ever.
pub(super) async fn beat(client: Client, cluster: Arc<Cluster>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for node in cluster.nodes.iter().filter(|node| node.is_on()) {
            let mut done = renew(&client, node).await;
            let key = crate::api::Key::new("", &node.name);
            // Somebody removed it, or the API server lost it: a kubelet comes back.
            if done.is_ok() && cluster.read(|store| !store.nodes.contains(&key)) {
                done = apply(&client, node).await;
            }
            if let Err(error) = done {
                tracing::warn!(node = %node.name, %error, "the API server did not hear of a node");
            }
        }
    }
}

async fn apply(client: &Client, node: &LabNode) -> kube::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let mut object = node_object(node);
    // These are the API server's to say.
    object.metadata.uid = None;
    object.metadata.creation_timestamp = None;
    let mut status = object.status.take().unwrap_or_default();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&node.name, &parameters, &Patch::Apply(&object))
        .await?;
    describe(&mut status);
    // Not applied: to server-side apply two addresses of one type are the same address twice.
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let change = Patch::Merge(json!({ "status": status }));
    api.patch_status(&node.name, &parameters, &change).await?;
    Ok(())
}

fn describe(status: &mut NodeStatus) {
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", "64".to_owned()),
        ("memory", "256Gi".to_owned()),
        ("ephemeral-storage", "1Ti".to_owned()),
        ("pods", plan::MOST_PODS.to_string()),
    ]
    .into_iter()
    .map(|(name, quantity)| (name.to_owned(), Quantity(quantity)))
    .collect();
    status.capacity = Some(resources.clone());
    status.allocatable = Some(resources);
    status.node_info = Some(NodeSystemInfo {
        architecture: std::env::consts::ARCH.to_owned(),
        container_runtime_version: "lab://1".to_owned(),
        kernel_version: kernel(),
        kubelet_version: concat!("v", env!("CARGO_PKG_VERSION"), "-lab").to_owned(),
        operating_system: "linux".to_owned(),
        ..NodeSystemInfo::default()
    });
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint {
            port: kubelet::PORT.into(),
        }),
    });
    status.conditions = Some(conditions());
}

/// The release of the kernel, which all nodes share with the machine.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

fn conditions() -> Vec<NodeCondition> {
    [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ]
    .into_iter()
    .map(|(type_, status, reason)| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        last_heartbeat_time: Some(now()),
        last_transition_time: Some(now()),
        ..NodeCondition::default()
    })
    .collect()
}

async fn renew(client: &Client, node: &LabNode) -> kube::Result<()> {
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.name.clone()),
            namespace: Some(LEASES.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&node.name, &parameters, &Patch::Apply(&lease))
        .await?;
    Ok(())
}
