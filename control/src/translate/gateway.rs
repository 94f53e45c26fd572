//! Statuses of what makes a waypoint or a gateway between networks: GatewayClass, Gateway, and the Services that are bound to it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use serde_json::{Value, json};

use super::labels::{GATEWAY_NAME, NETWORK, WAYPOINT_BYPASS, label};
use super::status::{CONTROLLER, fails, holds};
use super::view::{Outcome, View};
use super::waypoint::{self, Binding};
use super::{binding, canary, network, tls, traffic, workload};
use crate::parameters::{self, Patches};
use crate::source::gateway::{Gateway, GatewayClass};
use ambit_core::model::Health;

/// A class is accepted when it is one of waypoints or of gateways between networks.
#[must_use]
pub fn class(name: &str, class: &GatewayClass) -> Outcome {
    let message = match name {
        _ if waypoint::CLASSES.contains(&name) => Some("Gateways of this class are waypoints"),
        _ if network::CLASSES.contains(&name) => Some("Gateways of this class lead into networks"),
        _ => None,
    };
    let status = message.map(|message| {
        let accepted = holds(&class.metadata, "Accepted", "Accepted", message);
        json!({ "conditions": [accepted] })
    });
    Outcome {
        status,
        ..Outcome::default()
    }
}

/// A waypoint is programmed once it has an address and an instance that is ready, which an instance is
/// when it has its configuration.
#[must_use]
pub fn gateway(namespace: &str, name: &str, gateway: &Gateway, view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let between = network::is_gateway(gateway);
    if !waypoint::is_waypoint(gateway) && !between {
        outcome.notices.extend(unserved(gateway, view));
        return outcome;
    }
    let of = &gateway.metadata;
    let service = view.find::<Service>(namespace, name);
    let addresses = match network::addresses(gateway) {
        Ok(said) if between && !said.is_empty() => shown(said.iter()),
        _ => service.map_or_else(Vec::new, |service| addresses(service)),
    };
    let ready = view.within::<Pod>(namespace).any(|(pod_name, pod)| {
        label(&pod.metadata, GATEWAY_NAME) == Some(name)
            && !workload::is_over(pod)
            && workload::health(namespace, pod_name, pod, view.objects) == Health::Healthy
    });
    let programmed = if addresses.is_empty() {
        let message = format!("Service {namespace}/{name} has no address yet");
        fails(of, "Programmed", "AddressNotAssigned", &message)
    } else if ready {
        holds(of, "Programmed", "Programmed", "an instance is ready")
    } else {
        fails(of, "Programmed", "Pending", "no instance is ready yet")
    };
    let mut listeners = Vec::new();
    for listener in &gateway.spec.listeners {
        let hbone =
            listener.protocol == "HBONE" && listener.port == i32::from(waypoint::HBONE_PORT);
        let accepted = if hbone {
            holds(of, "Accepted", "Accepted", "the mesh's listener")
        } else {
            let message = format!(
                "it has one listener, of protocol HBONE and port {}",
                waypoint::HBONE_PORT
            );
            outcome
                .problems
                .push(format!("spec.listeners {:?}: {message}", listener.name));
            fails(of, "Accepted", "UnsupportedProtocol", &message)
        };
        listeners.push(json!({
            "name": listener.name,
            "attachedRoutes": 0,
            "supportedKinds": [],
            "conditions": [
                accepted,
                programmed.clone(),
                holds(of, "ResolvedRefs", "ResolvedRefs", "there are none"),
            ],
        }));
    }
    let role = if between {
        leads_into(namespace, name, gateway, view)
    } else {
        Ok("the Gateway is a waypoint".to_owned())
    };
    let map = |name: &str| view.find::<ConfigMap>(namespace, name).map(|it| &**it);
    let accepted = match (patches(namespace, gateway, map), role) {
        (Ok(_), Ok(role)) => holds(of, "Accepted", "Accepted", &role),
        (Err(why), _) => {
            let condition = fails(of, "Accepted", "InvalidParameters", &why);
            outcome
                .problems
                .push(format!("{why}; what runs the Gateway stays as it is"));
            condition
        }
        (Ok(_), Err(why)) => {
            let condition = fails(of, "Accepted", "Invalid", &why);
            outcome.problems.push(format!("{why}; it leads nowhere"));
            condition
        }
    };
    outcome.status = Some(json!({
        "addresses": addresses,
        "conditions": [accepted, programmed],
        "listeners": listeners,
    }));
    outcome
}

/// Why nothing comes of a Gateway of another class, unless that has a GatewayClass: then it is for whoever that names.
fn unserved(gateway: &Gateway, view: &View<'_>) -> Option<String> {
    let class = &gateway.spec.gateway_class_name;
    let found = view.find::<GatewayClass>("", class);
    match binding::of(gateway, found.map(|class| &**class)) {
        Err(why) => return Some(why),
        Ok(Some(_)) => return None,
        Ok(None) => {}
    }
    let why = match found {
        Some(it) if it.spec.controller_name != CONTROLLER => return None,
        Some(_) => "Ambit goes by the names of classes, and this is none of them",
        None => "there is no GatewayClass of this name",
    };
    let known = known_classes();
    Some(format!(
        "spec.gatewayClassName {class:?}: {why}; no controller takes the Gateway ({known})"
    ))
}

/// The classes of Gateways that there are controllers for here, in words.
#[must_use]
pub fn known_classes() -> String {
    let (waypoints, between) = (waypoint::CLASSES[0], network::CLASSES[0]);
    format!("a waypoint is of class {waypoints}, a gateway between networks of class {between}")
}

/// The network that a Gateway leads into.
fn leads_into(
    namespace: &str,
    name: &str,
    gateway: &Gateway,
    view: &View<'_>,
) -> Result<String, String> {
    let network = network::leads_into(gateway).ok_or_else(|| {
        format!("label {NETWORK} has to say which network the Gateway leads into")
    })?;
    network::addresses(gateway)?;
    match view.objects.networks.gateway(network) {
        Some(first) if (&*first.namespace, &*first.name) != (namespace, name) => Err(format!(
            "Gateway {first} leads into network {network} already"
        )),
        _ => Ok(format!("the Gateway leads into network {network}")),
    }
}

/// What the parameters of a Gateway of this namespace change of what runs it, of ConfigMaps by name.
///
/// # Errors
/// It names something else than a ConfigMap, or one that is not there, or what is in that is wrong.
pub fn patches<'a>(
    namespace: &str,
    gateway: &Gateway,
    find: impl FnOnce(&str) -> Option<&'a ConfigMap>,
) -> Result<Patches, String> {
    let Some(name) = parameters::named(gateway)? else {
        return Ok(Patches::default());
    };
    let place = format!("ConfigMap {namespace}/{name}");
    let map = find(name).ok_or_else(|| format!("{place} does not exist"))?;
    let read = map.data.as_ref().map(Patches::read).transpose();
    read.map(Option::unwrap_or_default)
        .map_err(|why| format!("{place}: {why}"))
}

fn addresses(service: &Service) -> Vec<Value> {
    let spec = service.spec.as_ref();
    let ips = spec.and_then(|spec| {
        spec.cluster_ips
            .clone()
            .or(Some(vec![spec.cluster_ip.clone()?]))
    });
    let ips = ips.unwrap_or_default();
    let known = ips.iter().filter(|ip| !matches!(ip.as_str(), "" | "None"));
    shown(known)
}

fn shown(addresses: impl Iterator<Item: serde::Serialize>) -> Vec<Value> {
    addresses
        .map(|ip| json!({"type": "IPAddress", "value": ip}))
        .collect()
}

/// What waypoints know of a Service beyond its address, and whether it is bound.
#[must_use]
pub fn service(namespace: &str, name: &str, service: &Arc<Service>, view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if super::service::is_external(service) {
        return outcome;
    }
    let without_effect = super::service::without_effect(service);
    outcome
        .notices
        .extend(without_effect.map(ToOwned::to_owned));
    outcome.resources = traffic::of_service(namespace, name, service, view);
    outcome
        .resources
        .extend(tls::of_service(namespace, name, service, view));
    let metadata = &service.metadata;
    let binding = waypoint::binding_of_service(namespace, metadata, view);
    let canary = canary::seen(namespace, metadata, view);
    let shared = canary.as_ref().map(|canary| {
        let condition = "ambit.dev/WaypointCanaryBound";
        let Some((reason, why)) = canary.problem() else {
            return holds(metadata, condition, "WaypointAccepted", &canary.to_string());
        };
        outcome.notices.push(why.clone());
        fails(metadata, condition, reason, &why)
    });
    let Some(binding) = binding else {
        outcome.status = shared.map(|shared| json!({ "conditions": [shared] }));
        return outcome;
    };
    let Binding {
        waypoint: of,
        refused,
        missing,
    } = binding;
    let condition = "istio.io/WaypointBound";
    let status = match (refused, missing) {
        (Some(why), _) => {
            outcome
                .problems
                .push(format!("{why}; the service is refused to everyone"));
            fails(metadata, condition, "WaypointNotAllowed", &why)
        }
        (None, true) => {
            let why = format!("Gateway {of} does not exist");
            outcome
                .problems
                .push(format!("{why}; the service is refused until it does"));
            fails(metadata, condition, "WaypointMissing", &why)
        }
        (None, false) => {
            let bound = format!("bound to waypoint {of}");
            let message = match &canary {
                Some(canary) if canary.is_bound() => format!("{bound}; {canary}"),
                _ => bound,
            };
            holds(metadata, condition, "WaypointAccepted", &message)
        }
    };
    let mut conditions = vec![status];
    conditions.extend(shared);
    if waypoint::may_be_bypassed(namespace, &service.metadata, view.objects) {
        let why = format!(
            "label {WAYPOINT_BYPASS} lets the waypoint be gone around; its policies may not hold"
        );
        conditions.push(fails(
            metadata,
            "ambit.dev/WaypointRequired",
            "BypassAllowed",
            &why,
        ));
        outcome.notices.push(why);
    }
    outcome.status = Some(json!({ "conditions": conditions }));
    outcome
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
