//! Which waypoint a service or a pod is bound to.
//!
//! A binding stands whether or not the waypoint is there: bound means required, and a proxy refuses
//! what it cannot send through a waypoint that is missing.

use ambit_core::model::{Destination, GatewayAddress};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Mesh;
use super::labels::{
    GATEWAY_NAME, TUNNEL, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, WAYPOINT_FOR, label,
};
use crate::index::objects::Objects;

const HBONE_PORT: u16 = 15008;

/// The waypoint for traffic to a service: its own label, else its namespace's.
#[must_use]
pub fn of_service(
    namespace: &str,
    service: &Service,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<GatewayAddress> {
    // A waypoint is not behind itself, nor is another gateway by the label of its namespace.
    let own = chosen(&service.metadata, namespace);
    let reference = match own {
        Choice::Unsaid if label(&service.metadata, GATEWAY_NAME).is_some() => return None,
        Choice::Unsaid => of_namespace(namespace, objects)?,
        Choice::None => return None,
        Choice::Waypoint(reference) => reference,
    };
    match serves(&reference, objects) {
        Some(serves) if !serves.services => None,
        _ => Some(address(&reference, mesh)),
    }
}

/// The waypoint for traffic to a pod that is not addressed to a service: its own label, else its
/// namespace's. It holds for waypoints that serve workloads; a pod that names its waypoint itself
/// is bound as well while that waypoint is unknown.
#[must_use]
pub fn of_pod(
    namespace: &str,
    pod: &Pod,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<GatewayAddress> {
    let gateway = label(&pod.metadata, GATEWAY_NAME).is_some();
    let (reference, explicit) = match chosen(&pod.metadata, namespace) {
        Choice::None => return None,
        Choice::Unsaid if gateway || label(&pod.metadata, TUNNEL).is_some() => return None,
        Choice::Unsaid => (of_namespace(namespace, objects)?, false),
        Choice::Waypoint(reference) => (reference, true),
    };
    let bound = match serves(&reference, objects) {
        Some(serves) => serves.workloads,
        None => explicit,
    };
    bound.then(|| address(&reference, mesh))
}

/// Whether this service makes a difference to what [`of_pod`] and [`of_service`] answer for others.
#[must_use]
pub fn role(service: &Service) -> Option<&str> {
    label(&service.metadata, GATEWAY_NAME)?;
    Some(label(&service.metadata, WAYPOINT_FOR).unwrap_or("service"))
}

struct Reference {
    namespace: String,
    name: String,
}

enum Choice {
    Unsaid,
    None,
    Waypoint(Reference),
}

fn chosen(metadata: &ObjectMeta, namespace: &str) -> Choice {
    match label(metadata, USE_WAYPOINT) {
        None | Some("") => Choice::Unsaid,
        Some("none") => Choice::None,
        Some(name) => Choice::Waypoint(Reference {
            namespace: label(metadata, USE_WAYPOINT_NAMESPACE)
                .unwrap_or(namespace)
                .to_owned(),
            name: name.to_owned(),
        }),
    }
}

fn of_namespace(namespace: &str, objects: &Objects) -> Option<Reference> {
    let found = objects.namespaces.find("", namespace)?;
    match chosen(&found.metadata, namespace) {
        Choice::Waypoint(reference) => Some(reference),
        Choice::Unsaid | Choice::None => None,
    }
}

struct Serves {
    services: bool,
    workloads: bool,
}

/// What the waypoint serves, by the labels its service has from its Gateway.
fn serves(reference: &Reference, objects: &Objects) -> Option<Serves> {
    let service = objects
        .services
        .find(&reference.namespace, &reference.name)?;
    let role = role(service)?;
    Some(Serves {
        services: matches!(role, "service" | "all"),
        workloads: matches!(role, "workload" | "all"),
    })
}

fn address(reference: &Reference, mesh: &Mesh) -> GatewayAddress {
    GatewayAddress {
        destination: Destination::Hostname(mesh.service_key(&reference.namespace, &reference.name)),
        hbone_port: HBONE_PORT,
    }
}
