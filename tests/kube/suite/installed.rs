//! The mesh on a cluster of its own, as `kubectl apply -k manifests/` installs it.

use ambit_lab::harness::{Lab, Ran, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use crate::plane::{ControlPlane, PATIENCE};
use crate::pods::name;

/// The kustomization of an installation.
pub(crate) const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests");
/// Where the mesh is.
pub(crate) const SYSTEM: &str = "ambit-system";

const MODE: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The pods of node proxies and agents.
pub(crate) const NODE_PROXIES: &str = "app.kubernetes.io/name=ztunnel";

/// A cluster. The lab ends before its control plane.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) plane: ControlPlane,
}

impl Cluster {
    /// A cluster that knows all kinds, without the mesh.
    pub(crate) fn bare(nodes: u8) -> Self {
        let plane = ControlPlane::start();
        plane.define();
        let lab = plane.lab(nodes);
        Self { lab, plane }
    }

    /// A cluster with the mesh.
    pub(crate) fn with_mesh(nodes: u8) -> Self {
        let cluster = Self::bare(nodes);
        cluster.install();
        cluster
    }

    /// Installs the mesh and waits until it runs.
    pub(crate) fn install(&self) {
        self.kubectl(&["apply", "-k", MANIFESTS]);
        self.await_mesh();
    }

    /// Waits until the mesh runs.
    pub(crate) fn await_mesh(&self) {
        for workload in ["deploy/ambit-control", "ds/ztunnel"] {
            self.plane.rolled_out(SYSTEM, workload);
        }
    }

    /// Runs kubectl, which has to succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) {
        let _ = self.plane.kubectl(arguments).success();
    }

    /// Applies manifests to a namespace.
    pub(crate) fn apply(&self, namespace: &str, manifests: &str) {
        let _ = self
            .plane
            .kubectl_with_input(&["apply", "-n", namespace, "-f", "-"], manifests)
            .success();
    }

    /// Waits until the pods of a namespace that are to stay follow a label: all in the mesh, or none.
    pub(crate) fn all_are(&self, namespace: &str, enabled: bool) {
        eventually("every pod follows the label", PATIENCE, || {
            let pods = self.plane.pods_of(namespace, "");
            let captured = |pod: &Value| pod["metadata"]["annotations"][REDIRECTION] == "enabled";
            // Waypoints carry their traffic themselves.
            let opted_out = |pod: &Value| pod["metadata"]["labels"][MODE] == "none";
            let mut staying = pods.iter().filter(|pod| is_staying(pod) && !opted_out(pod));
            staying.all(|pod| captured(pod) == enabled).then_some(())
        });
    }

    /// The pod of a label on a node, as `NAMESPACE/NAME`, once there is exactly one that runs.
    pub(crate) fn pod_on(&self, namespace: &str, selector: &str, node: &str) -> String {
        let found = eventually(&format!("{selector} on {node}"), PATIENCE, || {
            let pods = self.plane.pods_of(namespace, selector);
            let here = |pod: &&Value| {
                is_staying(pod)
                    && pod["spec"]["nodeName"] == node
                    && pod["status"]["phase"] == "Running"
            };
            let mut found = pods.iter().filter(here).map(name);
            found.next().filter(|_| found.next().is_none())
        });
        format!("{namespace}/{found}")
    }

    /// What a client gets from a URL; it fails at statuses of 400 and above.
    pub(crate) fn get(&self, client: &str, url: &str) -> Ran {
        self.lab.load(client, &["get", "--fail", url])
    }

    /// What the node proxies have logged.
    pub(crate) fn proxies_said(&self) -> String {
        let pods = self.plane.pods_of(SYSTEM, NODE_PROXIES);
        let log = |pod: &Value| {
            self.lab
                .run(["logs", "-n", SYSTEM, &name(pod), "-c", "ztunnel"])
                .success()
        };
        pods.iter().map(log).collect()
    }

    /// What an installation has put into a node's folders.
    pub(crate) fn installed(&self, node: &str) -> String {
        let root = root(node);
        let find = format!("find {root}/opt/cni {root}/run ! -type d; cat {root}/etc/cni/net.d/*");
        let found = self.lab.exec(&format!("node/{node}"), &["sh", "-c", &find]);
        found.success().split_whitespace().collect()
    }

    /// Waits until a node's folders are as they were.
    pub(crate) fn is_as_before(&self, node: &str, before: &str) {
        let mut now = String::new();
        let same = || {
            now = self.installed(node);
            (now == before).then_some(())
        };
        // Proxies have a minute to end.
        eventually(&format!("{node} as it was"), PATIENCE * 2, same);
    }
}

/// Where the files of a node are that are its own.
pub(crate) fn root(node: &str) -> String {
    format!("/run/ambit-lab/nodes/{node}")
}

/// Whether a pod is not being deleted.
pub(crate) fn is_staying(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
}

/// What was opened in mutual TLS from an account of the shop to another, as a proxy's page of metrics counts it, of a protocol
/// (`tcp`, `udp`).
pub(crate) fn tunnelled(page: &str, reporter: &str, ways: [&str; 2], protocol: &str) -> f64 {
    let [from, to] = ways.map(|it| format!("spiffe://cluster.local/ns/shop/sa/{it}"));
    let labels = [
        ("reporter", reporter),
        ("request_protocol", protocol),
        ("connection_security_policy", "mutual_tls"),
        ("source_principal", &from),
        ("destination_principal", &to),
    ];
    metrics::sum(page, "istio_tcp_connections_opened_total", &labels)
}
