//! What an Istio policy is attached to: `targetRefs` of waypoints and of what they serve.

use ambit_http::model::Target;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::reference::GATEWAY_GROUP;
use super::status::{fails, holds};
use super::view::View;
use super::waypoint;
use crate::source::gateway::Gateway;
use crate::source::istio::TargetRef;

/// The targets that are meant, and why some of them are none.
#[derive(Debug, Default, PartialEq)]
pub struct Targets {
    /// What the policy holds for, also while it is not there.
    pub found: Vec<Target>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Reads `targetRef` and `targetRefs` of a policy.
#[must_use]
pub fn targets<'a>(
    namespace: &str,
    references: impl IntoIterator<Item = &'a TargetRef>,
    view: &View<'_>,
) -> Targets {
    let mut targets = Targets::default();
    for (at, reference) in references.into_iter().enumerate() {
        match target(namespace, reference, view) {
            Ok((target, missing)) => {
                targets.found.push(target);
                let missing = missing.map(|why| format!("spec.targetRefs[{at}]: {why}"));
                targets.problems.extend(missing);
            }
            Err(why) => targets
                .problems
                .push(format!("spec.targetRefs[{at}]: {why}")),
        }
    }
    targets
}

/// A target, and what is missing of it.
fn target(
    namespace: &str,
    reference: &TargetRef,
    view: &View<'_>,
) -> Result<(Target, Option<String>), String> {
    let name = reference.name.as_str();
    if reference
        .namespace
        .as_deref()
        .is_some_and(|of| !of.is_empty() && of != namespace)
    {
        return Err("a target is in the policy's own namespace".to_owned());
    }
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    match (reference.group.as_str(), reference.kind.as_str()) {
        ("" | "core", "Service") => {
            let missing = view.find::<Service>(namespace, name).is_none();
            let target = Target::Service(view.service_key(namespace, name));
            Ok((
                target,
                missing.then(|| format!("Service {namespace}/{name} does not exist")),
            ))
        }
        (GATEWAY_GROUP, "Gateway") => {
            let missing = match view.find::<Gateway>(namespace, name) {
                None => Some(format!("Gateway {namespace}/{name} does not exist")),
                Some(gateway) if !waypoint::is_waypoint(gateway) => {
                    Some(format!("Gateway {namespace}/{name} is not a waypoint"))
                }
                Some(_) => None,
            };
            let key = ambit_core::addr::NamespacedName::new(namespace, name);
            Ok((Target::Waypoint(key), missing))
        }
        (GATEWAY_GROUP, "GatewayClass") => {
            if namespace != &*view.mesh.root_namespace {
                let root = &view.mesh.root_namespace;
                return Err(format!(
                    "a GatewayClass is a target in namespace {root} alone"
                ));
            }
            if !waypoint::CLASSES.contains(&name) {
                return Err(format!("GatewayClass {name} is not one of waypoints"));
            }
            Ok((Target::Mesh, None))
        }
        ("networking.istio.io", "ServiceEntry") => {
            Err("a ServiceEntry is not served by waypoints".to_owned())
        }
        (group, kind) => Err(format!("{kind} of group {group:?} cannot be a target")),
    }
}

/// `status` of an Istio policy: whether waypoints take it.
#[must_use]
pub fn accepted(of: &ObjectMeta, problems: &[String]) -> Value {
    let condition = if problems.is_empty() {
        holds(
            of,
            "WaypointAccepted",
            "Accepted",
            "waypoints enforce the policy",
        )
    } else {
        let reason = if problems.iter().any(|p| p.contains("does not exist")) {
            "TargetNotFound"
        } else {
            "Invalid"
        };
        fails(of, "WaypointAccepted", reason, &problems.join("; "))
    };
    json!({ "conditions": [condition] })
}
