//! A Kubernetes Service as the mesh sees it.

use std::net::IpAddr;

use ambit_core::model::service::{IpFamilies, LoadBalancing, Mode, Scope};
use ambit_core::model::{Service as MeshService, Vip};
use ambit_core::plan::Transport;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::labels::{INGRESS_USE_WAYPOINT, TRAFFIC_DISTRIBUTION, annotation, label};
use super::{Mesh, canary, network, ports, waypoint};
use crate::index::objects::Objects;

/// The resource of a Service; `None` for an `ExternalName`, which is DNS alone.
///
/// # Errors
/// A cluster IP that is not an address.
pub fn translate(
    namespace: &str,
    name: &str,
    service: &Service,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Option<MeshService>, String> {
    if is_external(service) {
        return Ok(None);
    }
    let ingress = label(&service.metadata, INGRESS_USE_WAYPOINT)
        .or_else(|| objects.namespace_label(namespace, INGRESS_USE_WAYPOINT));
    let waypoint = waypoint::of_service(namespace, &service.metadata, objects, mesh);
    Ok(Some(MeshService {
        name: name.into(),
        key: mesh.service_key(namespace, name),
        vips: network::on_all(vips(service, mesh)?, objects, mesh),
        ports: ports::of_service(service, Transport::Tcp),
        udp_ports: ports::of_service(service, Transport::Udp),
        subject_alt_names: Vec::new(),
        weighted_waypoints: canary::weighted(
            namespace,
            &service.metadata,
            waypoint.as_ref(),
            objects,
            mesh,
        ),
        waypoint,
        waypoint_bypass: waypoint::may_be_bypassed(namespace, &service.metadata, objects),
        takes_direct: false,
        load_balancing: load_balancing(service),
        canonical: true,
        ingress_use_waypoint: ingress == Some("true"),
        namespace_private: false,
        ip_families: ip_families(service),
        port_names: ports::names(service),
    }))
}

/// Which addresses of a headless Service's pods are its own.
fn ip_families(service: &Service) -> IpFamilies {
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.as_deref());
    match families.unwrap_or_default() {
        [one] if one == "IPv4" => IpFamilies::V4,
        [one] if one == "IPv6" => IpFamilies::V6,
        [_, _] => IpFamilies::Dual,
        _ => IpFamilies::Automatic,
    }
}

/// Whether the Service is DNS alone.
#[must_use]
pub fn is_external(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}

/// Whether the Service selects its pods; otherwise endpoint slices say.
#[must_use]
pub fn has_selector(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty())
}

fn vips(service: &Service, mesh: &Mesh) -> Result<Vec<Vip>, String> {
    let Some(spec) = &service.spec else {
        return Ok(Vec::new());
    };
    let mut texts: Vec<&str> = spec
        .cluster_ips
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref());
    }
    texts
        .into_iter()
        // Headless, or not allocated yet.
        .filter(|text| !matches!(*text, "None" | ""))
        .map(|text| match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Vip {
                network: mesh.network.clone(),
                net: IpNet::from(ip.to_canonical()),
            }),
            Err(_) => Err(format!("spec.clusterIPs: {text:?} is not an IP address")),
        })
        .collect()
}

fn load_balancing(service: &Service) -> LoadBalancing {
    let spec = service.spec.as_ref();
    let allow_unhealthy = spec
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or_default();
    let (preference, mode) =
        if spec.and_then(|spec| spec.internal_traffic_policy.as_deref()) == Some("Local") {
            (vec![Scope::Node], Mode::Strict)
        } else {
            let distribution = spec
                .and_then(|spec| spec.traffic_distribution.as_deref())
                .or_else(|| annotation(&service.metadata, TRAFFIC_DISTRIBUTION));
            preference(distribution)
        };
    LoadBalancing {
        preference,
        mode,
        allow_unhealthy,
        client_affinity: keeps_clients(service),
    }
}

/// Whether connections of one client address are to go to the same endpoint.
#[must_use]
pub fn keeps_clients(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.session_affinity.as_deref()) == Some("ClientIP")
}

/// What of a Service has no effect: a time after which a client may go elsewhere. The API server says the default of all
/// that keep their clients, so it asks for nothing.
#[must_use]
pub fn without_effect(service: &Service) -> Option<&'static str> {
    const DEFAULT: i32 = 10_800;
    let spec = service.spec.as_ref()?;
    let config = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?;
    let asked = config.timeout_seconds.is_some_and(|it| it != DEFAULT);
    (asked && keeps_clients(service)).then_some(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds has no effect: \
         a client stays for as long as its endpoint is ready",
    )
}

pub(super) fn preference(distribution: Option<&str>) -> (Vec<Scope>, Mode) {
    let zone = [Scope::Network, Scope::Region, Scope::Zone];
    match distribution {
        Some("PreferClose" | "PreferSameZone") => {
            let mut scopes = zone.to_vec();
            scopes.push(Scope::Subzone);
            (scopes, Mode::Failover)
        }
        Some("PreferSameNode") => {
            let mut scopes = zone.to_vec();
            scopes.extend([Scope::Subzone, Scope::Node]);
            (scopes, Mode::Failover)
        }
        _ => (Vec::new(), Mode::Unspecified),
    }
}
