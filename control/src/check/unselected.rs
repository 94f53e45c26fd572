//! Policies of a namespace whose selector selects nothing of it now.

use ambit_core::index::DEFAULT_ROOT_NAMESPACE;

use super::{Check, Finding, finding, hidden, items};
use crate::index::objects::Objects;
use crate::source::parse::{Wire, parse_wire};
use crate::source::{Key, Kind};
use crate::translate::{Mesh, unselected};

/// What is asked for this, in this order, and what is there.
fn lists(namespace: &str) -> [(Kind, String); 4] {
    let istio =
        |group, plural| format!("/apis/{group}.istio.io/v1/namespaces/{namespace}/{plural}");
    [
        (
            Kind::AuthorizationPolicy,
            istio("security", "authorizationpolicies"),
        ),
        (
            Kind::PeerAuthentication,
            istio("security", "peerauthentications"),
        ),
        (Kind::WorkloadEntry, istio("networking", "workloadentries")),
        (Kind::Pod, format!("/api/v1/namespaces/{namespace}/pods")),
    ]
}

/// What is asked for this, besides the pods.
pub(super) fn questions(namespace: &str) -> impl Iterator<Item = String> {
    let all = lists(namespace).into_iter();
    all.filter(|(kind, _)| *kind != Kind::Pod)
        .map(|(_, path)| path)
}

impl Check<'_> {
    /// Which policies select nothing, which is no failure: their pods may be yet to come. Nothing is found where there are no
    /// policies, and of the root namespace, whose policies select everywhere.
    pub(super) fn selectors(&self, namespace: &str) -> Option<Finding> {
        if namespace == DEFAULT_ROOT_NAMESPACE {
            return None;
        }
        let what = format!("policies of {namespace} select pods");
        let lists = lists(namespace);
        if let Some((_, path)) = lists.iter().find(|(_, path)| self.is_hidden(path)) {
            let skipped = Some(hidden(path));
            return Some(Finding {
                skipped,
                ..finding(what, None)
            });
        }
        let mut objects = Objects::default();
        // That pods cannot be listed is found already; of machines not every cluster knows. What does not read is told elsewhere.
        for (kind, path) in lists {
            for item in self.answer(&path).into_iter().flat_map(items) {
                if let Ok(object) = parse_wire(kind, Wire::Item(item)) {
                    let key = Key {
                        namespace: namespace.into(),
                        ..object.key()
                    };
                    objects.set(&key, Some(object));
                }
            }
        }
        unselected::selecting(&objects).next()?;
        let idle = unselected::notices(&objects, &Mesh::default());
        let idle = idle
            .iter()
            .map(|(key, why)| format!("{} {}: {why}", key.kind, key.name));
        let idle: Vec<_> = idle.collect();
        Some(Finding {
            notice: (!idle.is_empty()).then(|| idle.join("; ")),
            ..finding(what, None)
        })
    }
}
