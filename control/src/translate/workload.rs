//! A Pod as the mesh sees it.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::{
    Health, Locality, NetworkMode, PortMapping, TunnelProtocol, Workload, WorkloadType,
};
use ambit_core::plan::Transport;
use ambit_core::udp;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};

use super::labels::{TLS_MODE, annotation, is_captured, is_native, label, selects};
use super::{Mesh, authorization, binding, entry, network, peer, ports, service, slice, waypoint};
use crate::index::objects::Objects;

/// The uid of a pod in the mesh.
#[must_use]
pub fn uid(namespace: &str, name: &str, mesh: &Mesh) -> Arc<str> {
    format!("{}//Pod/{namespace}/{name}", mesh.cluster_id).into()
}

/// The resource of a Pod; `None` for one without an address and for one that is over.
///
/// # Errors
/// An address or an identity that cannot be.
pub fn translate(
    namespace: &str,
    name: &str,
    pod: &Pod,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Option<Workload>, String> {
    if is_over(pod) {
        return Ok(None);
    }
    let addresses = addresses(pod)?;
    if addresses.is_empty() {
        return Ok(None);
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let place = node.and_then(|node| objects.nodes.find("", node));
    let network = network::of_pod(pod, place.map(|node| &**node), objects, mesh);
    let account = service_account(pod);
    let identity = Identity::new(mesh.trust_domains.own().clone(), namespace, account)
        .map_err(|error| format!("service account {namespace}/{account}: {error}"))?;
    let (workload_type, workload_name) = owner(name, pod);
    let (canonical_name, canonical_revision) = canonical(pod, &workload_name);
    let tunnel_protocol = tunnel(pod);
    let of = |transport| services(namespace, name, pod, transport, objects, mesh);
    let (services, udp_ports) = (of(Transport::Tcp), that_has_any(of(Transport::Udp)));
    Ok(Some(Workload {
        uid: uid(namespace, name, mesh),
        name: name.into(),
        namespace: namespace.into(),
        addresses,
        hostname: "".into(),
        network_gateway: network::gateway_of(&network, objects, mesh),
        network,
        identity,
        tunnel_protocol,
        native_tunnel: is_native(&pod.metadata),
        waypoint: waypoint::of_pod(namespace, pod, objects, mesh),
        node: node.unwrap_or_default().into(),
        cluster_id: mesh.cluster_id.clone(),
        canonical_name,
        canonical_revision,
        workload_type,
        workload_name,
        authorization_policies: policies(namespace, pod, &services, objects, mesh),
        health: health(namespace, name, pod, objects),
        services,
        udp_ports,
        takes_udp: takes_udp(pod),
        application_tunnel: binding::of_pod(namespace, pod, objects),
        locality: place.map(|node| locality(node)).unwrap_or_default(),
        network_mode: if host_network(pod) {
            NetworkMode::HostNetwork
        } else {
            NetworkMode::Standard
        },
        capacity: 1,
    }))
}

/// The service account a pod runs as.
#[must_use]
pub fn service_account(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| {
        spec.service_account_name
            .as_deref()
            .or(spec.service_account.as_deref())
    })
    .filter(|account| !account.is_empty())
    .unwrap_or("default")
}

/// Whether the pod has run to its end.
#[must_use]
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Where a node is.
#[must_use]
pub fn locality(node: &Node) -> Locality {
    let part = |name: &str| label(&node.metadata, name).unwrap_or_default().into();
    Locality {
        region: part("topology.kubernetes.io/region"),
        zone: part("topology.kubernetes.io/zone"),
        subzone: part("topology.istio.io/subzone"),
    }
}

fn addresses(pod: &Pod) -> Result<Vec<IpAddr>, String> {
    let Some(status) = &pod.status else {
        return Ok(Vec::new());
    };
    let mut texts: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref());
    }
    texts
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<IpAddr>()
                .map(|ip| ip.to_canonical())
                .map_err(|_| format!("status.podIPs: {text:?} is not an IP address"))
        })
        .collect()
}

fn host_network(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.host_network).unwrap_or_default()
}

/// How a pod is reached. Labels say who is to be in the mesh; the annotation says who is, so it alone counts.
fn tunnel(pod: &Pod) -> TunnelProtocol {
    if (is_native(&pod.metadata) || is_captured(&pod.metadata)) && !host_network(pod) {
        TunnelProtocol::Hbone
    } else if label(&pod.metadata, TLS_MODE) == Some("istio") {
        TunnelProtocol::LegacyIstioMtls
    } else {
        TunnelProtocol::None
    }
}

/// Whether UDP may be sent to a pod in tunnels. What the annotation says has effect where the pod is captured, and not
/// where it ends tunnels itself.
fn takes_udp(pod: &Pod) -> bool {
    is_captured(&pod.metadata) && udp::is_enabled(annotation(&pod.metadata, udp::UDP)) == Ok(true)
}

/// The services that have any of these ports.
pub(super) fn that_has_any(
    mut services: Vec<(NamespacedName, Vec<PortMapping>)>,
) -> Vec<(NamespacedName, Vec<PortMapping>)> {
    services.retain(|(_, ports)| !ports.is_empty());
    services
}

/// The pod's own `Ready` condition; without one, what endpoint slices say of it.
pub(super) fn health(namespace: &str, name: &str, pod: &Pod, objects: &Objects) -> Health {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let condition = pod.status.as_ref().and_then(ready_condition);
    let ready = condition.unwrap_or_else(|| slice::says_ready(namespace, name, objects));
    if ready && !leaving {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
}

fn ready_condition(status: &PodStatus) -> Option<bool> {
    let conditions = status.conditions.iter().flatten();
    let ready = conditions.into_iter().find(|c| c.type_ == "Ready")?;
    Some(ready.status == "True")
}

fn services(
    namespace: &str,
    name: &str,
    pod: &Pod,
    transport: Transport,
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<(NamespacedName, Vec<PortMapping>)> {
    let mut found = of_entries(namespace, pod, transport, objects, mesh);
    let of_kubernetes = objects
        .services
        .within(namespace)
        .filter(|(_, service)| !service::is_external(service))
        .filter_map(|(service_name, service)| {
            let ports = if service::has_selector(service) {
                let selector = service.spec.as_ref()?.selector.as_ref()?;
                selects(selector, &pod.metadata).then(|| ports::of_pod(service, pod, transport))?
            } else {
                slice::ports_of_pod(namespace, service_name, service, name, transport, objects)?
            };
            Some((mesh.service_key(namespace, service_name), ports))
        });
    found.extend(of_kubernetes);
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// The ServiceEntries that select a pod, whose target ports are the pod's.
fn of_entries(
    namespace: &str,
    pod: &Pod,
    transport: Transport,
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<(NamespacedName, Vec<PortMapping>)> {
    let own = (transport, |_: &_| None);
    entry::selecting(namespace, &pod.metadata, own, objects, mesh)
}

/// Policies that its node proxy enforces for this pod alone.
fn policies(
    namespace: &str,
    pod: &Pod,
    services: &[(NamespacedName, Vec<PortMapping>)],
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<NamespacedName> {
    let mut found = authorization::selecting(namespace, &pod.metadata, services, objects, mesh);
    found.extend(peer::selecting(namespace, &pod.metadata, objects, mesh));
    found.sort();
    found
}

/// What owns the pod: a ReplicaSet stands for its Deployment, a Job of a CronJob for that.
fn owner(name: &str, pod: &Pod) -> (WorkloadType, Arc<str>) {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners
        .iter()
        .find(|owner| owner.controller.unwrap_or_default())
        .or(owners.first());
    let Some(owner) = owner else {
        return (WorkloadType::Pod, name.into());
    };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = label(&pod.metadata, "pod-template-hash").unwrap_or_default();
            let deployment = owner
                .name
                .strip_suffix(hash)
                .filter(|_| !hash.is_empty())
                .and_then(|rest| rest.strip_suffix('-'));
            match deployment {
                Some(deployment) => (WorkloadType::Deployment, deployment.into()),
                None => (WorkloadType::Pod, owner.name.as_str().into()),
            }
        }
        "Deployment" => (WorkloadType::Deployment, owner.name.as_str().into()),
        "CronJob" => (WorkloadType::CronJob, owner.name.as_str().into()),
        "Job" => match owner.name.rsplit_once('-') {
            // A CronJob names its Jobs by the minute they are for.
            Some((cron, minute))
                if (8..=10).contains(&minute.len())
                    && minute.bytes().all(|b| b.is_ascii_digit()) =>
            {
                (WorkloadType::CronJob, cron.into())
            }
            _ => (WorkloadType::Job, owner.name.as_str().into()),
        },
        _ => (WorkloadType::Pod, owner.name.as_str().into()),
    }
}

fn canonical(pod: &Pod, workload_name: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| label(&pod.metadata, name))
            .map(Arc::from)
    };
    let name = first(&[
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]);
    let revision = first(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    (
        name.unwrap_or_else(|| workload_name.clone()),
        revision.unwrap_or_else(|| "latest".into()),
    )
}
