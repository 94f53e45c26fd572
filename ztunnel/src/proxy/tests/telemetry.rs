//! What is said of connections, under the names that dashboards expect.

use std::collections::BTreeMap;

use super::*;

/// A series: its name without labels, its labels, its value.
fn series(text: &str) -> Vec<(&str, BTreeMap<&str, &str>, &str)> {
    let lines = text.lines().filter(|line| line.starts_with("istio_tcp_"));
    lines
        .map(|line| {
            let (name, rest) = line.split_once('{').expect("labels");
            let (labels, value) = rest.rsplit_once("} ").expect("a value");
            let pairs = labels.split("\",").map(|pair| {
                let (label, value) = pair.split_once("=\"").expect("a label");
                (label, value.trim_end_matches('"'))
            });
            (name, pairs.collect(), value)
        })
        .collect()
}

/// Source and destination of one connection as both proxies describe it, with nothing left out and nothing added.
#[test]
fn connections_have_the_names_and_labels_that_dashboards_expect() {
    run(async || {
        let world = World::new();
        let described = |name: &str, ip: &str, revision: &str, of: &[&str]| Workload {
            canonical_name: format!("{name}-app").into(),
            canonical_revision: revision.into(),
            workload_name: format!("{name}-deploy").into(),
            cluster_id: "east".into(),
            services: of.iter().map(|of| (service_key(of), vec![])).collect(),
            ..workload(name, ip)
        };
        let mut caller = described("client", CLIENT, "v1", &[]);
        // Where its proxy calls from: here it has no network of its own.
        caller
            .addresses
            .push("127.0.0.1".parse().expect("an address"));
        let called = described("server", SERVER, "v2", &["web"]);
        let client = world.serve(&caller).await;
        let _server = world.serve(&called).await;
        let (app, _) = echo(SERVER).await;
        let web = service("web", "127.61.1.1", app.port());
        world.change([Change::Service(Arc::new(web))]);
        let vip = addr("127.61.1.1:80");
        let back = exchange(dial(&client, vip).await, "hello").await;
        assert_eq!(back.expect("carried"), "hello");
        world.logged(2).await;
        world.shared.connections().count_bytes();
        let of_one = world.metrics.render();
        world.change([deny(&caller.identity)]);
        let refused = exchange(dial(&client, vip).await, "hello").await;
        refused.expect_err("denied");
        world.logged(4).await;
        let of_both = world.metrics.render();

        for reporter in ["source", "destination"] {
            let common = BTreeMap::from([
                ("reporter", reporter),
                ("source_workload", "client-deploy"),
                ("source_canonical_service", "client-app"),
                ("source_app", "client-app"),
                ("source_canonical_revision", "v1"),
                ("source_version", "v1"),
                ("source_workload_namespace", "ns"),
                ("source_cluster", "east"),
                ("source_principal", "spiffe://cluster.local/ns/ns/sa/client"),
                ("destination_workload", "server-deploy"),
                ("destination_canonical_service", "server-app"),
                ("destination_app", "server-app"),
                ("destination_canonical_revision", "v2"),
                ("destination_version", "v2"),
                ("destination_workload_namespace", "ns"),
                ("destination_cluster", "east"),
                (
                    "destination_principal",
                    "spiffe://cluster.local/ns/ns/sa/server",
                ),
                ("destination_service", "web.ns.svc.cluster.local"),
                ("destination_service_namespace", "ns"),
                ("destination_service_name", "web"),
                ("request_protocol", "tcp"),
                ("connection_security_policy", "mutual_tls"),
            ]);
            for (name, flags, value, text) in [
                ("istio_tcp_connections_opened_total", "-", "1", &of_one),
                ("istio_tcp_connections_closed_total", "-", "1", &of_one),
                ("istio_tcp_sent_bytes_total", "-", "5", &of_one),
                ("istio_tcp_received_bytes_total", "-", "5", &of_one),
                ("istio_tcp_connections_closed_total", "DENY", "1", &of_both),
                ("istio_tcp_connections_failed_total", "DENY", "1", &of_both),
            ] {
                let mut labels = common.clone();
                labels.insert("response_flags", flags);
                let wanted = (name, labels, value);
                let all = series(text);
                assert!(all.contains(&wanted), "{wanted:?} in\n{text}");
            }
        }
        // One a reporter, and no other.
        assert_eq!(series(&of_one).len(), 8, "{of_one}");
    });
}
