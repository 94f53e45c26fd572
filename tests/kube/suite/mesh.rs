//! The mesh as `kubectl apply -k manifests/` installs it.

use std::time::Instant;

use ambit_lab::harness::{Lab, eventually};
use serde_json::{Value, json};

use crate::plane::{ControlPlane, PATIENCE};
use crate::pods::{CLIENT, WEB, name};

const REDIRECTION: &str = "ambient.istio.io/redirection";

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {namespaces: [shop]}}]}]
";

/// A kind of others, as far as the mesh needs it: any fields, and a status.
fn define(plane: &ControlPlane, group: &str, kind: &str, plural: &str, scope: &str) {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group, "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": open},
            }],
        },
    });
    plane.apply(&definition.to_string());
    let object = format!("crd/{plural}.{group}");
    let _ = plane
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            &object,
            "--timeout=30s",
        ])
        .success();
}

fn pods(plane: &ControlPlane) -> Vec<Value> {
    let list = plane
        .kubectl(&["get", "pods", "-n", "shop", "-o", "json"])
        .json();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits until every pod of the shop is in the mesh, or none is.
fn all_are(plane: &ControlPlane, enabled: bool) {
    eventually("every pod follows the label", PATIENCE, || {
        let pods = pods(plane);
        let captured = |pod: &Value| pod["metadata"]["annotations"][REDIRECTION] == "enabled";
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let mut staying = pods.iter().filter(stays);
        staying.all(|pod| captured(pod) == enabled).then_some(())
    });
}

/// What the node proxies have logged.
fn proxies(plane: &ControlPlane, lab: &Lab) -> String {
    let selector = "app.kubernetes.io/name=ztunnel";
    let list = plane
        .kubectl(&[
            "get",
            "pods",
            "-n",
            "ambit-system",
            "-l",
            selector,
            "-o",
            "json",
        ])
        .json();
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    let log = |pod: &Value| {
        lab.run(["logs", "-n", "ambit-system", &name(pod), "-c", "ztunnel"])
            .success()
    };
    pods.iter().map(log).collect()
}

/// What an installation has put into a node's folders.
fn installed(lab: &Lab, node: &str) -> String {
    let root = format!("/run/ambit-lab/nodes/{node}");
    let find = format!("find {root}/opt/cni {root}/run ! -type d; cat {root}/etc/cni/net.d/*");
    let found = lab.exec(&format!("node/{node}"), &["sh", "-c", &find]);
    found.success().split_whitespace().collect()
}

#[test]
fn installed_joined_by_label_and_removed() {
    let plane = ControlPlane::start();
    let lab = plane.lab(2);
    define(
        &plane,
        "gateway.networking.k8s.io",
        "GatewayClass",
        "gatewayclasses",
        "Cluster",
    );
    define(
        &plane,
        "security.istio.io",
        "AuthorizationPolicy",
        "authorizationpolicies",
        "Namespaced",
    );
    let before = installed(&lab, "node-1");
    let _ = plane.kubectl(&["create", "ns", "shop"]).success();
    for manifests in [WEB, CLIENT] {
        let _ = plane
            .kubectl_with_input(&["apply", "-n", "shop", "-f", "-"], manifests)
            .success();
    }
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");
    let _ = plane.kubectl(&["apply", "-k", manifests]).success();
    for workload in ["deploy/ambit-control", "ds/ztunnel"] {
        plane.rolled_out("ambit-system", workload);
    }
    for workload in ["deploy/web", "ds/client"] {
        plane.rolled_out("shop", workload);
    }
    let client = pods(&plane)
        .iter()
        .map(name)
        .find(|name| name.starts_with("client-"));
    let client = format!("shop/{}", client.expect("a client"));
    let asked = || lab.load(&client, &["get", "--fail", "http://web.shop/"]);

    // Pods that ran before are captured, and pods that start later.
    let label = |label: &str| {
        let _ = plane.kubectl(&["label", "ns", "shop", label]).success();
    };
    label("istio.io/dataplane-mode=ambient");
    all_are(&plane, true);
    let _ = asked().success();
    let _ = plane
        .kubectl(&["rollout", "restart", "-n", "shop", "deploy/web"])
        .success();
    plane.rolled_out("shop", "deploy/web");
    all_are(&plane, true);
    let said = "src.identity=\"spiffe://cluster.local/ns/shop/sa/default\"";
    let mutual = |line: &str| line.contains(said) && line.contains("dst.hbone_addr");
    eventually("a connection with the client's identity", PATIENCE, || {
        let _ = asked().success();
        proxies(&plane, &lab).lines().any(mutual).then_some(())
    });

    plane.apply(DENY);
    eventually("the policy denies", PATIENCE, || {
        (asked().code != 0).then_some(())
    });
    let _ = plane
        .kubectl(&["delete", "-n", "shop", "authorizationpolicy/nobody"])
        .success();
    eventually("the policy is gone", PATIENCE, || {
        (asked().code == 0).then_some(())
    });

    label("istio.io/dataplane-mode-");
    all_are(&plane, false);
    let _ = asked().success();
    // Proxies have a minute to end.
    let _ = plane
        .kubectl(&["delete", "-k", manifests, "--timeout=150s"])
        .success();
    let deadline = Instant::now() + PATIENCE;
    let mut now = installed(&lab, "node-1");
    while now != before {
        assert!(Instant::now() < deadline, "a node is not as it was: {now}");
        now = installed(&lab, "node-1");
    }
    let _ = asked().success();
}
