//! PeerAuthentication: which workloads take connections without mutual TLS.
//!
//! Node proxies know only policies, so STRICT becomes a DENY of connections without a principal.
//! The names of those policies are the ones Istio gives them.

use std::collections::BTreeMap;

use ambit_core::addr::NamespacedName;
use ambit_core::authz::{CONVERTED, STATIC_STRICT};
use ambit_core::model::{Action, AuthorizationPolicy, Clause, Match, Rule, Scope, StringMatch};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::authorization::has_labels;
use super::labels::selects;
use super::{Mesh, PolicyOutcome, values};
use crate::index::objects::Objects;
use crate::source::istio::{MutualTls, PeerAuthentication};

/// The key of the policy for workloads that are STRICT on every port.
#[must_use]
pub fn static_key(mesh: &Mesh) -> NamespacedName {
    NamespacedName::new(mesh.root_namespace.clone(), STATIC_STRICT)
}

/// The policy for workloads that are STRICT on every port.
#[must_use]
pub fn static_strict(mesh: &Mesh) -> AuthorizationPolicy {
    deny(static_key(mesh), Match::default())
}

/// The key of the policy that a PeerAuthentication with ports of their own becomes.
#[must_use]
pub fn converted_key(namespace: &str, name: &str) -> NamespacedName {
    NamespacedName::new(namespace, format!("{CONVERTED}{name}"))
}

/// The policy of one PeerAuthentication. Only one with a selector and with ports that differ from
/// the rest needs a policy of its own.
#[must_use]
pub fn translate(
    namespace: &str,
    name: &str,
    peer: &PeerAuthentication,
    objects: &Objects,
    mesh: &Mesh,
) -> PolicyOutcome {
    let own = read(peer);
    let mut outcome = PolicyOutcome {
        problems: own.problems.clone(),
        ..PolicyOutcome::default()
    };
    if !has_labels(peer.spec.selector.as_ref()) {
        if !peer.spec.port_level_mtls.is_empty() {
            let notice = "spec.portLevelMtls needs a spec.selector and has no effect without";
            outcome.notices.push(notice.to_owned());
        }
        return outcome;
    }
    let strict = own
        .strict
        .unwrap_or_else(|| inherited(namespace, objects, mesh));
    outcome.policy = own.differing(strict).map(|ports| {
        let found = if strict {
            Match {
                not_destination_ports: ports,
                ..Match::default()
            }
        } else {
            Match {
                destination_ports: ports,
                ..Match::default()
            }
        };
        deny(converted_key(namespace, name), found)
    });
    outcome
}

/// The policies that PeerAuthentications mean for a pod of `namespace` with this metadata: none,
/// or one. The most specific PeerAuthentication decides, of two the older one.
#[must_use]
pub fn selecting(
    namespace: &str,
    metadata: &ObjectMeta,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<NamespacedName> {
    let own = selected(namespace, metadata, objects);
    let inherited = || inherited(namespace, objects, mesh);
    let Some((name, peer)) = own else {
        return inherited().then(|| static_key(mesh));
    };
    let own = read(peer);
    let strict = own.strict.unwrap_or_else(inherited);
    if own.differing(strict).is_some() {
        Some(converted_key(namespace, name))
    } else {
        strict.then(|| static_key(mesh))
    }
}

/// The PeerAuthentication because of which a pod of `namespace` with this metadata is STRICT on every port, or on those without a
/// mode of their own; `None` where it is not.
#[must_use]
pub fn strict_by(
    namespace: &str,
    metadata: &ObjectMeta,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<NamespacedName> {
    let own = selected(namespace, metadata, objects).map(|(name, peer)| (namespace, name, peer));
    let mut all = own.into_iter().chain(wide(namespace, objects, mesh));
    let (namespace, name, strict) =
        all.find_map(|(namespace, name, peer)| Some((namespace, name, read(peer).strict?)))?;
    strict.then(|| NamespacedName::new(namespace, name))
}

/// A rule that holds without a principal, and where `also` holds.
fn deny(key: NamespacedName, also: Match) -> AuthorizationPolicy {
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    let clauses = [anonymous, also]
        .into_iter()
        .filter(|found| *found != Match::default())
        .map(|found| Clause {
            matches: vec![found],
        })
        .collect();
    AuthorizationPolicy {
        key,
        scope: Scope::WorkloadSelector,
        action: Action::Deny,
        rules: vec![Rule { clauses }],
        dry_run: false,
    }
}

/// What the namespace, else the mesh, says. The default is PERMISSIVE.
fn inherited(namespace: &str, objects: &Objects, mesh: &Mesh) -> bool {
    let mut wide = wide(namespace, objects, mesh);
    let strict = wide.find_map(|(_, _, peer)| read(peer).strict);
    strict.unwrap_or(false)
}

/// The one that selects a pod of the namespace with this metadata.
fn selected<'a>(
    namespace: &str,
    metadata: &ObjectMeta,
    objects: &'a Objects,
) -> Option<(&'a str, &'a PeerAuthentication)> {
    oldest(namespace, objects, |peer| {
        let selector = peer.spec.selector.as_ref();
        has_labels(selector) && selector.is_some_and(|s| selects(&s.match_labels, metadata))
    })
}

/// Those for all pods of the namespace, of the mesh last: namespace, name and what is said.
fn wide<'a>(
    namespace: &'a str,
    objects: &'a Objects,
    mesh: &'a Mesh,
) -> impl Iterator<Item = (&'a str, &'a str, &'a PeerAuthentication)> {
    [namespace, &*mesh.root_namespace]
        .into_iter()
        .filter_map(|of| {
            let (name, peer) =
                oldest(of, objects, |peer| !has_labels(peer.spec.selector.as_ref()))?;
            Some((of, name, peer))
        })
}

fn oldest<'a>(
    namespace: &str,
    objects: &'a Objects,
    wanted: impl Fn(&PeerAuthentication) -> bool,
) -> Option<(&'a str, &'a PeerAuthentication)> {
    objects
        .peers
        .within(namespace)
        .filter(|(_, peer)| wanted(peer))
        // By name among those of one age; those without a time come last.
        .min_by_key(|(name, peer)| {
            let created = peer.metadata.creation_timestamp.clone();
            (created.is_none(), created, (*name).clone())
        })
        .map(|(name, peer)| (&**name, &**peer))
}

/// What one PeerAuthentication says.
struct Modes {
    /// `None`: as the wider scope says.
    strict: Option<bool>,
    ports: BTreeMap<u16, bool>,
    problems: Vec<String>,
}

impl Modes {
    /// The ports that are not as all others.
    fn differing(&self, strict: bool) -> Option<Vec<u16>> {
        let ports: Vec<u16> = self
            .ports
            .iter()
            .filter(|(_, port)| **port != strict)
            .map(|(port, _)| *port)
            .collect();
        (!ports.is_empty()).then_some(ports)
    }
}

/// A mode or a port that makes no sense is read as STRICT.
fn read(peer: &PeerAuthentication) -> Modes {
    let mut modes = Modes {
        strict: None,
        ports: BTreeMap::new(),
        problems: Vec::new(),
    };
    let mut problems = Vec::new();
    let mut mode = |at: &str, mtls: &MutualTls| match mtls.mode.as_deref() {
        None | Some("" | "UNSET") => None,
        Some("STRICT") => Some(true),
        Some("PERMISSIVE" | "DISABLE") => Some(false),
        Some(other) => {
            problems.push(format!(
                "{at}: {other:?} is not STRICT, PERMISSIVE, DISABLE or UNSET; read as STRICT"
            ));
            Some(true)
        }
    };
    if let Some(mtls) = &peer.spec.mtls {
        modes.strict = mode("spec.mtls.mode", mtls);
    }
    let mut bad_ports = Vec::new();
    for (port, mtls) in &peer.spec.port_level_mtls {
        let at = format!("spec.portLevelMtls[{port}].mode");
        match values::port(port) {
            Ok(port) => {
                if let Some(strict) = mode(&at, mtls) {
                    modes.ports.insert(port, strict);
                }
            }
            Err(error) => bad_ports.push(format!(
                "spec.portLevelMtls: {error}; all ports without a mode of their own are STRICT"
            )),
        }
    }
    if !bad_ports.is_empty() {
        modes.strict = Some(true);
    }
    modes.problems = problems;
    modes.problems.extend(bad_ports);
    modes
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
