//! DNS of the cluster.

use ambit_lab::harness::{Lab, Options};

use crate::fixtures::{client, cluster_ips, namespace, plain, text};

#[test]
fn services_have_names() {
    let lab = plain();
    for name in [
        "echo-2",
        "echo-2.shop",
        "echo-2.shop.svc",
        "echo-2.shop.svc.cluster.local",
    ] {
        for family in ["--ipv4", "--ipv6"] {
            let url = format!("http://{name}/");
            let answer = lab
                .load("shop/client-1", &["get", "--fail", family, &url])
                .json();
            assert_eq!(answer["hostname"], "echo-2", "{name} {family}");
        }
    }
    let found = lab
        .exec("shop/client-1", &["getent", "ahostsv4", "echo-1"])
        .success();
    assert!(
        found.starts_with(&cluster_ips(lab, "shop/echo-1")[0]),
        "{found}"
    );
    // getent says with status 2 that a name does not exist.
    assert_eq!(
        lab.exec("shop/client-1", &["getent", "hosts", "nobody"])
            .code,
        2
    );
    assert_eq!(
        lab.exec("shop/client-1", &["getent", "hosts", "example.org"])
            .code,
        2
    );
}

#[test]
fn pods_of_a_stateful_set_have_names() {
    let set = "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: data}\n\
        spec: {clusterIP: None, selector: {app: db}, ports: [{name: web, port: 8080}]}\n\
        ---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db, namespace: data}\n\
        spec:\n  replicas: 2\n  serviceName: db\n  selector: {matchLabels: {app: db}}\n  template:\n    \
        metadata: {labels: {app: db}}\n    spec: {containers: [{name: c, image: 'ambit/echo:1'}]}\n";
    let manifests = namespace("data", "") + set + &client("data", "client", "node-1");
    let lab = Lab::start(&Options {
        manifests,
        ..Options::default()
    });
    for name in ["db-0", "db-1"] {
        let answer = lab.get("data/client", &format!("http://{name}.db.data:8080/"));
        assert_eq!(answer["hostname"], name);
        let pod = lab.object("pod", &format!("data/{name}"));
        let address = text(&pod["status"]["podIP"]);
        let all = lab
            .exec("data/client", &["getent", "ahostsv4", "db"])
            .success();
        assert!(all.contains(&address), "{all} lacks {name} {address}");
    }
}
