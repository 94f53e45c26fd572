//! What an installation leaves behind: nothing, in the cluster and in the networks of its nodes and pods.

use std::collections::{BTreeMap, BTreeSet};

use ambit_lab::harness::{eventually, eventually_ok};

use crate::installed::{Cluster, SYSTEM};
use crate::plane::PATIENCE;
use crate::pods::{CLIENT, WEB, name};

const NODES: [&str; 2] = ["node-1", "node-2"];

/// The namespace whose pods are looked at.
pub(crate) const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
";

/// Prints what the network namespace it runs in does with packets.
const RULES: &str =
    "nft list ruleset; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all";

/// What can be found of an installation.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Kind, namespace and name of every object, and the annotations of pods.
    objects: BTreeSet<String>,
    /// Rules and routes by node and pod.
    rules: BTreeMap<String, String>,
}

impl Traces {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut objects = list(cluster, &kinds(cluster), "");
        objects.extend(list(cluster, "pods", ",A:.metadata.annotations"));
        let pods = cluster.plane.pods_of("shop", "");
        let pods = pods.iter().map(|pod| format!("shop/{}", name(pod)));
        let nodes = NODES.iter().map(|node| format!("node/{node}"));
        let rules = nodes.chain(pods).map(|place| {
            let rules = cluster.lab.exec(&place, &["sh", "-c", RULES]).success();
            (place, rules)
        });
        Self {
            objects,
            rules: rules.collect(),
        }
    }

    /// Waits until a cluster has these traces and no others.
    pub(crate) fn are_all(&self, cluster: &Cluster) {
        // The garbage collector takes its time.
        eventually_ok("the traces of before, and no others", PATIENCE, || {
            let now = Self::of(cluster);
            let left = now.without(self).join("\n");
            let missing = self.without(&now).join("\n");
            match left.is_empty() && missing.is_empty() {
                true => Ok(()),
                false => Err(format!("left behind: {left}\ntaken along: {missing}")),
            }
        });
    }

    /// What is here and not there.
    fn without(&self, other: &Self) -> Vec<String> {
        let objects = self.objects.difference(&other.objects).cloned();
        let rules = self
            .rules
            .iter()
            .filter(|(place, rules)| other.rules.get(*place) != Some(rules));
        let rules = rules.map(|(place, rules)| format!("{place}:\n{rules}"));
        objects.chain(rules).collect()
    }
}

/// Every kind that can be listed, but for what comes and goes by itself.
fn kinds(cluster: &Cluster) -> String {
    let all = cluster
        .plane
        .kubectl(&["api-resources", "--verbs=list", "-o", "name"])
        .success();
    let kinds = all.lines().filter(|kind| !kind.starts_with("events"));
    kinds.collect::<Vec<_>>().join(",")
}

fn list(cluster: &Cluster, kinds: &str, more: &str) -> BTreeSet<String> {
    let columns = format!("-o=custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name{more}");
    let listed = cluster
        .plane
        .kubectl(&["get", kinds, "-A", "--no-headers", &columns])
        .success();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    listed.lines().map(words).collect()
}

/// Removes the mesh as README.md says.
fn uninstall(cluster: &Cluster) {
    let timeout = format!("--timeout={}s", 3 * PATIENCE.as_secs());
    let agents = [
        "delete",
        "-n",
        SYSTEM,
        "daemonset/ztunnel",
        "--cascade=foreground",
    ];
    cluster.kubectl(&[&agents[..], &[&timeout]].concat());
    let rest = cluster.plane.ambit(&["uninstall", "--crds"]).success();
    let delete = ["delete", "--ignore-not-found", "-f", "-", &timeout];
    let _ = cluster.plane.kubectl_with_input(&delete, &rest).success();
}

#[test]
fn an_uninstallation_leaves_nothing_of_a_mesh_in_use() {
    let cluster = Cluster::bare(2);
    cluster.plane.apply(SHOP);
    for manifests in [WEB, CLIENT] {
        cluster.apply("shop", manifests);
    }
    for workload in ["deploy/web", "ds/client"] {
        cluster.plane.rolled_out("shop", workload);
    }
    let client = cluster.pod_on("shop", "app=client", "node-1");
    let asked = || cluster.get(&client, "http://web.shop/");
    eventually("the server is reached", PATIENCE, || {
        (asked().code == 0).then_some(())
    });
    let before = Traces::of(&cluster);
    cluster.install();
    cluster.all_are("shop", true);
    let _ = asked().success();
    let within = Traces::of(&cluster);
    for place in ["node/node-1", &client] {
        assert_ne!(within.rules[place], before.rules[place], "{place}");
    }
    let roots = |line: &String| line.starts_with("ConfigMap shop istio-ca-root-cert");
    assert!(within.objects.iter().any(roots), "{:?}", within.objects);

    uninstall(&cluster);
    before.are_all(&cluster);
    let _ = asked().success();
}
