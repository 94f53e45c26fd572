//! Another certificate authority, as manifests/README.md plugs it in.

use std::path::Path;
use std::time::SystemTime;

use ambit_control::ca::material::Pems;
use ambit_lab::harness::eventually;
use serde_json::json;
use tempfile::TempDir;

use crate::installed::{Cluster, NODE_PROXIES, SYSTEM};
use crate::plane::PATIENCE;
use crate::pods::name;
use crate::readme::{follow, follow_line};
use crate::shop;
use crate::traffic::under_load;

const CONTROL: &str = "app.kubernetes.io/name=ambit-control";
/// The pods of the waypoint.
const INSTANCES: &str = "gateway.networking.k8s.io/gateway-name=waypoint";
/// The steps of manifests/README.md, and how many roots a certificate comes with after each.
const STEPS: [(&str, usize); 3] = [
    ("authority old both.pem && renew", 2),
    ("authority between both.pem && renew", 2),
    ("authority new new/root-cert.pem && renew", 1),
];

/// A pod of an account that had no certificate before.
const LATE: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: late}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  serviceAccountName: late
  nodeName: node-1
  terminationGracePeriodSeconds: 1
  containers: [{name: sleep, image: none, command: [sleep, infinity]}]
";

/// The files of an authority, as its reader has them.
fn write(folder: &Path, pems: &Pems) {
    std::fs::create_dir(folder).expect("a folder");
    for (name, text) in pems.files() {
        std::fs::write(folder.join(name), text).expect("written");
    }
}

/// How many roots each certificate came with that a proxy of the mesh holds; nothing while one of them does not answer.
fn roots(cluster: &Cluster) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for (namespace, selector) in [(SYSTEM, NODE_PROXIES), ("shop", INSTANCES)] {
        for pod in cluster.plane.pods_of(namespace, selector) {
            let target = format!("{namespace}/{}", name(&pod));
            let url = "http://127.0.0.1:15000/config_dump";
            let dump = cluster.lab.load(&target, &["get", "--fail", url]);
            // It may just have ended.
            let dump = (dump.code == 0).then(|| dump.json())?;
            let all = dump["certificates"].as_array()?;
            found.extend(
                all.iter()
                    .map(|it| it["rootCerts"].as_array().map(Vec::len)),
            );
        }
    }
    found.into_iter().collect()
}

/// The roots that a namespace is given.
fn published(cluster: &Cluster, namespace: &str) -> String {
    let map = cluster
        .plane
        .object("configmap", namespace, "istio-ca-root-cert");
    let map = map.unwrap_or_default();
    map["data"]["root-cert.pem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_root_is_another_one_and_no_request_has_failed() {
    let cluster = Cluster::bare(2);
    let client = shop::open(&cluster, &[("near", "node-2")]);
    let flows = shop::flows(&client);
    let first = published(&cluster, "shop");

    let folder = TempDir::new().expect("a folder");
    let new = Pems::generate("cluster.local", SystemTime::now()).expect("made");
    write(&folder.path().join("new"), &new);
    let before = "get secret ambit-ca";
    let _ = follow(&cluster.plane, before, folder.path()).success();
    let old = std::fs::read_to_string(folder.path().join("old/root-cert.pem"));
    assert_eq!(old.expect("a root").trim(), first.trim());

    under_load(
        &cluster.lab,
        "an authority that does not hold together",
        &flows,
        || {
            what_does_not_hold_together_is_not_taken_up(&cluster, &new);
        },
    );
    for (step, count) in STEPS {
        under_load(&cluster.lab, step, &flows, || {
            let _ = follow_line(&cluster.plane, "authority() {", step, folder.path()).success();
            eventually(&format!("{step}: {count} roots"), PATIENCE, || {
                let found = roots(&cluster)?;
                // The client's, the server's and the waypoint's at least.
                let all = found.iter().all(|it| *it == count);
                (all && found.len() >= 3).then_some(())
            });
        });
    }
    let last = published(&cluster, "shop");
    assert_eq!(last.trim(), new.root_cert.trim(), "the old root is gone");

    // Without a restart, too.
    let both = format!("{first}{last}");
    plug(
        &cluster,
        &Pems {
            root_cert: both.clone(),
            ..new
        },
    );
    under_load(&cluster.lab, "no restart", &flows, || {
        eventually("both roots again", PATIENCE, || {
            (published(&cluster, "shop").trim() == both.trim()).then_some(())
        });
    });
}

/// Plugs in an authority.
fn plug(cluster: &Cluster, pems: &Pems) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": SYSTEM},
        "stringData": {
            "ca-cert.pem": pems.ca_cert, "ca-key.pem": pems.ca_key,
            "root-cert.pem": pems.root_cert, "cert-chain.pem": pems.cert_chain,
        },
    });
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let _ = cluster
        .plane
        .kubectl_with_input(&apply, &secret.to_string())
        .success();
}

fn what_does_not_hold_together_is_not_taken_up(cluster: &Cluster, new: &Pems) {
    let stranger = Pems::generate("cluster.local", SystemTime::now()).expect("made");
    let torn = Pems {
        ca_key: stranger.ca_key,
        ..new.clone()
    };
    let before = published(cluster, "shop");
    plug(cluster, &torn);
    let said = "Secret ambit-system/cacerts: ca-key.pem is not the key of ca-cert.pem";
    for pod in cluster.plane.pods_of(SYSTEM, CONTROL) {
        let pod = name(&pod);
        eventually(&format!("{pod} says what is wrong"), PATIENCE, || {
            let log = cluster.lab.run(["logs", "-n", SYSTEM, &pod]).success();
            log.contains(said).then_some(())
        });
    }
    // The last good one signs.
    cluster.apply("shop", LATE);
    cluster.plane.condition("shop", "pod/late", "Ready");
    eventually("a new account's pod talks", PATIENCE, || {
        (cluster.get("shop/late", "http://bound.shop/").code == 0).then_some(())
    });
    assert_eq!(published(cluster, "shop"), before);
    cluster.kubectl(&["delete", "-n", "shop", "pod/late"]);
}
