//! Proof of what the node proxies did with a connection: their access logs and their metrics.

use std::time::Duration;

use ambit_lab::harness::{Lab, Options, eventually};
use ambit_lab::metrics;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// Another node proxy for the labs of these tests, as `lab up --ztunnel` takes it: `[NODE=]BIN`.
const ZTUNNEL: &str = "AMBIT_TEST_ZTUNNEL";

/// A lab of the mesh whose node proxies log one JSON object a line.
pub(crate) fn start(manifests: String, more: &[&str]) -> Lab {
    let other = std::env::var(ZTUNNEL).map(|choice| format!("--ztunnel={choice}"));
    let own = ["--ztunnel-env", "LOG_FORMAT=json"];
    Lab::start(&Options {
        mesh: true,
        manifests,
        arguments: own
            .iter()
            .chain(more)
            .map(|&argument| argument.to_owned())
            .chain(other)
            .collect(),
        ..Options::default()
    })
}

/// One finished or refused connection, as a node proxy logged it.
#[derive(Debug)]
pub(crate) struct Flow(Value);

impl Flow {
    /// A field; empty when the line has none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A number; zero when the line has none.
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_default()
    }

    pub(crate) fn has(&self, fields: &[(&str, &str)]) -> bool {
        fields.iter().all(|(name, value)| self.text(name) == *value)
    }
}

/// Every connection that the proxy of `node` has logged so far.
pub(crate) fn flows(lab: &Lab, node: &str) -> Vec<Flow> {
    let log = lab.logs(&format!("ztunnel/{node}"));
    let lines = log.lines().filter(|line| line.contains("\"access\""));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(Flow)
        .collect()
}

/// The first connection at `node` that has all these fields.
pub(crate) fn flow(lab: &Lab, node: &str, fields: &[(&str, &str)]) -> Flow {
    let what = format!("{fields:?}");
    flow_that(lab, node, &what, |flow| flow.has(fields))
}

/// The first connection at `node` of which `wanted` is true. It is waited for: a proxy writes the line when the
/// connection is over for both ends, and several lines together.
pub(crate) fn flow_that(lab: &Lab, node: &str, what: &str, wanted: impl Fn(&Flow) -> bool) -> Flow {
    eventually(&format!("{what} at {node}"), PATIENCE, || {
        flows(lab, node).into_iter().find(&wanted)
    })
}

/// The identity of a service account.
pub(crate) fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// Asserts that the tunnel from one pod to another, with service accounts of the pods' names, was
/// mutual TLS at both ends.
pub(crate) fn tunnelled(lab: &Lab, namespace: &str, [from, to]: [(&str, &str); 2], port: u16) {
    let identities = [from.0, to.0].map(|pod| identity(namespace, pod));
    for (node, direction) in [(from.1, "outbound"), (to.1, "inbound")] {
        let fields = [
            ("direction", direction),
            ("src.workload", from.0),
            ("dst.workload", to.0),
            ("src.identity", identities[0].as_str()),
            ("dst.identity", identities[1].as_str()),
        ];
        let flow = flow(lab, node, &fields);
        let (peer, inner) = (flow.text("dst.addr"), flow.text("dst.hbone_addr"));
        assert!(peer.ends_with(":15008"), "{flow:?}");
        assert!(inner.ends_with(&format!(":{port}")), "{flow:?}");
    }
    let reporters = [(from.1, "source"), (to.1, "destination")];
    for (node, reporter) in reporters {
        let labels = [
            ("reporter", reporter),
            ("source_workload", from.0),
            ("destination_workload", to.0),
            ("source_principal", identities[0].as_str()),
            ("destination_principal", identities[1].as_str()),
            ("connection_security_policy", "mutual_tls"),
        ];
        let opened = metric(lab, node, "istio_tcp_connections_opened_total", &labels);
        assert!(opened > 0.0, "{node} counts none of {labels:?}");
    }
}

/// Asserts that a pod's traffic to another of its node was relayed between the two sockets, with
/// both identities known.
pub(crate) fn local(lab: &Lab, namespace: &str, node: &str, [from, to]: [&str; 2]) {
    let identities = [from, to].map(|pod| identity(namespace, pod));
    let fields = [
        ("security", "node_local"),
        ("src.identity", identities[0].as_str()),
        ("dst.identity", identities[1].as_str()),
    ];
    let _ = flow(lab, node, &fields);
}

/// The sum of a metric at the proxy of a node, or of a machine, over all series that have these labels.
pub(crate) fn metric(lab: &Lab, node: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let url = "http://127.0.0.1:15020/metrics";
    let kind = match node.starts_with("node-") {
        true => "node",
        false => "machine",
    };
    let text = lab.load(&format!("{kind}/{node}"), &["get", "--fail", url]);
    metrics::sum(&text.success(), name, labels)
}

/// Connections with these labels that the proxy of a node has opened, and not closed.
pub(crate) fn open(lab: &Lab, node: &str, labels: &[(&str, &str)]) -> f64 {
    let [opened, closed] = ["opened", "closed"].map(|which| {
        let name = format!("istio_tcp_connections_{which}_total");
        metric(lab, node, &name, labels)
    });
    opened - closed
}
