//! Whom an account stands for.

use http::{HeaderMap, Method};

use crate::explain::{Decision, Explanation, Question, explain};
use crate::translate::testing::index;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";
const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: s, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

/// A pod of account `default`; `more` is of its metadata.
fn pod(namespace: &str, name: &str, ip: &str, more: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}{more}}}\nspec: {{containers: []{spec}}}\n\
         status: {{podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

const CAPTURED: &str = ", annotations: {ambient.istio.io/redirection: enabled}";
const SIDECAR: &str = ", labels: {security.istio.io/tlsMode: istio}";

/// The Service, its pod, which is in the mesh, and more.
fn served(more: &str) -> String {
    let labels = format!("{CAPTURED}, labels: {{app: web}}");
    let web = pod("shop", "web-1", "10.0.0.1", &labels, "");
    format!("{SERVICE}{web}{more}")
}

fn ask(objects: &str, from: &str) -> Explanation {
    let question = Question {
        from: from.parse().expect("a caller"),
        to: "shop/web".parse().expect("a service"),
        port: 80,
        method: Method::GET,
        path: "/".to_owned(),
        headers: HeaderMap::new(),
    };
    explain(&index(objects), &question).expect("an answer")
}

#[test]
fn a_caller_outside_the_mesh_calls_in_plain_text() {
    let out = pod("out", "c-1", "10.0.0.2", "", "");
    let host = pod("out", "c-1", "10.0.0.2", CAPTURED, ", hostNetwork: true");
    let sidecar = pod("out", "c-1", "10.0.0.2", SIDECAR, "");
    let inside = pod("out", "c-0", "10.0.0.3", CAPTURED, "");
    let plain = "caller out/c-1               is not in the mesh and calls in plain text";
    let allow = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n\
                 spec: {rules: [{from: [{source: {serviceAccounts: [out/default]}}]}]}\n";
    for (case, more, decision, says) in [
        (
            "STRICT",
            format!("{out}{STRICT}"),
            Decision::Refused,
            &[
                plain,
                "no annotation ambient.istio.io/redirection",
                "a PeerAuthentication is STRICT",
            ][..],
        ),
        (
            "on its node's network",
            format!("{host}{STRICT}"),
            Decision::Refused,
            &[plain, "it is on its node's network"],
        ),
        (
            "PERMISSIVE",
            out.clone(),
            Decision::Passes,
            &[plain, "in plain text)"],
        ),
        (
            "a policy that names its account",
            format!("{out}{allow}"),
            Decision::Refused,
            &["no rule of the ALLOW policy shop/p matches"],
        ),
        (
            "of one account, one is in the mesh",
            format!("{out}{inside}{STRICT}"),
            Decision::DependsOnCaller,
            &[
                "caller out/c-0               is in the mesh",
                plain,
                "It depends on the pod that calls.",
            ],
        ),
        (
            "both may",
            format!("{out}{inside}"),
            Decision::Passes,
            &["caller out/c-0               is in the mesh", plain],
        ),
        (
            "a sidecar",
            format!("{sidecar}{STRICT}"),
            Decision::Undecided,
            &["not asked: its sidecar decides"],
        ),
    ] {
        let answer = ask(&served(&more), "out/default");
        assert_eq!(answer.decision, decision, "{case}: {answer}");
        for text in says {
            assert!(
                answer.to_string().contains(text),
                "{case}: {text}: {answer}"
            );
        }
    }
}

/// The pod that serves has the same account, and is the first by name.
#[test]
fn the_pod_that_serves_is_not_the_one_that_calls() {
    let alone = ask(&served(STRICT), "shop/default");
    assert_eq!(alone.decision, Decision::Undecided, "{alone}");
    let none = "not asked: no pod runs as shop/default, or none but those of Service shop/web";
    assert!(alone.to_string().contains(none), "{alone}");

    let client = pod("shop", "zoo", "10.0.0.2", "", "");
    let answer = ask(&served(&format!("{client}{STRICT}")), "shop/default");
    assert_eq!(answer.decision, Decision::Refused, "{answer}");
    assert!(
        answer.to_string().starts_with("caller shop/zoo"),
        "{answer}"
    );
}

#[test]
fn nobody_judges_what_arrives_at_a_pod_outside_the_mesh() {
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: d, namespace: shop}\n\
                spec: {action: DENY, rules: [{}]}\n";
    for (more, decision, says) in [
        (
            ", labels: {app: web}",
            Decision::Passes,
            "there is none: shop/web-1 is not in the mesh",
        ),
        (
            ", labels: {app: web, security.istio.io/tlsMode: istio}",
            Decision::Undecided,
            "not asked: shop/web-1 has a sidecar",
        ),
    ] {
        let web = pod("shop", "web-1", "10.0.0.1", more, "");
        for caller in ["", CAPTURED] {
            let client = pod("out", "c-1", "10.0.0.2", caller, "");
            let answer = ask(&format!("{SERVICE}{web}{client}{deny}"), "out/default");
            assert_eq!(answer.decision, decision, "{answer}");
            assert!(answer.to_string().contains(says), "{answer}");
        }
    }
}
