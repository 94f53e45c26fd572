//! A namespace joins the mesh and leaves it, and the mesh is installed and removed.

use ambit_lab::harness::eventually;
use serde_json::Value;

use crate::installed::{Cluster, MANIFESTS, root};
use crate::plane::PATIENCE;
use crate::pods::{CLIENT, WEB};

const DENY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {namespaces: [shop]}}]}]
";

const SHELF: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shelf, namespace: shop}
spec:
  hosts: [shelf.internal]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: web}}
";

pub(crate) const LONELY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: lonely}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers: [{name: sleep, image: none, command: [sleep, infinity]}]
";

/// Takes the control group of a pod from where its node shows it: no agent finds its namespace.
pub(crate) fn hide(cluster: &Cluster) {
    let pod = cluster
        .plane
        .object("pod", "shed", "lonely")
        .expect("a pod");
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let proc = format!("{}/proc", root("node-2"));
    let script = format!("sed -i 's,.*,0::/elsewhere,' $(grep -l {uid} {proc}/*/cgroup)");
    let _ = cluster
        .lab
        .exec("node/node-2", &["sh", "-c", &script])
        .success();
}

/// Once the lonely pod has the Event that nothing of it was found.
pub(crate) fn is_told(cluster: &Cluster) -> Option<()> {
    let events = ["get", "events", "-n", "shed", "-o", "json"];
    let events = cluster.plane.kubectl(&events).json();
    let said = |event: &&Value| {
        event["reason"] == "NotCaptured" && event["involvedObject"]["name"] == "lonely"
    };
    let told = events["items"].as_array()?.iter().find(said)?;
    assert_eq!(told["type"], "Warning");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.contains("none of its processes"), "{message}");
    Some(())
}

#[test]
fn installed_joined_by_label_and_removed() {
    let cluster = Cluster::bare(2);
    let before = cluster.installed("node-1");
    cluster.kubectl(&["create", "ns", "shop"]);
    for manifests in [WEB, CLIENT] {
        cluster.apply("shop", manifests);
    }
    cluster.kubectl(&["create", "ns", "shed"]);
    cluster.apply("shed", LONELY);
    cluster.plane.condition("shed", "pod/lonely", "Ready");
    hide(&cluster);
    cluster.install();
    for workload in ["deploy/web", "ds/client"] {
        cluster.plane.rolled_out("shop", workload);
    }
    let client = cluster.pod_on("shop", "app=client", "node-1");
    let asked = || cluster.get(&client, "http://web.shop/");

    // Pods that ran before are captured, and pods that start later.
    let label = |label: &str| cluster.kubectl(&["label", "ns", "shop", label]);
    label("istio.io/dataplane-mode=ambient");
    cluster.all_are("shop", true);
    let _ = asked().success();
    cluster.kubectl(&["rollout", "restart", "-n", "shop", "deploy/web"]);
    cluster.plane.rolled_out("shop", "deploy/web");
    cluster.all_are("shop", true);
    let said = "src.identity=\"spiffe://cluster.local/ns/shop/sa/default\"";
    let mutual = |line: &str| line.contains(said) && line.contains("dst.hbone_addr");
    eventually("a connection with the client's identity", PATIENCE, || {
        let _ = asked().success();
        cluster.proxies_said().lines().any(mutual).then_some(())
    });

    cluster.plane.apply(DENY);
    eventually("the policy denies", PATIENCE, || {
        (asked().code != 0).then_some(())
    });
    cluster.kubectl(&["delete", "-n", "shop", "authorizationpolicy/nobody"]);
    eventually("the policy is gone", PATIENCE, || {
        (asked().code == 0).then_some(())
    });

    cluster.plane.apply(SHELF);
    let shelf = eventually("the addresses of a host in its status", PATIENCE, || {
        let entry = cluster.plane.object("serviceentry", "shop", "shelf")?;
        let given = entry["status"]["addresses"].as_array()?;
        given[0]["value"].as_str().map(str::to_owned)
    });
    assert!(shelf.starts_with("240.240."), "{shelf}");
    eventually("the host's name leads to the pods", PATIENCE, || {
        let asked = cluster.get(&client, "http://shelf.internal/");
        (asked.code == 0).then_some(())
    });

    cluster.kubectl(&["label", "ns", "shed", "istio.io/dataplane-mode=ambient"]);
    eventually("an event about the pod that is not found", PATIENCE, || {
        is_told(&cluster)
    });

    label("istio.io/dataplane-mode-");
    cluster.all_are("shop", false);
    let _ = asked().success();
    // Proxies have a minute to end.
    cluster.kubectl(&["delete", "-k", MANIFESTS, "--timeout=150s"]);
    cluster.is_as_before("node-1", &before);
    let _ = asked().success();
}
