//! What a route is attached to: Services here, Gateways elsewhere.

use ambit_http::model::route::Parent;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::reference::{GATEWAY_GROUP, Unresolved, port_named, port_of};
use super::super::status::{CONTROLLER, fails, holds};
use super::super::view::View;
use super::super::{service, waypoint};
use crate::source::gateway::Gateway;
use crate::source::gateway::route::ParentRef;

/// The parents of a route that are ours, and why some are refused.
pub(super) struct Attached {
    parents: Vec<(ParentRef, Result<Found, String>)>,
}

/// A Service that takes the route.
struct Found {
    namespace: String,
    parent: Parent,
}

/// Looks at every parent; those that are not ours are left out.
pub(super) fn attach(view: &View<'_>, namespace: &str, references: &[ParentRef]) -> Attached {
    let parents = references.iter().filter_map(|reference| {
        let parent = of(view, namespace, reference)?;
        Some((reference.clone(), parent))
    });
    Attached {
        parents: parents.collect(),
    }
}

fn of(view: &View<'_>, namespace: &str, reference: &ParentRef) -> Option<Result<Found, String>> {
    let group = reference.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = reference.kind.as_deref().unwrap_or("Gateway");
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    let name = reference.name.as_str();
    match (group, kind) {
        ("" | "core", "Service") => Some(of_service(view, namespace, reference)),
        (GATEWAY_GROUP, "Gateway") => {
            let gateway = view.find::<Gateway>(namespace, name)?;
            // Other classes are other controllers' business.
            waypoint::is_waypoint(gateway).then(|| {
                Err(format!(
                    "Gateway {namespace}/{name} is a waypoint: attach the route to a Service that uses it"
                ))
            })
        }
        _ => None,
    }
}

fn of_service(view: &View<'_>, namespace: &str, reference: &ParentRef) -> Result<Found, String> {
    let name = reference.name.as_str();
    let Some(found) = view.find::<Service>(namespace, name) else {
        return Err(format!("Service {namespace}/{name} does not exist"));
    };
    if service::is_external(found) {
        return Err(format!("Service {namespace}/{name} is an ExternalName"));
    }
    let by_number = match reference.port {
        None => None,
        Some(port) => match port_of(found, port) {
            Some(port) => Some(port),
            None => return Err(format!("Service {namespace}/{name} has no TCP port {port}")),
        },
    };
    let by_name = match reference.section_name.as_deref() {
        None | Some("") => None,
        Some(section) => match port_named(found, section) {
            Some(port) => Some(port),
            None => {
                let what = format!("has no TCP port named {section:?}");
                return Err(format!("Service {namespace}/{name} {what}"));
            }
        },
    };
    if let (Some(number), Some(named)) = (by_number, by_name)
        && number != named
    {
        return Err("port and sectionName are different ports".to_owned());
    }
    let parent = Parent {
        service: view.service_key(namespace, name),
        port: by_number.or(by_name),
    };
    Ok(Found {
        namespace: namespace.to_owned(),
        parent,
    })
}

impl Attached {
    pub(super) fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Those of the route's own namespace, and the others.
    pub(super) fn parents(&self, namespace: &str) -> (Vec<Parent>, Vec<Parent>) {
        let accepted = self
            .parents
            .iter()
            .filter_map(|(_, found)| found.as_ref().ok());
        let (own, others): (Vec<_>, Vec<_>) =
            accepted.partition(|found| found.namespace == namespace);
        let parents = |found: Vec<&Found>| {
            found
                .into_iter()
                .map(|found| found.parent.clone())
                .collect()
        };
        (parents(own), parents(others))
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = &str> {
        self.parents
            .iter()
            .filter_map(|(_, found)| found.as_ref().err().map(String::as_str))
    }

    /// `status.parents`. `rules`: what is wrong with rules, and whether it is all of them.
    pub(super) fn statuses(
        &self,
        of: &ObjectMeta,
        rules: Option<&(bool, String)>,
        unresolved: Option<&Unresolved>,
    ) -> Vec<Value> {
        let statuses = self.parents.iter().map(|(reference, found)| {
            let mut conditions = Vec::new();
            match (found, rules) {
                (Err(why), _) => {
                    conditions.push(fails(of, "Accepted", "NoMatchingParent", why));
                }
                (Ok(_), Some((true, why))) => {
                    conditions.push(fails(of, "Accepted", "UnsupportedValue", why));
                }
                (Ok(_), rules) => {
                    conditions.push(holds(of, "Accepted", "Accepted", "the route is in force"));
                    if let Some((_, why)) = rules {
                        let reason = "UnsupportedValue";
                        conditions.push(holds(of, "PartiallyInvalid", reason, why));
                    }
                }
            }
            conditions.push(match unresolved {
                Some(it) => fails(of, "ResolvedRefs", it.reason, &it.message),
                None => holds(
                    of,
                    "ResolvedRefs",
                    "ResolvedRefs",
                    "all references are good",
                ),
            });
            json!({
                "parentRef": reference,
                "controllerName": CONTROLLER,
                "conditions": conditions,
            })
        });
        statuses.collect()
    }
}
