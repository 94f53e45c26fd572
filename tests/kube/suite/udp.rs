//! UDP of pods that ask for it by their annotation.

use ambit_lab::harness::eventually;
use serde_json::Value;

use crate::installed::{Cluster, NODE_PROXIES, SYSTEM, tunnelled};
use crate::plane::PATIENCE;
use crate::pods::STRICT;
use crate::traces::SHOP;

/// On every node a server that takes UDP in tunnels.
const ECHO: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}, annotations: {ambit.dev/udp: enabled}}
    spec:
      containers:
      - {name: echo, image: ambit/echo, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
";

const NODES: [&str; 2] = ["node-1", "node-2"];
/// Datagrams of one flow.
const COUNT: usize = 5;

/// The flows of UDP in tunnels that the proxy of a node has counted.
fn flows(cluster: &Cluster, node: &str, reporter: &str) -> f64 {
    let proxy = cluster.pod_on(SYSTEM, NODE_PROXIES, node);
    let url = "http://127.0.0.1:15020/metrics";
    let page = cluster.lab.load(&proxy, &["get", "--fail", url]).success();
    tunnelled(&page, reporter, ["default", "default"], "udp")
}

#[test]
fn datagrams_of_annotated_pods_travel_in_tunnels() {
    let cluster = Cluster::with_mesh(2);
    cluster.plane.apply(SHOP);
    cluster.apply("shop", ECHO);
    cluster.apply("shop", STRICT);
    cluster.plane.rolled_out("shop", "ds/echo");
    cluster.all_are("shop", true);
    let pods = NODES.map(|node| cluster.pod_on("shop", "app=echo", node));
    let place = |pod: &str| {
        let (namespace, name) = pod.split_once('/').expect("NAMESPACE/NAME");
        let pod = cluster.plane.object("pod", namespace, name).expect("a pod");
        let ip = pod["status"]["podIP"].as_str().expect("an address");
        format!("{ip}:8080")
    };
    let places = [0, 1].map(|at| place(&pods[at]));
    for (from, to) in [(0, 1), (1, 0)] {
        let count = COUNT.to_string();
        let ask = ["udp", &places[to], "-n", &count, "--timeout", "2s"];
        let answered = || {
            let ran = cluster.lab.load(&pods[from], &ask);
            let lines = ran.stdout.lines().map(serde_json::from_str::<Value>);
            let answers: Vec<Value> = lines
                .map(|line| line.expect("JSON")["answer"].clone())
                .collect();
            let own = places[from].split(':').next();
            let from_own = |answer: &Value| {
                let seen = answer["remote_address"].as_str().unwrap_or_default();
                seen.split(':').next() == own
            };
            (answers.len() == COUNT && answers.iter().all(from_own)).then_some(())
        };
        let counts = || {
            let at = [(from, "source"), (to, "destination")];
            at.map(|(at, reporter)| flows(&cluster, NODES[at], reporter))
        };
        let before = counts();
        eventually("datagrams are answered", PATIENCE, answered);
        eventually("both proxies count the flow", PATIENCE, || {
            let counts = counts();
            eprintln!(
                "{} to {}: {counts:?} tunnelled flows after {before:?}",
                NODES[from], NODES[to]
            );
            (counts[0] > before[0] && counts[1] > before[1]).then_some(())
        });
    }
}
