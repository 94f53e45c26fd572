//! Which policies apply to a workload.

use crate::fixtures::{index, key, pod, pod_in, policy};
use crate::index::{Applicable, Change, Index, UndecodablePolicy};
use crate::model::policy::Scope;
use crate::model::{AuthorizationPolicy, Workload};

fn scoped(name: &str, scope: Scope) -> AuthorizationPolicy {
    let mut policy = policy(name, Vec::new());
    policy.scope = scope;
    policy
}

fn undecodable(name: &str, scope: Option<Scope>) -> Change {
    Change::UndecodablePolicy(UndecodablePolicy {
        key: key(name),
        scope,
        reason: "bad".into(),
    })
}

fn applicable(index: &Index, workload: &Workload) -> Vec<String> {
    index
        .policies_for(workload)
        .map(|policy| match policy {
            Applicable::Ready(policy) => policy.key.to_string(),
            Applicable::Undecodable(policy) => format!("bad {}", policy.key),
            Applicable::Unknown(key) => format!("unknown {key}"),
        })
        .collect()
}

#[test]
fn scopes() {
    let index = index([
        scoped("istio-system/mesh", Scope::Global).into(),
        scoped("ns/b", Scope::Namespace).into(),
        scoped("ns/a", Scope::Namespace).into(),
        scoped("other/c", Scope::Namespace).into(),
        scoped("ns/selected", Scope::WorkloadSelector).into(),
        scoped("ns/not-selected", Scope::WorkloadSelector).into(),
    ]);
    let mut workload = pod("w", &[]);
    workload.authorization_policies = vec![
        key("ns/selected"),
        key("ns/a"),
        key("istio-system/mesh"),
        key("ns/missing"),
    ];
    let expected = [
        "istio-system/mesh",
        "ns/a",
        "ns/b",
        "ns/selected",
        "unknown ns/missing",
    ];
    assert_eq!(applicable(&index, &workload), expected);
    let elsewhere = pod_in("elsewhere", "w", &[]);
    assert_eq!(applicable(&index, &elsewhere), ["istio-system/mesh"]);
}

#[test]
fn an_undecodable_policy_applies_as_widely_as_it_may() {
    let mut selected = pod("selected", &[]);
    selected.authorization_policies = vec![key("ns/p"), key("istio-system/p")];
    let all = ["ns/w", "elsewhere/w", "ns/selected"];
    let cases = [
        ("ns/p", None, vec!["ns/w", "ns/selected"]),
        ("ns/p", Some(Scope::Namespace), vec!["ns/w", "ns/selected"]),
        ("ns/p", Some(Scope::WorkloadSelector), vec!["ns/selected"]),
        ("ns/p", Some(Scope::Global), all.to_vec()),
        ("istio-system/p", None, all.to_vec()),
        (
            "istio-system/p",
            Some(Scope::WorkloadSelector),
            vec!["ns/selected"],
        ),
    ];
    for (name, scope, expected) in cases {
        let index = index([undecodable(name, scope)]);
        let bad = format!("bad {name}");
        let hit: Vec<String> = [
            pod("w", &[]),
            pod_in("elsewhere", "w", &[]),
            selected.clone(),
        ]
        .iter()
        .filter(|workload| applicable(&index, workload).contains(&bad))
        .map(|workload| format!("{}/{}", workload.namespace, workload.name))
        .collect();
        assert_eq!(hit, expected, "{name} {scope:?}");
    }
}

#[test]
fn another_root_namespace() {
    let mut index = Index::new("mesh-root");
    index.apply(undecodable("mesh-root/p", None));
    index.apply(undecodable("istio-system/p", None));
    assert_eq!(applicable(&index, &pod("w", &[])), ["bad mesh-root/p"]);
}

#[test]
fn a_policy_is_replaced_whatever_it_was() {
    let workload = pod("w", &[]);
    let steps: Vec<(Change, Vec<&str>)> = vec![
        (scoped("ns/p", Scope::Namespace).into(), vec!["ns/p"]),
        (undecodable("ns/p", None), vec!["bad ns/p"]),
        (scoped("ns/p", Scope::Global).into(), vec!["ns/p"]),
        (scoped("ns/p", Scope::WorkloadSelector).into(), vec![]),
        (scoped("ns/p", Scope::Namespace).into(), vec!["ns/p"]),
        (Change::RemovePolicy(key("ns/p")), vec![]),
        (undecodable("ns/p", None), vec!["bad ns/p"]),
        (Change::RemovePolicy(key("ns/p")), vec![]),
    ];
    let mut index = index([]);
    for (step, (change, expected)) in steps.into_iter().enumerate() {
        index.apply(change);
        assert_eq!(applicable(&index, &workload), expected, "step {step}");
    }
    assert_eq!(index.policies().count(), 0);
}

#[test]
fn synced_only_after_a_push() {
    let mut index = Index::default();
    assert!(!index.policies_synced());
    index.apply(Change::PoliciesSynced);
    assert!(index.policies_synced());
}
