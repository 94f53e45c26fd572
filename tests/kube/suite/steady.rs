//! Traffic goes on whatever happens to the parts of the mesh and of the cluster.

use ambit_lab::harness::eventually;
use serde_json::Value;

use crate::installed::{Cluster, MANIFESTS, SYSTEM, is_staying, root};
use crate::plane::PATIENCE;
use crate::pods::name;
use crate::shop;
use crate::traffic::under_load;

#[test]
fn nothing_that_happens_is_felt() {
    let cluster = Cluster::bare(3);
    let nodes = ["node-1", "node-2", "node-3"];
    let before = nodes.map(|node| cluster.installed(node));
    let client = shop::open(&cluster, &[("near", "node-2"), ("far", "node-3")]);
    let flows = shop::flows(&client);

    let happens: [(&str, &dyn Fn()); 5] = [
        ("control is rolled", &|| control_is_rolled(&cluster)),
        ("node proxies are rolled", &|| proxies_are_rolled(&cluster)),
        ("the API server is away", &|| {
            api_server_is_away(&cluster, &client)
        }),
        ("another rewrites the chain", &|| {
            chain_is_rewritten(&cluster)
        }),
        ("a node reboots", &|| node_reboots(&cluster, &client)),
    ];
    for (what, happens) in happens {
        under_load(&cluster.lab, what, &flows, happens);
    }
    uninstalled_in_an_outage(&cluster, nodes.iter().zip(&before));
    for flow in flows.iter().filter(|flow| !flow.url.contains("bound")) {
        let _ = cluster.get(&client, flow.url).success();
    }
}

fn control_is_rolled(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "restart", "-n", SYSTEM, "deploy/ambit-control"]);
    cluster.plane.rolled_out(SYSTEM, "deploy/ambit-control");
}

fn proxies_are_rolled(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "restart", "-n", SYSTEM, "ds/ztunnel"]);
    cluster.plane.rolled_out(SYSTEM, "ds/ztunnel");
    eventually("the old proxies are gone", PATIENCE * 2, || {
        let pods = cluster
            .plane
            .pods_of(SYSTEM, "app.kubernetes.io/name=ztunnel");
        pods.iter().all(is_staying).then_some(())
    });
}

fn api_server_is_away(cluster: &Cluster, client: &str) {
    cluster.plane.stop();
    let control = cluster.lab.objects("pods", SYSTEM);
    let control = control
        .iter()
        .map(name)
        .find(|name| name.starts_with("ambit-control-"));
    // One that begins anew and knows nothing takes nothing from the proxies.
    let control = control.expect("a replica");
    let _ = cluster.lab.run(["kill", "-n", SYSTEM, &control]).success();
    let url = "http://near.shop/";
    let long = std::env::var("AMBIT_TEST_OUTAGE").unwrap_or_else(|_| "8s".to_owned());
    let meanwhile = ["--json", "http", "--rate", "10", "-d", &long, url];
    let report = cluster.lab.load(client, &meanwhile).json();
    assert_eq!(report["errors"]["total"], 0, "{report}");
    cluster.plane.go_on();
    cluster.plane.rolled_out(SYSTEM, "deploy/ambit-control");
    is_captured(cluster);
}

/// A pod that starts now is captured, on node-3.
fn is_captured(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "restart", "-n", "shop", "deploy/far"]);
    cluster.plane.rolled_out("shop", "deploy/far");
    cluster.all_are("shop", true);
}

fn chain_is_rewritten(cluster: &Cluster) {
    let file = format!("{}/etc/cni/net.d/10-lab.conflist", root("node-3"));
    let chain = r#"{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"lab"}]}"#;
    let script = format!("printf '%s' '{chain}' >{file}.tmp && mv {file}.tmp {file}");
    let on_node = |script: &str| {
        let command = ["sh", "-c", script];
        cluster.lab.exec("node/node-3", &command).success()
    };
    let _ = on_node(&script);
    eventually("the plugin is in the chain again", PATIENCE, || {
        let chain = on_node(&format!("cat {file}"));
        chain.contains("ambit-cni").then_some(())
    });
    is_captured(cluster);
}

fn node_reboots(cluster: &Cluster, client: &str) {
    let far = || cluster.get(client, "http://far.shop/");
    // Its pod has just been replaced, and the old one went without waiting for anybody.
    eventually("the new pod is reached", PATIENCE, || {
        (far().code == 0).then_some(())
    });
    let of_node = |selector: &str| {
        let pods = cluster.plane.pods_of("shop", selector);
        let here = pods
            .into_iter()
            .find(|pod| pod["spec"]["nodeName"] == "node-3");
        here.expect("a pod on node-3")
    };
    let before = of_node("app=far");
    let _ = cluster.lab.run(["kill", "node/node-3"]).success();
    let _ = far().failure();
    let _ = cluster.lab.run(["restart", "node/node-3"]).success();
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    eventually("its pods run again", PATIENCE, || {
        let now = of_node("app=far");
        let ready = now["status"]["containerStatuses"][0]["ready"] == true;
        (ready && restarted(&now) != restarted(&before)).then_some(())
    });
    assert_eq!(name(&of_node("app=far")), name(&before), "the same pod");
    eventually("they are reached again", PATIENCE, || {
        (far().code == 0).then_some(())
    });
    let own = cluster.pod_on("shop", "app=client", "node-3");
    let said = cluster.get(&own, "http://near.shop/").success();
    assert!(said.contains("near-"), "{said}");
}

/// The DaemonSet is gone, and so is the API server that its agents would ask why they end.
fn uninstalled_in_an_outage<'a>(
    cluster: &Cluster,
    nodes: impl Iterator<Item = (&'a &'a str, &'a String)>,
) {
    cluster.kubectl(&["delete", "-n", "shop", "gateway/waypoint"]);
    cluster.kubectl(&["delete", "-k", MANIFESTS, "--wait=false"]);
    eventually("the DaemonSet is gone", PATIENCE, || {
        cluster
            .plane
            .object("daemonset", SYSTEM, "ztunnel")
            .is_none()
            .then_some(())
    });
    cluster.plane.stop();
    let _ = cluster.lab.exec("node/node-1", &["sleep", "5"]).success();
    cluster.plane.go_on();
    for (node, before) in nodes {
        cluster.is_as_before(node, before);
    }
}
