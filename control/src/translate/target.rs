//! What an Istio policy is attached to: `targetRefs` of waypoints and of what they serve.

use ambit_core::addr::NamespacedName;
use ambit_http::model::Target;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::labels::USE_WAYPOINT;
use super::reference::GATEWAY_GROUP;
use super::status::{fails, holds};
use super::view::View;
use super::{entry, waypoint};
use crate::source::entry::ServiceEntry;
use crate::source::gateway::Gateway;
use crate::source::istio::{AuthorizationPolicySpec, TargetRef};

/// The targets that are meant, and why some of them are none.
#[derive(Debug, Default, PartialEq)]
pub struct Targets {
    /// What the policy holds for, also while it is not there.
    pub found: Vec<Target>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Whether waypoints serve what is meant.
    pub served: Served,
}

/// Whether the targets of a policy are served by waypoints.
#[derive(Debug, Default, PartialEq)]
pub struct Served {
    /// One is.
    some: bool,
    /// Those that are not, and what to do.
    others: Vec<String>,
    /// What holds meanwhile.
    pub meanwhile: Option<&'static str>,
}

/// The names of the Services that a policy is attached to.
pub fn services(spec: &AuthorizationPolicySpec) -> impl Iterator<Item = &str> {
    let references = spec.target_ref.iter().chain(&spec.target_refs);
    let services =
        references.filter(|it| it.kind == "Service" && matches!(&*it.group, "" | "core"));
    services.map(|it| it.name.as_str())
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
            Ok((found, missing)) => {
                targets.found.extend(found);
                match missing {
                    Some(why) => targets
                        .problems
                        .push(format!("spec.targetRefs[{at}]: {why}")),
                    None => match unserved(namespace, reference, view) {
                        Some(why) => targets.served.others.push(why),
                        None => targets.served.some = true,
                    },
                }
            }
            Err(why) => targets
                .problems
                .push(format!("spec.targetRefs[{at}]: {why}")),
        }
    }
    targets
}

/// Why no waypoint serves a target that is there. A Gateway serves itself.
fn unserved(namespace: &str, reference: &TargetRef, view: &View<'_>) -> Option<String> {
    let (kind, name) = (&reference.kind, &reference.name);
    let metadata = match kind.as_str() {
        "Service" => &view.find::<Service>(namespace, name)?.metadata,
        "ServiceEntry" => &view.find::<ServiceEntry>(namespace, name)?.metadata,
        _ => return None,
    };
    unbound(
        &format!("{kind} {namespace}/{name}"),
        namespace,
        metadata,
        view,
    )
}

/// Why no waypoint serves `what`, a Service or ServiceEntry, and what to do.
pub(super) fn unbound(
    what: &str,
    namespace: &str,
    metadata: &ObjectMeta,
    view: &View<'_>,
) -> Option<String> {
    let what = format!("{what} is not bound to a waypoint");
    match waypoint::binding_of_service(namespace, metadata, view) {
        None => Some(format!(
            "{what}: label it or its namespace {USE_WAYPOINT}=NAME of a waypoint that serves services"
        )),
        Some(binding) if binding.missing => {
            let of = binding.waypoint;
            Some(format!(
                "{what}: Gateway {of}, which it names, does not exist"
            ))
        }
        Some(binding) => binding.refused.map(|why| format!("{what}: {why}")),
    }
}

/// A target, which is each of its hosts for a ServiceEntry, and what is missing of it.
fn target(
    namespace: &str,
    reference: &TargetRef,
    view: &View<'_>,
) -> Result<(Vec<Target>, Option<String>), String> {
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
                vec![target],
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
            let key = NamespacedName::new(namespace, name);
            Ok((vec![Target::Waypoint(key)], missing))
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
            Ok((vec![Target::Mesh], None))
        }
        ("networking.istio.io", "ServiceEntry") => {
            let Some(found) = view.find::<ServiceEntry>(namespace, name) else {
                let missing = format!("ServiceEntry {namespace}/{name} does not exist");
                return Ok((Vec::new(), Some(missing)));
            };
            let hosts = entry::hosts(found);
            let key = |host| Target::Service(NamespacedName::new(namespace, host));
            Ok((hosts.map(key).collect(), None))
        }
        (group, kind) => Err(format!("{kind} of group {group:?} cannot be a target")),
    }
}

/// The condition of what waypoints enforce.
pub const ACCEPTED: &str = "WaypointAccepted";

/// The condition of a policy that could not be read, and the field that is why.
#[must_use]
pub fn unreadable(of: &ObjectMeta, condition: &str, why: &str) -> Value {
    let message =
        format!("the policy cannot be read: {why}; until it can it denies what it selects");
    fails(of, condition, "Unreadable", &message)
}

/// `status` of an Istio policy that only waypoints can enforce, and that names none.
#[must_use]
pub fn untargeted(of: &ObjectMeta, why: &str) -> Value {
    json!({ "conditions": [fails(of, ACCEPTED, "NoTarget", why)] })
}

/// `status` of an Istio policy: whether waypoints take it. A policy that none of them is asked to enforce is as good as
/// refused; of one that some of its targets go without, the others enforce it.
#[must_use]
pub fn accepted(of: &ObjectMeta, problems: &[String], served: &Served) -> Value {
    let condition = if !problems.is_empty() {
        let reason = if problems.iter().any(|p| p.contains("does not exist")) {
            "TargetNotFound"
        } else {
            "Invalid"
        };
        fails(of, ACCEPTED, reason, &problems.join("; "))
    } else if served.others.is_empty() {
        holds(of, ACCEPTED, "Accepted", "waypoints enforce the policy")
    } else if served.some {
        holds(
            of,
            ACCEPTED,
            "PartiallyInvalid",
            &served.notices().join("; "),
        )
    } else {
        let said = served.others.iter().map(String::as_str);
        let said: Vec<&str> = said.chain(served.meanwhile).collect();
        fails(of, ACCEPTED, "AncestorNotBound", &said.join("; "))
    };
    json!({ "conditions": [condition] })
}

impl Served {
    /// What the author may not expect.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let where_not = if self.some { " for all targets" } else { "" };
        let others = self.others.iter();
        let others = others.map(|other| format!("not enforced by a waypoint{where_not}: {other}"));
        others
            .chain(self.meanwhile.map(ToOwned::to_owned))
            .collect()
    }
}
