//! An object of the API server as it is kept: what translation reads, and no more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use crate::source::object::for_each_kind;
use crate::source::parse::{Wire, instead_of, parse_wire};
use crate::source::{Key, Kind, Object};

/// An object that was told of.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is, as far as it can be read.
    pub key: Option<Key>,
    /// Its `resourceVersion`.
    pub version: Box<str>,
    /// The object, or the field that is wrong and how.
    pub object: Result<Object, String>,
    /// What stands for a policy that cannot be read, unless an earlier version of it is known.
    pub instead: Option<Object>,
}

impl Item {
    /// Reads an object of a kind.
    #[must_use]
    pub fn read(kind: Kind, wire: Wire<'_>) -> Self {
        match parse_wire(kind, wire) {
            Ok(mut object) => {
                let version = object.metadata().resource_version.clone();
                trim(&mut object);
                Self {
                    key: Some(object.key()),
                    version: version.unwrap_or_default().into(),
                    object: Ok(object),
                    instead: None,
                }
            }
            Err(error) => {
                let (key, version) = head(kind, wire);
                Self {
                    key,
                    version: version.into(),
                    object: Err(error),
                    instead: instead_of(kind, wire),
                }
            }
        }
    }
}

/// The name of an object of which nothing else is of interest.
#[must_use]
pub fn name(wire: Wire<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Event {
        object: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    match wire {
        Wire::Item(item) => item["metadata"]["name"].as_str().map(str::to_owned),
        Wire::Event(line) => {
            let event = serde_json::from_slice::<Event>(line).ok()?;
            Some(event.object.metadata.name)
        }
    }
}

/// Key and version of an object that cannot be read otherwise.
fn head(kind: Kind, wire: Wire<'_>) -> (Option<Key>, String) {
    #[derive(Deserialize)]
    struct Event {
        object: Value,
    }
    let object = match wire {
        Wire::Item(item) => item.clone(),
        Wire::Event(line) => serde_json::from_slice::<Event>(line)
            .map(|event| event.object)
            .unwrap_or_default(),
    };
    let text = |field: &str| object["metadata"][field].as_str();
    let key = text("name").map(|name| Key {
        kind,
        namespace: text("namespace").unwrap_or_default().into(),
        name: name.into(),
    });
    let version = text("resourceVersion").unwrap_or_default().to_owned();
    (key, version)
}

/// Drops what nobody reads: most of an object's size, and all that changes without meaning.
fn trim(object: &mut Object) {
    macro_rules! metadata {
        ($($kind:ident in $table:ident,)*) => {
            match object {
                $(Object::$kind(object) => trim_metadata(&mut Arc::make_mut(object).metadata),)*
            }
        };
    }
    for_each_kind!(metadata);
    match object {
        Object::Pod(pod) => trim_pod(Arc::make_mut(pod)),
        Object::Node(node) => trim_node(Arc::make_mut(node)),
        _ => {}
    }
}

fn trim_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.finalizers = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Of a pod: where it runs, as whom, how it is reached, and whether it is ready.
fn trim_pod(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|name, _| name.contains("istio.io/") || name.contains("ambit.dev/"));
    }
    pod.metadata.generation = None;
    if let Some(spec) = pod.spec.take() {
        let mut kept = PodSpec {
            node_name: spec.node_name,
            host_network: spec.host_network,
            service_account_name: spec.service_account_name.or(spec.service_account),
            containers: spec.containers,
            init_containers: spec.init_containers,
            ..PodSpec::default()
        };
        let sidecars = kept.init_containers.iter_mut().flatten();
        for container in kept.containers.iter_mut().chain(sidecars) {
            *container = Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                restart_policy: container.restart_policy.take(),
                ..Container::default()
            };
        }
        pod.spec = Some(kept);
    }
    if let Some(status) = pod.status.take() {
        let conditions = status.conditions.map(|mut conditions| {
            conditions.retain(|condition| condition.type_ == "Ready");
            for condition in &mut conditions {
                condition.last_probe_time = None;
                condition.last_transition_time = None;
                condition.message = None;
                condition.reason = None;
            }
            conditions
        });
        pod.status = Some(PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            conditions,
            ..PodStatus::default()
        });
    }
}

/// Of a node: its labels.
fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    node.spec = None;
    node.status = None;
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
