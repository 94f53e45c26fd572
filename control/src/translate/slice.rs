//! EndpointSlices: readiness of pods, and endpoints of services that select nothing.

use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::model::{Health, NetworkMode, PortMapping, TunnelProtocol, Workload, WorkloadType};
use ambit_core::plan::Transport;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::labels::label;
use super::{Mesh, ports, service, workload};
use crate::index::objects::Objects;

/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The service a slice belongs to.
#[must_use]
pub fn service_name(slice: &EndpointSlice) -> Option<&str> {
    label(&slice.metadata, SERVICE_NAME)
}

/// The pods of its own namespace that a slice names.
pub fn pods<'a>(
    namespace: &'a str,
    slice: &'a EndpointSlice,
) -> impl Iterator<Item = &'a str> + 'a {
    slice
        .endpoints
        .iter()
        .filter_map(move |e| pod(namespace, e))
}

/// Whether any slice says that the pod takes connections. A pod that no slice names does not.
#[must_use]
pub fn says_ready(namespace: &str, pod_name: &str, objects: &Objects) -> bool {
    objects.slices.within(namespace).any(|(_, slice)| {
        slice
            .endpoints
            .iter()
            .any(|e| pod(namespace, e) == Some(pod_name) && is_ready(e))
    })
}

/// The ports on which slices make a pod an endpoint of a service that selects nothing.
#[must_use]
pub fn ports_of_pod(
    namespace: &str,
    service_name: &str,
    service: &Service,
    pod_name: &str,
    transport: Transport,
    objects: &Objects,
) -> Option<Vec<PortMapping>> {
    objects
        .slices
        .within(namespace)
        .filter(|(_, slice)| self::service_name(slice) == Some(service_name))
        .find(|(_, slice)| pods(namespace, slice).any(|pod| pod == pod_name))
        .map(|(_, slice)| {
            let of_slice = slice.ports.as_deref().unwrap_or_default();
            ports::of_slice(service, of_slice, transport)
        })
}

/// Endpoints that are no pods, one workload an endpoint, of a service that selects nothing.
///
/// # Errors
/// An address or an identity that cannot be.
pub fn translate(
    namespace: &str,
    slice_name: &str,
    slice: &EndpointSlice,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Vec<Workload>, String> {
    let Some((service_name, service)) = service_name(slice)
        .and_then(|name| Some((name, objects.services.find(namespace, name)?)))
        .filter(|(_, found)| !service::has_selector(found) && !service::is_external(found))
    else {
        return Ok(Vec::new());
    };
    if slice.address_type == "FQDN" {
        return Ok(Vec::new());
    }
    let of_slice = slice.ports.as_deref().unwrap_or_default();
    let [tcp, udp] = [Transport::Tcp, Transport::Udp]
        .map(|transport| ports::of_slice(service, of_slice, transport));
    let key = mesh.service_key(namespace, service_name);
    let external = slice
        .endpoints
        .iter()
        .filter(|e| pod(namespace, e).is_none());
    external
        .filter_map(|endpoint| Some((endpoint, endpoint.addresses.first()?)))
        .map(|(endpoint, address)| {
            let ip: IpAddr = address
                .parse()
                .map_err(|_| format!("endpoints: {address:?} is not an IP address"))?;
            let ip = ip.to_canonical();
            let node = endpoint.node_name.as_deref().unwrap_or_default();
            let group = "discovery.k8s.io/EndpointSlice";
            let cluster = &mesh.cluster_id;
            let uid = format!("{cluster}/{group}/{namespace}/{slice_name}/{ip}");
            Ok(Workload {
                uid: uid.into(),
                name: slice_name.into(),
                namespace: namespace.into(),
                addresses: vec![ip],
                hostname: "".into(),
                network: mesh.network.clone(),
                identity: Identity::new(mesh.trust_domains.own().clone(), namespace, "default")
                    .map_err(|error| error.to_string())?,
                tunnel_protocol: TunnelProtocol::None,
                native_tunnel: false,
                waypoint: None,
                network_gateway: None,
                node: node.into(),
                cluster_id: mesh.cluster_id.clone(),
                canonical_name: service_name.into(),
                canonical_revision: "latest".into(),
                workload_type: WorkloadType::Pod,
                workload_name: Arc::from(slice_name),
                authorization_policies: Vec::new(),
                health: if is_ready(endpoint) {
                    Health::Healthy
                } else {
                    Health::Unhealthy
                },
                services: vec![(key.clone(), tcp.clone())],
                udp_ports: workload::that_has_any(vec![(key.clone(), udp.clone())]),
                takes_udp: false,
                application_tunnel: None,
                locality: objects
                    .nodes
                    .find("", node)
                    .map(|node| workload::locality(node))
                    .unwrap_or_default(),
                network_mode: NetworkMode::Standard,
                capacity: 1,
            })
        })
        .collect()
}

fn pod<'a>(namespace: &str, endpoint: &'a Endpoint) -> Option<&'a str> {
    let target = endpoint.target_ref.as_ref()?;
    let same = target.namespace.as_deref().is_none_or(|ns| ns == namespace);
    if target.kind.as_deref() == Some("Pod") && same {
        target.name.as_deref()
    } else {
        None
    }
}

/// Unknown counts as ready, as the API says.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|c| c.ready).unwrap_or(true)
}
