//! Policies whose selector selects nothing now: a label that is misspelt, or pods that are yet to come.
//!
//! Asked of all objects when somebody wants to know, so that pods that come and go cost nothing. No part of a translation:
//! that would look at every pod.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::labels::selects;
use super::{Mesh, authorization, entry};
use crate::index::objects::{Objects, Table};
use crate::source::istio::Selector;
use crate::source::{Key, Kind};

/// A policy with a selector: kind, namespace, name.
type Selecting<'a> = (Kind, &'a Arc<str>, &'a Arc<str>, &'a Selector);

/// The policies that have a selector, and are something to node proxies.
pub fn selecting(objects: &Objects) -> impl Iterator<Item = Selecting<'_>> {
    let policies = objects.policies.all();
    let policies = policies.filter(|(_, _, policy)| authorization::for_node_proxies(policy));
    let policies = policies.map(|(namespace, name, policy)| {
        let kind = Kind::AuthorizationPolicy;
        (kind, namespace, name, policy.spec.selector.as_ref())
    });
    let peers = objects.peers.all().map(|(namespace, name, peer)| {
        let kind = Kind::PeerAuthentication;
        (kind, namespace, name, peer.spec.selector.as_ref())
    });
    policies
        .chain(peers)
        .filter_map(|(kind, namespace, name, selector)| {
            let selector = selector.filter(|it| authorization::has_labels(Some(it)))?;
            Some((kind, namespace, name, selector))
        })
}

/// What the authors of those may not expect that select nothing.
#[must_use]
pub fn notices(objects: &Objects, mesh: &Mesh) -> Vec<(Key, String)> {
    let mut by_scope: BTreeMap<(&Arc<str>, bool), Vec<_>> = BTreeMap::new();
    for (kind, namespace, name, selector) in selecting(objects) {
        // A PeerAuthentication with a selector is its own namespace's alone, also in the root namespace.
        let everywhere = kind == Kind::AuthorizationPolicy && *namespace == mesh.root_namespace;
        let of = by_scope.entry((namespace, everywhere)).or_default();
        of.push((kind, name, selector));
    }
    let mut notices = Vec::new();
    for ((namespace, everywhere), of) in by_scope {
        let selectable = Selectable::of((!everywhere).then_some(namespace), objects);
        let idle = of
            .into_iter()
            .filter(|(_, _, selector)| !selectable.has(selector));
        notices.extend(idle.map(|(kind, name, selector)| {
            let of = match everywhere {
                true => "of any namespace".to_owned(),
                false => format!("of namespace {namespace}"),
            };
            let key = Key {
                kind,
                namespace: namespace.clone(),
                name: name.clone(),
            };
            (key, message(&selector.match_labels, &of))
        }));
    }
    notices
}

/// What the author of a policy is told that selects nothing of `of`.
fn message(labels: &BTreeMap<String, String>, of: &str) -> String {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "spec.selector selects no pod {of} now: none has {}",
        labels.join(", ")
    )
}

/// What a selector may select.
struct Selectable<'a> {
    all: Vec<Metadata<'a>>,
    /// Every label that any of them has: what is misspelt is none of these, and nobody has to be looked at.
    labels: HashSet<(String, String)>,
}

type Metadata<'a> = std::borrow::Cow<'a, ObjectMeta>;

impl<'a> Selectable<'a> {
    /// Pods and machines of a namespace, or of all.
    fn of(namespace: Option<&str>, objects: &'a Objects) -> Self {
        let pods = within(&objects.pods, namespace);
        let pods = pods.map(|pod| Metadata::Borrowed(&pod.metadata));
        let machines = within(&objects.workload_entries, namespace);
        let machines = machines.map(|it| Metadata::Owned(entry::workload::labelled(it)));
        let all: Vec<_> = pods.chain(machines).collect();
        let labels = all.iter().filter_map(|it| it.labels.as_ref()).flatten();
        let labels = labels
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self { all, labels }
    }

    fn has(&self, selector: &Selector) -> bool {
        let wanted = &selector.match_labels;
        let mut each = wanted
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        each.all(|label| self.labels.contains(&label))
            && (wanted.len() == 1 || self.all.iter().any(|it| selects(wanted, it)))
    }
}

fn within<'a, T>(table: &'a Table<T>, namespace: Option<&str>) -> impl Iterator<Item = &'a Arc<T>> {
    let some = namespace.map(|namespace| table.within(namespace).map(|(_, it)| it));
    let all = namespace
        .is_none()
        .then(|| table.all().map(|(_, _, it)| it));
    some.into_iter().flatten().chain(all.into_iter().flatten())
}

#[cfg(test)]
#[path = "unselected_tests.rs"]
mod tests;
