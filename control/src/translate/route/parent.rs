//! What a route is attached to: Services here, Gateways elsewhere.
//!
//! Of the kinds of route at a port one counts (GEP-1294): GRPCRoute, HTTPRoute, TLSRoute, TCPRoute, the
//! first that is there.

use ambit_http::model::route::Parent;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::reference::{GATEWAY_GROUP, Unresolved, port_named, port_of};
use super::super::status::{CONTROLLER, fails, holds};
use super::super::view::View;
use super::super::{service, target, waypoint};
use crate::source::Kind;
use crate::source::gateway::route::ParentRef;
use crate::source::gateway::{GRPCRoute, Gateway, HTTPRoute, TLSRoute};

/// The parents of a route that are ours, and why some are refused.
pub(super) struct Attached {
    parents: Vec<(ParentRef, Result<Found, Refused>)>,
}

/// Why a parent does not take a route.
struct Refused {
    reason: &'static str,
    message: String,
}

/// A Service that takes the route.
struct Found {
    namespace: String,
    parent: Parent,
    /// Why no waypoint follows the route there.
    unbound: Option<String>,
}

/// Looks at every parent of a route of this kind; those that are not ours are left out.
pub(super) fn attach(
    view: &View<'_>,
    namespace: &str,
    kind: Kind,
    references: &[ParentRef],
) -> Attached {
    let parents = references.iter().filter_map(|reference| {
        let found = of(view, namespace, reference)?;
        let found = found.map_err(|message| Refused {
            reason: "NoMatchingParent",
            message,
        });
        let found = found.and_then(|found| match conflict(view, namespace, kind, &found) {
            None => Ok(Found {
                unbound: unbound(view, reference, &found.namespace),
                ..found
            }),
            Some(message) => Err(Refused {
                reason: "Conflicted",
                message,
            }),
        });
        Some((reference.clone(), found))
    });
    Attached {
        parents: parents.collect(),
    }
}

/// Which route of a kind that goes first is attached to the same. It is looked for where the route itself
/// is: a consumer's routes take nothing from a producer's.
fn conflict(view: &View<'_>, namespace: &str, kind: Kind, found: &Found) -> Option<String> {
    // A gRPC route of all ports takes each of them from HTTP; of the others one is at a port when it says so.
    let every = kind == Kind::HTTPRoute;
    let same = |other: Found| {
        let (own, other) = (&found.parent, other.parent);
        let port = other.port == own.port || (every && other.port.is_none());
        port && other.service == own.service
    };
    let takes = |references: &[ParentRef]| {
        let mut parents = references.iter().filter_map(|it| of(view, namespace, it));
        parents.any(|it| it.is_ok_and(same))
    };
    macro_rules! first {
        ($of:ident) => {
            || {
                let mut all = view.within::<$of>(namespace);
                let (name, _) = all.find(|(_, route)| takes(&route.spec.parent_refs))?;
                let other = Kind::$of;
                Some(format!(
                    "{other} {namespace}/{name} is attached there as well and goes first"
                ))
            }
        };
    }
    let (grpc, http, tls) = (first!(GRPCRoute), first!(HTTPRoute), first!(TLSRoute));
    match kind {
        Kind::HTTPRoute => grpc(),
        Kind::TLSRoute => grpc().or_else(http),
        Kind::TCPRoute => grpc().or_else(http).or_else(tls),
        _ => None,
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
        unbound: None,
    })
}

fn unbound(view: &View<'_>, reference: &ParentRef, namespace: &str) -> Option<String> {
    let name = &reference.name;
    let metadata = &view.find::<Service>(namespace, name)?.metadata;
    let what = format!("Service {namespace}/{name}");
    target::unbound(&what, namespace, metadata, view)
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
            .filter_map(|(_, found)| Some(found.as_ref().err()?.message.as_str()))
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
                (Err(refused), _) => {
                    let Refused { reason, message } = refused;
                    conditions.push(fails(of, "Accepted", reason, message));
                }
                (Ok(_), Some((true, why))) => {
                    conditions.push(fails(of, "Accepted", "UnsupportedValue", why));
                }
                (Ok(found), rules) => {
                    let message = match &found.unbound {
                        None => "the route is in force",
                        Some(why) => &format!("nothing follows the route yet: {why}"),
                    };
                    conditions.push(holds(of, "Accepted", "Accepted", message));
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
