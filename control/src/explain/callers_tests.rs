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

const NONE: &str = ", labels: {istio.io/dataplane-mode: none}";
const LABELLED: &str = "---
apiVersion: v1
kind: Namespace
metadata: {name: out, labels: {istio.io/dataplane-mode: ambient}}
";

/// Addresses that are called, which have an account as all workloads have.
const ENDPOINTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: out}
spec: {clusterIPs: [10.96.0.2], ports: [{port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: out, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 6443}]
endpoints: [{addresses: [192.0.2.1]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: out}
spec: {hosts: [ext.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 192.0.2.2}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: out}
spec: {hosts: [named.example], resolution: DNS, ports: [{number: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: address, namespace: out}
spec: {address: 192.0.2.3}
";

fn machine(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: {namespace}}}\n\
         spec: {{address: 192.0.2.7, {spec}}}\n"
    )
}

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
    let other_sidecar = pod("out", "c-2", "10.0.0.4", SIDECAR, "");
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
                "neither namespace out nor the pod is labelled istio.io/dataplane-mode=ambient",
                "a PeerAuthentication of the workload, its namespace or the mesh is STRICT",
                "node proxy of the endpoint   it is PeerAuthentication shop/s\n",
            ][..],
        ),
        (
            "its namespace is labelled, and nobody has captured it",
            format!("{out}{LABELLED}"),
            Decision::Passes,
            &[
                plain,
                "it is labelled istio.io/dataplane-mode=ambient, but its node's agent has not captured it (no annotation \
                 ambient.istio.io/redirection=enabled): its events say why",
            ],
        ),
        (
            "it stays out by its own label",
            format!("{}{LABELLED}", pod("out", "c-1", "10.0.0.2", NONE, "")),
            Decision::Passes,
            &[plain, "its label istio.io/dataplane-mode is none"],
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
        (
            "of one account, one is refused and one is not asked",
            format!("{out}{other_sidecar}{STRICT}"),
            Decision::Undecided,
            &[plain, "not asked: its sidecar decides", "Undecided"],
        ),
        (
            "of one account, one is refused, one passes and one is not asked",
            format!("{out}{inside}{other_sidecar}{STRICT}"),
            Decision::DependsOnCaller,
            &["not asked: its sidecar decides"],
        ),
        (
            "endpoints without pods beside it",
            format!("{inside}{ENDPOINTS}{STRICT}"),
            Decision::Passes,
            &["node proxy of the caller     in a tunnel to shop/web-1"],
        ),
        (
            "endpoints without pods alone",
            format!("{ENDPOINTS}{STRICT}"),
            Decision::Undecided,
            &["not asked: no pod runs as out/default"],
        ),
        (
            "a machine that names its account",
            format!("{}{STRICT}", machine("out", "serviceAccount: default")),
            Decision::Refused,
            &[
                "caller out/vm                is not in the mesh and calls in plain text: its WorkloadEntry has neither",
            ],
        ),
        (
            "a machine in the mesh",
            format!(
                "{}{STRICT}",
                machine("out", "labels: {networking.istio.io/tunnel: http}")
            ),
            Decision::Passes,
            &["node proxy of the caller     in a tunnel to shop/web-1"],
        ),
    ] {
        ask(&served(&more), "out/default").is(case, decision, says);
    }
}

/// The pod that serves has the same account, and is the first by name.
#[test]
fn the_pod_that_serves_calls_when_no_other_does() {
    let peer = pod(
        "shop",
        "web-0",
        "10.0.0.4",
        &format!("{CAPTURED}, labels: {{app: web}}"),
        "",
    );
    let alone = ask(&served(&format!("{peer}{STRICT}")), "shop/default");
    assert_eq!(alone.decision, Decision::Passes, "{alone}");
    let serves =
        "caller shop/web-0            serves shop/web itself: no other pod runs as shop/default";
    assert!(alone.to_string().starts_with(serves), "{alone}");

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
            "there is none: shop/web-1 is not in the mesh (neither namespace shop nor the pod is labelled \
             istio.io/dataplane-mode=ambient), no policy is enforced",
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
            let objects = format!("{SERVICE}{web}{client}{deny}");
            ask(&objects, "out/default").is(says, decision, &[says]);
        }
    }
}

#[test]
fn endpoints_that_nobody_judges_are_named_beside_the_one_that_is_asked() {
    let client = pod("out", "c-1", "10.0.0.2", CAPTURED, "");
    let other = |name, ip| pod("shop", name, ip, ", labels: {app: web}", "");
    let (one, two) = (other("web-2", "10.0.0.3"), other("web-3", "10.0.0.4"));
    for (more, says) in [
        (client.clone(), None),
        (format!("{client}{one}"), Some("shop/web-2\n")),
        (
            format!("{client}{one}{two}"),
            Some("shop/web-2 and 1 more\n"),
        ),
    ] {
        let answer = ask(&served(&more), "out/default").to_string();
        let said = answer.split_once("other endpoints are not captured: ");
        let said = said.and_then(|(_, rest)| rest.split_inclusive('\n').next());
        assert_eq!(said, says, "{answer}");
    }
}
