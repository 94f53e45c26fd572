//! Drops of an object what nobody reads.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, Node, ObjectReference, Pod, PodSpec, PodStatus, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::source::Object;
use crate::source::object::for_each_kind;
use crate::translate::slice::SERVICE_NAME;

/// Keeps of an object what translation reads. The rest is most of an object's size, and all that changes without meaning.
pub(super) fn trim(object: &mut Object) {
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
        Object::Service(service) => trim_service(Arc::make_mut(service)),
        Object::EndpointSlice(slice) => trim_slice(Arc::make_mut(slice)),
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

/// Of a service: its addresses and ports, whom it selects, and how load is shared out.
fn trim_service(service: &mut Service) {
    service.status = None;
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        internal_traffic_policy: spec.internal_traffic_policy,
        ip_families: spec.ip_families,
        ports: spec.ports.map(trimmed(service_port)),
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        selector: spec.selector,
        session_affinity: spec.session_affinity,
        session_affinity_config: spec.session_affinity_config,
        traffic_distribution: spec.traffic_distribution,
        type_: spec.type_,
        ..ServiceSpec::default()
    });
}

fn service_port(port: ServicePort) -> ServicePort {
    ServicePort {
        node_port: None,
        ..port
    }
}

/// Of a slice: its service, and where its endpoints are and whether they are ready.
fn trim_slice(slice: &mut EndpointSlice) {
    slice.metadata.annotations = None;
    slice.metadata.generation = None;
    slice.metadata.owner_references = None;
    if let Some(labels) = &mut slice.metadata.labels {
        labels.retain(|name, _| name == SERVICE_NAME);
    }
    slice.endpoints = trimmed(endpoint)(std::mem::take(&mut slice.endpoints));
    slice.ports = slice.ports.take().map(trimmed(endpoint_port));
}

fn endpoint(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        addresses: endpoint.addresses,
        conditions: endpoint.conditions.map(|conditions| EndpointConditions {
            ready: conditions.ready,
            ..EndpointConditions::default()
        }),
        node_name: endpoint.node_name,
        target_ref: endpoint.target_ref.map(|target| ObjectReference {
            kind: target.kind,
            name: target.name,
            namespace: target.namespace,
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn endpoint_port(port: EndpointPort) -> EndpointPort {
    EndpointPort {
        app_protocol: None,
        ..port
    }
}

fn trimmed<T>(one: impl Fn(T) -> T) -> impl Fn(Vec<T>) -> Vec<T> {
    move |all| all.into_iter().map(&one).collect()
}
