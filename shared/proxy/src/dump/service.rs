//! A service with its endpoints, as `istioctl ztunnel-config services` reads it.

use std::collections::BTreeMap;

use ambit_core::index::Index;
use ambit_core::model::service::{Mode, Scope};
use ambit_core::model::{self, IpFamilies, PortMapping};
use serde::Serialize;

use super::workload::Gateway;

/// A service, and its endpoints by their uids.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service<'a> {
    name: &'a str,
    namespace: &'a str,
    hostname: &'a str,
    /// `NETWORK/ADDRESS`.
    vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidr_vips: Vec<Range<'a>>,
    ports: Ports,
    endpoints: BTreeMap<&'a str, Endpoint<'a>>,
    subject_alt_names: Vec<String>,
    waypoint: Option<Gateway<'a>>,
    /// The primary and its canary, and their shares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighted_waypoints: Vec<Weighted<'a>>,
    waypoint_bypass: bool,
    /// It comes to a waypoint, or leaves one.
    takes_direct: bool,
    ingress_use_waypoint: bool,
    load_balancer: LoadBalancer<'a>,
    ip_families: Option<&'static str>,
    canonical: bool,
    visibility: &'static str,
}

/// Target ports by the ports that clients use; 0 means: the workload says.
type Ports = BTreeMap<u16, u16>;

#[derive(Debug, Serialize)]
struct Weighted<'a> {
    destination: Gateway<'a>,
    weight: u32,
}

#[derive(Debug, Serialize)]
struct Range<'a> {
    network: &'a str,
    cidr: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    workload_uid: &'a str,
    port: Ports,
    status: model::Health,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancer<'a> {
    mode: &'static str,
    routing_preferences: &'a [Scope],
    health_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_affinity: Option<&'static str>,
}

/// Every service, by name.
#[must_use]
pub fn services(index: &Index) -> Vec<Service<'_>> {
    let mut all: Vec<_> = index.services().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|it| service(index, it)).collect()
}

fn service<'a>(index: &'a Index, service: &'a model::Service) -> Service<'a> {
    let (single, ranges): (Vec<_>, Vec<_>) = service
        .vips
        .iter()
        .partition(|vip| vip.net.prefix_len() == vip.net.max_prefix_len());
    let balancing = &service.load_balancing;
    Service {
        name: &service.name,
        namespace: &service.key.namespace,
        hostname: &service.key.name,
        vips: single
            .iter()
            .map(|vip| format!("{}/{}", vip.network, vip.net.addr()))
            .collect(),
        cidr_vips: ranges
            .iter()
            .map(|vip| Range {
                network: &vip.network,
                cidr: vip.net.to_string(),
            })
            .collect(),
        ports: ports(&service.ports),
        endpoints: endpoints(index, service),
        subject_alt_names: service
            .subject_alt_names
            .iter()
            .map(ToString::to_string)
            .collect(),
        waypoint: service.waypoint.as_ref().map(Gateway::of),
        weighted_waypoints: service
            .weighted_waypoints
            .iter()
            .map(|it| Weighted {
                destination: Gateway::of(&it.waypoint),
                weight: it.weight,
            })
            .collect(),
        waypoint_bypass: service.waypoint_bypass,
        takes_direct: service.takes_direct,
        ingress_use_waypoint: service.ingress_use_waypoint,
        load_balancer: LoadBalancer {
            mode: match balancing.mode {
                Mode::Unspecified => "Standard",
                Mode::Strict => "Strict",
                Mode::Failover => "Failover",
                Mode::Passthrough => "Passthrough",
            },
            routing_preferences: &balancing.preference,
            health_policy: match balancing.allow_unhealthy {
                true => "AllowAll",
                false => "OnlyHealthy",
            },
            session_affinity: balancing.client_affinity.then_some("ClientIP"),
        },
        ip_families: match service.ip_families {
            IpFamilies::Automatic => None,
            IpFamilies::V4 => Some("IPv4"),
            IpFamilies::V6 => Some("IPv6"),
            IpFamilies::Dual => Some("Dual"),
        },
        canonical: service.canonical,
        visibility: match service.namespace_private {
            true => "Namespace",
            false => "Public",
        },
    }
}

fn endpoints<'a>(index: &'a Index, service: &model::Service) -> BTreeMap<&'a str, Endpoint<'a>> {
    let all = index.endpoints(&service.key).into_iter();
    let shown = all.flat_map(|all| all.iter()).map(|endpoint| {
        let workload = endpoint.workload();
        let shown = Endpoint {
            workload_uid: &workload.uid,
            port: ports(endpoint.ports()),
            status: workload.health,
        };
        (&*workload.uid, shown)
    });
    shown.collect()
}

fn ports(all: &[PortMapping]) -> Ports {
    let pairs = all.iter().map(|port| (port.service_port, port.target_port));
    pairs.collect()
}
