//! Which selectors select nothing, as pods come and go.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::*;
use crate::index::Index;
use crate::translate::testing::{apply, index};

fn pod(namespace: &str, name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec: {{containers: []}}\n"
    )
}

fn policy(kind: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn told(index: &Index) -> Vec<String> {
    let found = notices(index.objects(), index.mesh()).into_iter();
    found.map(|(key, what)| format!("{key}: {what}")).collect()
}

#[test]
fn a_selector_that_selects_nothing_is_told_while_it_does() {
    let web = "selector: {matchLabels: {app: web}}";
    for kind in ["AuthorizationPolicy", "PeerAuthentication"] {
        let mut index = index(&policy(kind, "shop", web));
        let said = format!(
            "{kind} shop/p: spec.selector selects no pod of namespace shop now: none has app=web"
        );
        assert_eq!(told(&index), [&*said], "no pod at all");
        apply(&mut index, &pod("shop", "other", "app: other"));
        apply(&mut index, &pod("elsewhere", "a", "app: web"));
        assert_eq!(told(&index), [&*said], "others");
        apply(&mut index, &pod("shop", "a", "app: web"));
        assert_eq!(told(&index), [""; 0], "it has come");
        apply(&mut index, &pod("shop", "a", "app: wep"));
        assert_eq!(told(&index), [&*said], "it has gone");
        let machine = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop}\nspec: {address: 192.0.2.9, labels: {app: web}}\n";
        apply(&mut index, machine);
        assert_eq!(told(&index), [""; 0], "a machine");
    }
}

#[test]
fn all_labels_are_of_one_pod_and_the_root_namespace_selects_everywhere() {
    let both = "selector: {matchLabels: {app: web, tier: front}}";
    let halves = pod("shop", "a", "app: web") + &pod("shop", "b", "tier: front");
    let mut index = index(&(policy("AuthorizationPolicy", "istio-system", both) + &halves));
    let said = "AuthorizationPolicy istio-system/p: spec.selector selects no pod of any namespace now: none has app=web, tier=front";
    assert_eq!(told(&index), [said]);
    apply(&mut index, &pod("shop", "c", "app: web, tier: front"));
    assert_eq!(told(&index), [""; 0]);
}

#[test]
fn what_selects_nothing_by_itself_is_left_alone() {
    for spec in [
        "rules: [{}]",
        "selector: {matchLabels: {}}",
        "targetRefs: [{kind: Service, group: '', name: web}], selector: {matchLabels: {a: b}}",
        "action: AUDIT, selector: {matchLabels: {a: b}}",
    ] {
        let index = index(&policy("AuthorizationPolicy", "shop", spec));
        assert_eq!(told(&index), [""; 0], "{spec}");
    }
}

/// Nothing is kept for it: this is what asking costs.
#[test]
fn ten_thousand_pods_and_a_thousand_policies_are_told_apart_soon() {
    let mut text = String::new();
    for number in 0..10_000 {
        let labels = format!("app: a{}, pod-index: '{number}', tier: front", number % 500);
        text.push_str(&pod("shop", &format!("pod-{number}"), &labels));
    }
    for number in 0..1_000 {
        let (kind, selector) = (
            "AuthorizationPolicy",
            format!("app: a{number}, tier: front"),
        );
        let spec = format!("selector: {{matchLabels: {{{selector}}}}}");
        let one = policy(kind, "shop", &spec).replace("name: p,", &format!("name: p-{number},"));
        let _ = write!(text, "{one}");
    }
    let index = index(&text);
    let started = Instant::now();
    let found = told(&index);
    let took = started.elapsed();
    assert_eq!(found.len(), 500);
    // A fraction of that, but for a busy machine and a build without optimization.
    assert!(took < Duration::from_secs(5), "{took:?}");
    eprintln!("asked of 10,000 pods and 1,000 policies: {took:?}");
}
