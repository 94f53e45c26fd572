//! Which waypoint a service or a pod is bound to.
//!
//! A binding stands whether or not the waypoint is there: bound means required, and a proxy refuses
//! what it cannot send through a waypoint that is missing. So it does when the Gateway does not let the
//! namespace use it: the binding then leads to a name that no service has.

use ambit_core::addr::NamespacedName;
use ambit_core::model::{Destination, GatewayAddress};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::labels::{
    GATEWAY_NAME, TUNNEL, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, WAYPOINT_BYPASS, WAYPOINT_FOR,
    label, label_selector,
};
use super::view::View;
use super::{Mesh, binding};
use crate::index::objects::Objects;
use crate::source::gateway::{Gateway, GatewayClass};

/// Where waypoints listen.
pub const HBONE_PORT: u16 = 15008;
/// The classes of Gateways that are waypoints.
pub const CLASSES: [&str; 2] = ["ambit-waypoint", "istio-waypoint"];

/// A Service's waypoint, for its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// `namespace/name` of the Gateway.
    pub waypoint: NamespacedName,
    /// Why the waypoint may not be used.
    pub refused: Option<String>,
    /// Neither the Gateway nor its Service is there.
    pub missing: bool,
}

/// Whether a Gateway is a waypoint of ours.
#[must_use]
pub fn is_waypoint(gateway: &Gateway) -> bool {
    CLASSES.contains(&gateway.spec.gateway_class_name.as_str())
}

/// The waypoint for traffic to a service or to a ServiceEntry: its own label, else its namespace's.
#[must_use]
pub fn of_service(
    namespace: &str,
    metadata: &ObjectMeta,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<GatewayAddress> {
    let reference = named_by(namespace, metadata, objects)?;
    match serves(&reference, namespace, objects) {
        Serves::Refused(_) => Some(nowhere(&reference)),
        _ => Some(address(&reference, mesh)),
    }
}

/// The binding of a Service or a ServiceEntry as statuses tell it.
#[must_use]
pub fn binding_of_service(
    namespace: &str,
    metadata: &ObjectMeta,
    view: &View<'_>,
) -> Option<Binding> {
    let objects = view.objects;
    view.find::<Namespace>("", namespace);
    let reference = wanted(namespace, metadata, objects)?;
    if let Some(gateway) = view.find::<Gateway>(&reference.namespace, &reference.name) {
        view.find::<GatewayClass>("", &gateway.spec.gateway_class_name);
    }
    view.find::<Service>(&reference.namespace, &reference.name);
    let (refused, missing) = match serves(&reference, namespace, objects) {
        Serves::Known {
            services: false, ..
        } => return None,
        Serves::Known { .. } => (None, false),
        Serves::Refused(why) => (Some(why), false),
        Serves::Unknown => (None, true),
    };
    Some(Binding {
        waypoint: reference,
        refused,
        missing,
    })
}

/// Whether the waypoint of a Service may be gone around: its own label decides, else its namespace's.
#[must_use]
pub fn may_be_bypassed(namespace: &str, metadata: &ObjectMeta, objects: &Objects) -> bool {
    label(metadata, WAYPOINT_BYPASS).or_else(|| objects.namespace_label(namespace, WAYPOINT_BYPASS))
        == Some("allowed")
}

/// Whether a Service or a ServiceEntry has its waypoint from its namespace.
pub(super) fn inherits(metadata: &ObjectMeta) -> bool {
    // A waypoint is not behind itself, nor is another gateway by the label of its namespace.
    matches!(chosen(metadata, ""), Choice::Unsaid) && label(metadata, GATEWAY_NAME).is_none()
}

/// What the labels of a Service, or of its namespace, ask for.
fn wanted(namespace: &str, metadata: &ObjectMeta, objects: &Objects) -> Option<Reference> {
    match chosen(metadata, namespace) {
        Choice::Waypoint(reference) => Some(reference),
        _ if inherits(metadata) => of_namespace(namespace, objects),
        Choice::Unsaid | Choice::None => None,
    }
}

/// The waypoint that a Service or a ServiceEntry is bound to, whether or not it is there or may be used.
pub(super) fn named_by(
    namespace: &str,
    metadata: &ObjectMeta,
    objects: &Objects,
) -> Option<Reference> {
    let reference = wanted(namespace, metadata, objects)?;
    match serves(&reference, namespace, objects) {
        Serves::Known {
            services: false, ..
        } => None,
        _ => Some(reference),
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
    match serves(&reference, namespace, objects) {
        Serves::Known { workloads, .. } => workloads.then(|| address(&reference, mesh)),
        Serves::Unknown => explicit.then(|| address(&reference, mesh)),
        Serves::Refused(_) => explicit.then(|| nowhere(&reference)),
    }
}

/// Whether this service makes a difference to what [`of_pod`] and [`of_service`] answer for others.
#[must_use]
pub fn role(service: &Service) -> Option<&str> {
    label(&service.metadata, GATEWAY_NAME)?;
    Some(label(&service.metadata, WAYPOINT_FOR).unwrap_or("service"))
}

/// Namespace and name of a Gateway.
pub(super) type Reference = NamespacedName;

enum Choice {
    Unsaid,
    None,
    Waypoint(Reference),
}

fn chosen(metadata: &ObjectMeta, namespace: &str) -> Choice {
    match label(metadata, USE_WAYPOINT) {
        None | Some("") => Choice::Unsaid,
        Some("none") => Choice::None,
        Some(name) => Choice::Waypoint(Reference::new(
            label(metadata, USE_WAYPOINT_NAMESPACE).unwrap_or(namespace),
            name,
        )),
    }
}

fn of_namespace(namespace: &str, objects: &Objects) -> Option<Reference> {
    let found = objects.namespaces.find("", namespace)?;
    match chosen(&found.metadata, namespace) {
        Choice::Waypoint(reference) => Some(reference),
        Choice::Unsaid | Choice::None => None,
    }
}

/// What a waypoint does for those who name it.
pub(super) enum Serves {
    #[allow(missing_docs)]
    Known { services: bool, workloads: bool },
    /// It may not be used from there.
    Refused(String),
    /// It is not there.
    Unknown,
}

/// What the waypoint serves: by its Gateway, or by the labels its service has from it.
pub(super) fn serves(reference: &Reference, from: &str, objects: &Objects) -> Serves {
    let (namespace, name) = (&reference.namespace, &reference.name);
    let role = match objects.gateways.find(namespace, name) {
        Some(gateway) => {
            if !is_waypoint(gateway) && binding::of_gateway(gateway, objects).is_none() {
                let class = &gateway.spec.gateway_class_name;
                let what =
                    format!("Gateway {namespace}/{name} of class {class:?} is not a waypoint");
                return Serves::Refused(what);
            }
            if !allows(gateway, namespace, from, objects) {
                return Serves::Refused(format!(
                    "Gateway {namespace}/{name} does not let namespace {from} use it: see allowedRoutes.namespaces of its listener"
                ));
            }
            label(&gateway.metadata, WAYPOINT_FOR).unwrap_or("service")
        }
        None => {
            let service = objects.services.find(namespace, name);
            match service.and_then(|service| role(service)) {
                Some(role) => role,
                None => return Serves::Unknown,
            }
        }
    };
    Serves::Known {
        services: matches!(role, "service" | "all"),
        workloads: matches!(role, "workload" | "all"),
    }
}

/// Whether any listener lets a namespace use the Gateway; its own always may.
fn allows(gateway: &Gateway, own: &str, from: &str, objects: &Objects) -> bool {
    if own == from {
        return true;
    }
    gateway.spec.listeners.iter().any(|listener| {
        let namespaces = listener
            .allowed_routes
            .as_ref()
            .and_then(|routes| routes.namespaces.as_ref());
        let Some(namespaces) = namespaces else {
            return false;
        };
        match namespaces.from.as_deref() {
            Some("All") => true,
            Some("Selector") => {
                let found = objects.namespaces.find("", from);
                let selector = namespaces.selector.as_ref();
                found
                    .zip(selector)
                    .is_some_and(|(found, selector)| label_selector(selector, &found.metadata))
            }
            _ => false,
        }
    })
}

/// A name that no service has: what is bound to it is refused.
fn nowhere(reference: &Reference) -> GatewayAddress {
    let hostname = format!(
        "{}.{}.not-allowed.invalid",
        reference.name, reference.namespace
    );
    GatewayAddress {
        destination: Destination::Hostname(NamespacedName::new(
            reference.namespace.clone(),
            hostname,
        )),
        hbone_port: HBONE_PORT,
    }
}

pub(super) fn address(reference: &Reference, mesh: &Mesh) -> GatewayAddress {
    GatewayAddress {
        destination: Destination::Hostname(mesh.service_key(&reference.namespace, &reference.name)),
        hbone_port: HBONE_PORT,
    }
}
