//! Policies of a namespace whose selector selects nothing of it now.

use std::collections::BTreeMap;

use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use serde_json::Value;

use super::{Check, Finding, finding, hidden, items, name};
use crate::translate::unselected::message;

type Labels = BTreeMap<String, String>;

fn policies(namespace: &str) -> [(&'static str, String); 2] {
    let path = |plural| format!("/apis/security.istio.io/v1/namespaces/{namespace}/{plural}");
    [
        ("AuthorizationPolicy", path("authorizationpolicies")),
        ("PeerAuthentication", path("peerauthentications")),
    ]
}

fn machines(namespace: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries")
}

/// What is asked for this, besides the pods.
pub(super) fn questions(namespace: &str) -> impl Iterator<Item = String> {
    let policies = policies(namespace).map(|(_, path)| path);
    policies.into_iter().chain([machines(namespace)])
}

impl Check<'_> {
    /// Which policies select nothing, which is no failure: their pods may be yet to come. Nothing is found where there are no
    /// policies, and of the root namespace, whose policies select everywhere.
    pub(super) fn selectors(&self, namespace: &str) -> Option<Finding> {
        if namespace == DEFAULT_ROOT_NAMESPACE {
            return None;
        }
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let machines = machines(namespace);
        let what = format!("policies of {namespace} select pods");
        let mut paths = policies(namespace).map(|(_, path)| path).to_vec();
        paths.extend([pods.clone(), machines.clone()]);
        if let Some(path) = paths.iter().find(|path| self.is_hidden(path)) {
            let skipped = Some(hidden(path));
            return Some(Finding {
                skipped,
                ..finding(what, None)
            });
        }
        let mut selectable: Vec<Labels> = Vec::new();
        // That pods cannot be listed is found already; of machines not every cluster knows.
        for path in [pods, machines] {
            let found = self.answer(&path).into_iter().flat_map(items);
            selectable.extend(found.map(|it| {
                let mut all = labels(&it["metadata"]["labels"]);
                all.extend(labels(&it["spec"]["labels"]));
                all
            }));
        }
        let mut seen = 0;
        let mut idle = Vec::new();
        for (kind, path) in policies(namespace) {
            for policy in self.answer(&path).into_iter().flat_map(items) {
                let spec = &policy["spec"];
                let wanted = labels(&spec["selector"]["matchLabels"]);
                let targeted = spec.get("targetRef").or_else(|| spec.get("targetRefs"));
                if wanted.is_empty() || targeted.is_some() {
                    continue;
                }
                seen += 1;
                let has = |of: &Labels| {
                    wanted
                        .iter()
                        .all(|(name, value)| of.get(name) == Some(value))
                };
                if !selectable.iter().any(has) {
                    let of = format!("of namespace {namespace}");
                    idle.push(format!(
                        "{kind} {}: {}",
                        name(policy),
                        message(&wanted, &of)
                    ));
                }
            }
        }
        (seen > 0).then(|| Finding {
            notice: (!idle.is_empty()).then(|| idle.join("; ")),
            ..finding(what, None)
        })
    }
}

fn labels(of: &Value) -> Labels {
    let all = of.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
