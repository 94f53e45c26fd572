//! References between objects: who may refer to whom, and what a reference leads to.

use ambit_core::plan::Transport;
use ambit_http::model::route::BackendRef;
use k8s_openapi::api::core::v1::Service;

use super::view::View;
use super::{ports, service};
use crate::source::Kind;
use crate::source::gateway::ReferenceGrant;
use crate::source::gateway::route;

/// Group of Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// A reference that leads nowhere, with the reason of Gateway API's `ResolvedRefs` condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// `InvalidKind`, `RefNotPermitted` or `BackendNotFound`.
    pub reason: &'static str,
    /// What to do.
    pub message: String,
}

/// The object that refers.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Referrer<'a> {
    pub group: &'a str,
    pub kind: Kind,
    pub namespace: &'a str,
    /// What a route is attached to: it may send there whatever the namespace, for it only routes what its
    /// clients send there anyway (GEP-1294).
    pub parents: &'a [route::ParentRef],
}

/// What a backend reference leads to. One that leads nowhere becomes a backend that is refused.
#[must_use]
pub fn backend(
    view: &View<'_>,
    from: Referrer<'_>,
    reference: &route::BackendRef,
) -> (BackendRef, Option<Unresolved>) {
    match resolve(view, from, reference) {
        Ok(found) => (found, None),
        Err(unresolved) => {
            let reason = unresolved.message.as_str().into();
            (BackendRef::Invalid { reason }, Some(unresolved))
        }
    }
}

fn resolve(
    view: &View<'_>,
    from: Referrer<'_>,
    reference: &route::BackendRef,
) -> Result<BackendRef, Unresolved> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Service");
    let namespace = reference.namespace.as_deref().unwrap_or(from.namespace);
    let name = reference.name.as_str();
    if !matches!((group, kind), ("" | "core", "Service")) {
        return Err(Unresolved {
            reason: "InvalidKind",
            message: format!("a backend is a Service, not {kind} of group {group:?}"),
        });
    }
    let permitted = namespace == from.namespace
        || is_parent(from, namespace, name)
        || granted(view, from, namespace, name);
    if !permitted {
        return Err(Unresolved {
            reason: "RefNotPermitted",
            message: format!(
                "no ReferenceGrant in namespace {namespace} lets {} of namespace {} refer to Service {name}",
                from.kind, from.namespace
            ),
        });
    }
    let missing = |message| Unresolved {
        reason: "BackendNotFound",
        message,
    };
    let Some(found) = view.find::<Service>(namespace, name) else {
        return Err(missing(format!(
            "Service {namespace}/{name} does not exist"
        )));
    };
    if service::is_external(found) {
        let message = format!("Service {namespace}/{name} is an ExternalName: it has no endpoints");
        return Err(missing(message));
    }
    let Some(port) = reference.port else {
        return Err(missing(format!(
            "the reference to Service {namespace}/{name} names no port"
        )));
    };
    match port_of(found, port) {
        Some(port) => Ok(BackendRef::Service {
            service: view.service_key(namespace, name),
            port,
        }),
        None => Err(missing(format!(
            "Service {namespace}/{name} has no TCP port {port}"
        ))),
    }
}

fn is_parent(from: Referrer<'_>, namespace: &str, name: &str) -> bool {
    from.parents.iter().any(|parent| {
        matches!(parent.group.as_deref(), Some("" | "core"))
            && parent.kind.as_deref() == Some("Service")
            && parent.namespace.as_deref().unwrap_or(from.namespace) == namespace
            && parent.name == name
    })
}

/// Whether a ReferenceGrant of `namespace` lets the referrer refer to this Service.
fn granted(view: &View<'_>, from: Referrer<'_>, namespace: &str, name: &str) -> bool {
    view.within::<ReferenceGrant>(namespace).any(|(_, grant)| {
        let kind = from.kind.to_string();
        let who = grant.spec.from.iter().any(|grant| {
            grant.group == from.group && grant.kind == kind && grant.namespace == from.namespace
        });
        let what = grant.spec.to.iter().any(|to| {
            matches!(to.group.as_str(), "" | "core")
                && to.kind == "Service"
                && to
                    .name
                    .as_deref()
                    .is_none_or(|only| only.is_empty() || only == name)
        });
        who && what
    })
}

/// A TCP port of a Service, by number.
#[must_use]
pub fn port_of(service: &Service, port: i32) -> Option<u16> {
    let port = u16::try_from(port).ok()?;
    let known = ports::of_service(service, Transport::Tcp);
    known.iter().any(|p| p.service_port == port).then_some(port)
}

/// A TCP port of a Service, by name.
#[must_use]
pub fn port_named(service: &Service, name: &str) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|p| p.name.as_deref() == Some(name))?;
    port_of(service, port.port)
}
