//! What is counted is on the page before it has happened: a rate needs the zero that it begins with.

use ambit_lab::harness::Lab;

use crate::fixtures::{AMBIENT, client, namespace};
use crate::flows::start;

const WAYPOINT: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
     metadata: {name: waypoint, namespace: shop}\n\
     spec:\n  gatewayClassName: ambit-waypoint\n  listeners: [{name: mesh, port: 15008, protocol: HBONE}]\n  \
     infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: options}}\n\
     ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: options, namespace: shop}\n\
     data: {OTEL_EXPORTER_OTLP_ENDPOINT: \"http://collector.outside:4317\"}\n";

/// Names and labels.
const EVERY_PROXY: &[&str] = &[
    "ambit_xds_rejected_pushes_total",
    "ambit_hbone_limits_reached_total{limit=\"streams\"}",
    "ambit_hbone_limits_reached_total{limit=\"headers\"}",
    "ambit_hbone_limits_reached_total{limit=\"resets\"}",
    "ambit_hbone_limits_reached_total{limit=\"frames\"}",
];
const NODE_PROXY: &[&str] = &[
    "ambit_accept_pauses_total",
    "ambit_half_closed_timeouts_total",
    "ambit_peer_handshakes_failed_total{reason=\"revoked\"}",
    "ambit_peer_handshakes_failed_total{reason=\"tls\"}",
    "ambit_pod_limits_reached_total{limit=\"AMBIT_CONNECTIONS_PER_POD\"}",
    "ambit_pod_limits_reached_total{limit=\"AMBIT_DNS_QUERIES_PER_POD\"}",
    "ambit_pod_limits_reached_total{limit=\"AMBIT_HBONE_CONNECTIONS_PER_POD\"}",
    "ambit_pod_limits_reached_total{limit=\"AMBIT_UDP_FLOWS_PER_POD\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"limit\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"own_port\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"queue\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"refused\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"socket\"}",
    "ambit_udp_datagrams_dropped_total{reason=\"window\"}",
];
const OF_A_WAYPOINT: &[&str] = &[
    "ambit_trace_spans_dropped_total",
    "ambit_trace_spans_exported_total",
];
const AGENT: &[&str] = &[
    "ambit_agent_cni_requests_total{command=\"add\",result=\"refused\"}",
    "ambit_agent_cni_requests_total{command=\"del\",result=\"refused\"}",
    "ambit_agent_cni_requests_total{command=\"check\",result=\"enrolled\"}",
];

/// Those of these series of which the page of `at` does not say that there was none.
fn missing(lab: &Lab, at: &str, port: u16, series: &[&str]) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let page = lab.load(at, &["get", "--fail", &url]).success();
    let zeros = series.iter().map(|it| format!("{it} 0"));
    let missing = zeros.filter(|zero| !page.lines().any(|line| line == zero));
    missing.collect()
}

#[test]
fn what_has_not_happened_is_on_the_page_as_zero() {
    let shop = namespace("shop", AMBIENT) + &client("shop", "client", "node-1") + WAYPOINT;
    let lab = start(shop, &[]);
    let pods = lab.objects("pod", "shop");
    let names = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str());
    let waypoint = names.into_iter().find(|name| name.starts_with("waypoint-"));
    let waypoint = format!("shop/{}", waypoint.expect("the waypoint's pod"));
    for (at, port, series) in [
        ("node/node-1", 15020, EVERY_PROXY),
        ("node/node-1", 15020, NODE_PROXY),
        ("node/node-1", 15022, AGENT),
        (&*waypoint, 15020, EVERY_PROXY),
        (&*waypoint, 15020, OF_A_WAYPOINT),
    ] {
        let missing = missing(&lab, at, port, series);
        assert!(missing.is_empty(), "{at}: {missing:#?}");
    }
}
