//! The chart, installed, changed and removed by Helm as manifests/README.md says.

use ambit_lab::harness::{eventually, program};

use crate::installed::{Cluster, SYSTEM};
use crate::plane::{ControlPlane, PATIENCE};
use crate::pods::{CLIENT, WEB};
use crate::readme::{IMAGE, follow, repository};
use crate::traces::{SHOP, Traces};
use crate::traffic::{Flow, under_load};

const URL: &str = "http://web.shop/";

#[test]
fn the_chart_is_installed_changed_and_removed() {
    let plane = ControlPlane::start();
    plane.define();
    let programs = program("");
    let image = format!("{IMAGE}={}", programs.display());
    let lab = plane.lab_with(2, &["--image", &image]);
    let cluster = Cluster { lab, plane };
    let readme = |words: &str| follow(&cluster.plane, words, &repository("")).success();
    cluster.plane.apply(SHOP);
    for manifests in [WEB, CLIENT] {
        cluster.apply("shop", manifests);
    }
    for workload in ["deploy/web", "ds/client"] {
        cluster.plane.rolled_out("shop", workload);
    }
    let client = cluster.pod_on("shop", "app=client", "node-1");
    let asked = || cluster.get(&client, URL);
    eventually("the server is reached", PATIENCE, || {
        (asked().code == 0).then_some(())
    });
    let before = Traces::of(&cluster);

    let said = readme("helm install ambit");
    assert!(said.contains("STATUS: deployed"), "{said}");
    cluster.await_mesh();
    cluster.all_are("shop", true);
    let mutual = |line: &str| line.contains("ns/shop/sa/default") && line.contains("hbone_addr");
    eventually("a connection with the client's identity", PATIENCE, || {
        let _ = asked().success();
        cluster.proxies_said().lines().any(mutual).then_some(())
    });

    let flow = Flow {
        client: &client,
        url: URL,
    };
    under_load(&cluster.lab, "helm upgrade", &[flow], || {
        let said = readme("helm upgrade ambit");
        assert!(said.contains("STATUS: deployed"), "{said}");
        cluster.await_mesh();
    });
    let control = cluster.plane.object("deployment", SYSTEM, "ambit-control");
    let control = control.expect("a Deployment");
    assert_eq!(control["status"]["readyReplicas"], 3, "{control}");
    let pod = &control["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(pod["image"], format!("{IMAGE}:0.1.0"), "what was set stays");

    let said = readme("helm uninstall ambit");
    assert!(said.contains("uninstalled"), "{said}");
    before.are_all(&cluster);
    let _ = asked().success();
}
