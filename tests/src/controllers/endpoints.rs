//! Endpoint slices: for each service, family and set of target ports, the pods that its selector
//! chooses, and which of them serve.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;
use crate::api::{Key, Store, matches, new_uid, now, owner_reference};

/// Which service a slice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

pub(super) fn reconcile(store: &mut Store) {
    let services: Vec<Service> = store.services.iter().map(|(_, it)| it.clone()).collect();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(selector) = spec
            .selector
            .clone()
            .filter(|selector| !selector.is_empty())
        else {
            continue;
        };
        let slices = slices(store, &service, spec, selector);
        replace(store, &service, slices);
    }
}

/// The endpoints of one slice share a family and ports.
type Group = (bool, Vec<EndpointPortKey>);
type EndpointPortKey = (Option<String>, Option<i32>, Option<String>, Option<String>);

fn slices(
    store: &Store,
    service: &Service,
    spec: &ServiceSpec,
    selector: BTreeMap<String, String>,
) -> BTreeMap<Group, Vec<Endpoint>> {
    let selector = LabelSelector {
        match_labels: Some(selector),
        match_expressions: None,
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let serve_unready = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for family in spec.ip_families.iter().flatten() {
        groups
            .entry((family == "IPv6", ports(spec, None)))
            .or_default();
    }
    for pod in store.pods.within(namespace) {
        if !matches(&selector, pod.metadata.labels.as_ref()) || pods::is_finished(pod) {
            continue;
        }
        let addresses = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ips.as_ref());
        for address in addresses.into_iter().flatten() {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                continue;
            };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            if !spec
                .ip_families
                .iter()
                .flatten()
                .any(|wanted| wanted == family)
            {
                continue;
            }
            let group = groups
                .entry((ip.is_ipv6(), ports(spec, Some(pod))))
                .or_default();
            group.push(endpoint(store, pod, ip, serve_unready));
        }
    }
    // A family whose endpoints have named ports needs no empty slice beside them.
    let filled: Vec<bool> = groups
        .iter()
        .filter(|(_, it)| !it.is_empty())
        .map(|((v6, _), _)| *v6)
        .collect();
    groups.retain(|(v6, _), endpoints| !endpoints.is_empty() || !filled.contains(v6));
    groups
}

fn ports(spec: &ServiceSpec, pod: Option<&Pod>) -> Vec<EndpointPortKey> {
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => pod.and_then(|pod| named_port(pod, name)),
        };
        // A pod without that port is no endpoint of it.
        if pod.is_some() && number.is_none() {
            continue;
        }
        let protocol = port.protocol.clone().or_else(|| Some("TCP".to_owned()));
        let name = Some(port.name.clone().unwrap_or_default());
        ports.push((name, number, protocol, port.app_protocol.clone()));
    }
    ports
}

fn named_port(pod: &Pod, name: &str) -> Option<i32> {
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .find(|port| port.name.as_deref() == Some(name))
        .map(|port| port.container_port)
}

fn endpoint(store: &Store, pod: &Pod, ip: IpAddr, serve_unready: bool) -> Endpoint {
    let terminating = pods::is_terminating(pod);
    let serving = pods::is_ready(pod) || serve_unready;
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.clone());
    let zone = node
        .as_ref()
        .and_then(|node| store.nodes.get(&Key::new("", node)));
    let zone = zone.and_then(|node| node.metadata.labels.as_ref());
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .filter(|spec| spec.subdomain.is_some())
            .and_then(|it| it.hostname.clone()),
        zone: zone.and_then(|labels| labels.get("topology.kubernetes.io/zone").cloned()),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// Puts `slices` in the place of what was there for `service`.
fn replace(store: &mut Store, service: &Service, slices: BTreeMap<Group, Vec<Endpoint>>) {
    let service_key = Key::of(&service.metadata);
    let ours = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        let label = |name: &str| labels.and_then(|labels| labels.get(name));
        label(SERVICE_NAME_LABEL) == Some(&service_key.name)
            && label(MANAGED_LABEL).is_some_and(|manager| manager == MANAGER)
    };
    let mut stale: Vec<Key> = store
        .endpoint_slices
        .within(&service_key.namespace)
        .filter(|slice| ours(slice))
        .map(|slice| Key::of(&slice.metadata))
        .collect();
    let mut numbers = [0, 0];
    for ((v6, ports), endpoints) in slices {
        let number = &mut numbers[usize::from(v6)];
        *number += 1;
        let family = if v6 { "ipv6" } else { "ipv4" };
        let name = format!("{}-{family}-{number}", service_key.name);
        let key = Key::new(&service_key.namespace, &name);
        stale.retain(|stale| *stale != key);
        let old = store
            .endpoint_slices
            .get(&key)
            .map(|slice| slice.metadata.clone());
        let ports = ports
            .into_iter()
            .map(|(name, port, protocol, app_protocol)| EndpointPort {
                name,
                port,
                protocol,
                app_protocol,
            });
        store.endpoint_slices.put(EndpointSlice {
            address_type: if v6 { "IPv6" } else { "IPv4" }.to_owned(),
            endpoints,
            metadata: old.unwrap_or_else(|| slice_metadata(service, &key)),
            ports: Some(ports.filter(|port| port.port.is_some()).collect()),
        });
    }
    for key in stale {
        store.endpoint_slices.remove(&key);
    }
}

fn slice_metadata(service: &Service, key: &Key) -> ObjectMeta {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name);
    labels.insert(MANAGED_LABEL.to_owned(), MANAGER.to_owned());
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        uid: Some(new_uid()),
        creation_timestamp: Some(now()),
        labels: Some(labels),
        owner_references: Some(vec![owner_reference("v1", "Service", &service.metadata)]),
        ..ObjectMeta::default()
    }
}
