//! What differs between the pods that should be in the mesh and those that are.

use std::collections::{BTreeMap, BTreeSet};

use super::pod::{Decision, Labels, Pod, decide};

/// What is to be done about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It should be in the mesh and is not: its namespace or itself was labelled after its start.
    Enrol(Pod),
    /// It is in the mesh and should not be any more.
    Release(String),
    /// It is in the mesh and does not exist any more.
    Forget(String),
}

/// Compares the UIDs that are enrolled with the pods of this node.
#[must_use]
pub fn reconcile(
    enrolled: &BTreeSet<String>,
    pods: &[Pod],
    namespaces: &BTreeMap<String, Labels>,
) -> Vec<Action> {
    let none = Labels::new();
    let wanted = |pod: &Pod| {
        let labels = namespaces.get(&pod.namespace).unwrap_or(&none);
        decide(pod, labels) == Decision::Enrol
    };
    let by_uid: BTreeMap<&str, &Pod> = pods.iter().map(|pod| (pod.uid.as_str(), pod)).collect();
    let left = enrolled
        .iter()
        .filter_map(|uid| match by_uid.get(uid.as_str()) {
            None => Some(Action::Forget(uid.clone())),
            Some(pod) if !wanted(pod) => Some(Action::Release(uid.clone())),
            Some(_) => None,
        });
    let new = by_uid
        .values()
        .filter(|pod| wanted(pod) && !enrolled.contains(&pod.uid))
        .map(|pod| Action::Enrol((*pod).clone()));
    left.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_become_actions() {
        let pod = |uid: &str, namespace: &str| Pod {
            uid: uid.into(),
            namespace: namespace.into(),
            ..Pod::default()
        };
        let pods = [
            pod("1", "in"),
            pod("2", "in"),
            pod("3", "out"),
            pod("4", "unknown"),
        ];
        let ambient = [("istio.io/dataplane-mode".into(), "ambient".into())];
        let namespaces = [
            ("in".into(), Labels::from(ambient)),
            ("out".into(), Labels::new()),
        ]
        .into();
        let plan = |enrolled: &[&str]| {
            let enrolled = enrolled.iter().map(|uid| (*uid).into()).collect();
            reconcile(&enrolled, &pods, &namespaces)
        };
        assert_eq!(plan(&["1", "2"]), []);
        assert_eq!(plan(&["1"]), [Action::Enrol(pods[1].clone())]);
        assert_eq!(plan(&["1", "2", "3"]), [Action::Release("3".into())]);
        assert_eq!(plan(&["1", "2", "9"]), [Action::Forget("9".into())]);
    }
}
