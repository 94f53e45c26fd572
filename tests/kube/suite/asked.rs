//! What operators ask of proxies and pods through the API server, which asks the kubelets: what a proxy knows, and logs.

use std::path::PathBuf;
use std::process::Command;

use ambit_lab::harness::{Ran, eventually, program, run};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::installed::{Cluster, NODE_PROXIES, SYSTEM};
use crate::plane::PATIENCE;
use crate::pods::name;
use crate::shop;
use crate::traffic::under_load;

const OBJECTS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {ports: ['1']}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-near, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: bound}]
  rules: [{backendRefs: [{name: bound, port: 80}]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: looker, namespace: shop}
";

/// What an operator may who looks at proxies, as `ambit ztunnel --help` has it, without the last right.
const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: looker, namespace: ambit-system}
rules:
- {apiGroups: [''], resources: [pods], verbs: [list]}
- {apiGroups: [''], resources: [pods/portforward], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: looker, namespace: ambit-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: looker}
subjects: [{kind: ServiceAccount, name: looker, namespace: shop}]
";
const LAST_RIGHT: &str = r#"[{"op": "add", "path": "/rules/1/verbs/-", "value": "create"}]"#;

#[test]
fn proxies_and_logs_are_read_through_the_api_server() {
    let cluster = Cluster::bare(2);
    let client = shop::open(&cluster, &[("near", "node-2")]);
    cluster.plane.apply(OBJECTS);
    let proxy = pod(&cluster, SYSTEM, NODE_PROXIES);
    what_node_proxies_know(&cluster, &proxy);
    what_a_waypoint_knows(&cluster);
    let flows = shop::flows(&client);
    under_load(&cluster.lab, "connections are shown", &flows, || {
        what_is_carried(&cluster, &proxy);
    });
    what_cannot_be_shown(&cluster);
    what_rights_it_takes(&cluster, &proxy);
    what_is_logged(&cluster, &proxy);
    who_may_ask_kubelets(&cluster, &client, &proxy);
}

/// The pod of a label on the first node.
fn pod(cluster: &Cluster, namespace: &str, selector: &str) -> String {
    let pod = cluster.pod_on(namespace, selector, "node-1");
    let (_, name) = pod.split_once('/').expect("NAMESPACE/NAME");
    name.to_owned()
}

/// Runs `ambit` with the words of a line.
fn ambit(cluster: &Cluster, line: &str) -> Ran {
    cluster.plane.ambit(&line.split(' ').collect::<Vec<_>>())
}

/// Waits until a command prints JSON with a row that has these fields.
fn has_row(cluster: &Cluster, line: &str, wanted: &Value) {
    eventually(&format!("{line}: {wanted}"), PATIENCE, || {
        let rows = ambit(cluster, &format!("{line} -o json")).json();
        let wanted = wanted.as_object().expect("fields");
        let has = |row: &Value| wanted.iter().all(|(name, value)| row[name] == *value);
        rows.as_array()?.iter().any(has).then_some(())
    });
}

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/default";

fn what_node_proxies_know(cluster: &Cluster, proxy: &str) {
    for how in [proxy, &format!("pod/{proxy}"), "--node node-1"] {
        for (part, wanted) in [
            ("workloads", json!({"namespace": "shop", "node": "node-2"})),
            (
                "services",
                json!({"hostname": "near.shop.svc.cluster.local"}),
            ),
            ("policies", json!({"key": "shop/nothing", "action": "Deny"})),
            (
                "certificates",
                json!({"identity": CLIENT, "state": "Available"}),
            ),
        ] {
            has_row(cluster, &format!("ztunnel {part} {how}"), &wanted);
        }
        let table = ambit(cluster, &format!("ztunnel workloads {how}")).success();
        assert!(table.starts_with("NAMESPACE "), "{table}");
    }
    // The proxy of another node has other certificates.
    let of = |how: &str| ambit(cluster, &format!("ztunnel certificates {how} -o json")).json();
    let [first, second] = ["--node node-1", "--node node-2"].map(of);
    assert_ne!(first, second);
}

fn what_a_waypoint_knows(cluster: &Cluster) {
    let route = json!({"key": {"protocol": "Http", "route": "shop/to-near", "rule": 0}});
    let waypoint = cluster
        .plane
        .pods_of("shop", "gateway.networking.k8s.io/gateway-name=waypoint");
    let instance = name(waypoint.first().expect("an instance"));
    for how in ["waypoint", "", &instance] {
        let line = format!("waypoint routes {how} -n shop").replace("  ", " ");
        has_row(cluster, &line, &route);
    }
    let identity = json!({"identity": "spiffe://cluster.local/ns/shop/sa/waypoint"});
    has_row(cluster, "waypoint certificates waypoint -n shop", &identity);
}

fn what_is_carried(cluster: &Cluster, proxy: &str) {
    let outbound = json!({"direction": "outbound", "sourceIdentity": CLIENT});
    has_row(cluster, &format!("ztunnel connections {proxy}"), &outbound);
    let inbound = json!({"direction": "inbound", "sourceIdentity": CLIENT});
    has_row(cluster, "waypoint connections waypoint -n shop", &inbound);
    eventually("top shows who asks", PATIENCE, || {
        let shown = ambit(cluster, "top --once -n shop -o json").json();
        assert_eq!(shown["silent"], json!([]), "every proxy answers");
        let mut pairs = shown["pairs"].as_array()?.iter();
        pairs
            .any(|pair| pair["source"]["name"] == "client")
            .then_some(())
    });
}

fn what_cannot_be_shown(cluster: &Cluster) {
    let selector = "app.kubernetes.io/name=ambit-control";
    let control = cluster.plane.pods_of(SYSTEM, selector);
    let control = name(control.first().expect("a control plane"));
    for (line, said) in [
        (
            "ztunnel workloads nobody".to_owned(),
            "namespace ambit-system has no pod nobody; there is ztunnel-".to_owned(),
        ),
        (
            format!("ztunnel workloads {control}"),
            format!("pod ambit-system/{control} is no node proxy; there is ztunnel-"),
        ),
        (
            "ztunnel workloads --node node-9".to_owned(),
            "node node-9 has no node proxy; there is ".to_owned(),
        ),
        (
            "ztunnel workloads".to_owned(),
            "there is more than one node proxy (name its pod, or its node with --node)".to_owned(),
        ),
        (
            "ztunnel workloads --namespace elsewhere".to_owned(),
            "namespace elsewhere: no node proxy runs there".to_owned(),
        ),
        (
            "waypoint routes nobody -n shop".to_owned(),
            "namespace shop has no waypoint nobody, and no pod; there is waypoint".to_owned(),
        ),
    ] {
        let ran = ambit(cluster, &line).failure();
        assert!(ran.contains(&said), "{line}: {ran}");
    }
}

/// A kubeconfig with which somebody is a service account.
fn looker(cluster: &Cluster) -> PathBuf {
    let config = ["config", "view", "--raw", "--flatten", "-o", "json"];
    let mut config = cluster.plane.kubectl(&config).json();
    let token = ["create", "token", "looker", "-n", "shop"];
    let token = cluster.plane.kubectl(&token).success();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let place = cluster.plane.folder().join("looker.kubeconfig");
    std::fs::write(&place, config.to_string()).expect("written");
    place
}

fn what_rights_it_takes(cluster: &Cluster, proxy: &str) {
    let looker = looker(cluster);
    let ask = || {
        let mut command = Command::new(program("ambit"));
        command.args(["ztunnel", "workloads", proxy]);
        command.env("KUBECONFIG", &looker);
        run(command, "")
    };
    let said = ask().failure();
    assert!(said.contains("cannot list resource \"pods\""), "{said}");
    cluster.plane.apply(ROLE);
    eventually("the last right is missing", PATIENCE, || {
        let said = ask().failure();
        let forward =
            "needs the rights to get and to create pods/portforward in namespace ambit-system";
        said.contains(forward).then_some(())
    });
    let add = [
        "patch",
        "role",
        "looker",
        "-n",
        SYSTEM,
        "--type=json",
        "-p",
        LAST_RIGHT,
    ];
    cluster.kubectl(&add);
    eventually("the rights suffice", PATIENCE, || {
        (ask().code == 0).then_some(())
    });
}

fn what_is_logged(cluster: &Cluster, proxy: &str) {
    let logs = |more: &[&str]| {
        let logs = ["logs", "-n", SYSTEM, proxy, "-c", "ztunnel"];
        cluster.plane.kubectl(&[&logs[..], more].concat())
    };
    let kept = ["logs", "-n", SYSTEM, proxy, "-c", "ztunnel"];
    let before = cluster.lab.run(kept).success();
    let all = logs(&[]).success();
    assert!(all.starts_with(&before) && !before.is_empty(), "{all}");
    assert_eq!(logs(&["--tail=3"]).success().lines().count(), 3);
    let refused = logs(&["--previous"]).failure();
    assert!(
        refused.contains("previous: a log of the lab is of all runs"),
        "{refused}"
    );
}

/// Kubelets listen where pods reach them, and answer none of them.
fn who_may_ask_kubelets(cluster: &Cluster, client: &str, proxy: &str) {
    let url =
        format!("https://172.30.0.2:10250/containerLogs/{SYSTEM}/{proxy}/ztunnel?tailLines=1");
    let status = |more: &[&str]| {
        let curl = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"];
        let ran = cluster
            .lab
            .exec(client, &[&curl[..], more, &[&url]].concat());
        (ran.code == 0).then_some(ran.stdout)
    };
    assert_eq!(
        status(&[]),
        None,
        "without a certificate there is no answer"
    );
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = cluster.lab.exec(client, &["cat", token]).success();
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(status(&["-H", &bearer]), None, "nor with a token");
    for (account, answer) in [("kubeconfig", "200"), ("scheduler.kubeconfig", "403")] {
        let files = credentials(cluster, account);
        let with = ["--cert", &files[0], "--key", &files[1]];
        assert_eq!(status(&with).as_deref(), Some(answer), "{account}");
    }
}

/// The certificate and the key of a kubeconfig, in files.
fn credentials(cluster: &Cluster, kubeconfig: &str) -> [String; 2] {
    let place = cluster.plane.folder().join(kubeconfig);
    let config = place.to_string_lossy().into_owned();
    let view = [
        "--kubeconfig",
        &config,
        "config",
        "view",
        "--raw",
        "-o",
        "json",
    ];
    let config = cluster.plane.kubectl(&view).json();
    ["client-certificate-data", "client-key-data"].map(|field| {
        let data = config["users"][0]["user"][field]
            .as_str()
            .unwrap_or_default();
        let place = cluster.plane.folder().join(format!("{kubeconfig}.{field}"));
        std::fs::write(&place, STANDARD.decode(data).expect("base64")).expect("written");
        place.to_string_lossy().into_owned()
    })
}
