//! Two networks, whose pods have no way to each other's addresses: what is behind the gateway of the other one is reached through
//! it, by tunnels that only their ends can read.

use std::collections::BTreeSet;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use crate::fixtures::{
    addresses, ambient_shop, client, cluster_ips, echo, host, namespace, service, text,
};
use crate::flows::{Flow, flow_that, flows, identity, start};
use crate::thief::{thief, tunnel};
use crate::ways::Way;

const PATIENCE: Duration = Duration::from_secs(20);
const NETWORKS: [&str; 4] = ["--network", "node-1=east", "--network", "node-2=west"];
const HELLO: &str = "GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n";

fn gateway(network: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: to-{network}, namespace: gateways, labels: {{topology.istio.io/network: {network}}}}}\n\
         spec: {{gatewayClassName: istio-east-west, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
    )
}

/// The shop, `client-1` and `echo-1` in the east and `client-2` and `echo-2` in the west, with a gateway into each; outside the
/// mesh a stranger in the east, who stole the authority's key, and a server in the west.
fn lab() -> Lab {
    let mut manifests = ambient_shop() + &namespace("gateways", "") + &namespace("outside", "");
    manifests += &(gateway("east") + &gateway("west"));
    manifests += &(thief() + &echo("outside", "plain", "node-2"));
    manifests += &client("shop", "other-1", "node-1");
    start(manifests, &NETWORKS)
}

/// The addresses of the gateway into a network, IPv4 first.
fn gateway_ips(lab: &Lab, network: &str) -> [String; 2] {
    let pods = lab.objects("pod", "gateways");
    let name = |pod: &Value| text(&pod["metadata"]["name"]);
    let own = |pod: &&Value| name(pod).starts_with(&format!("to-{network}-"));
    let pod = pods.iter().find(own).expect("an instance");
    addresses(lab, &format!("gateways/{}", name(pod)))
}

fn get(lab: &Lab, from: &str, address: &str, port: u16) -> ambit_lab::harness::Ran {
    let url = format!("http://{}:{port}/", host(address));
    lab.load(from, &["get", "--fail", "--timeout", "5s", &url])
}

/// The lines of the access log of the gateway into a network.
fn lines(lab: &Lab, network: &str) -> Vec<String> {
    let log = lab.logs(&format!("gateways/deploy/to-{network}"));
    let lines = log.lines().filter(|line| line.contains("\"- - -\""));
    lines.map(str::to_owned).collect()
}

fn is_refused_for(flow: &Flow, why: &str) -> bool {
    flow.text("direction") == "outbound" && flow.text("error").contains(why)
}

fn policy(spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: callers, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{name: echo-2}}}}, {spec}}}\n"
    )
}

#[test]
fn another_network_is_reached_through_its_gateway() {
    let lab = lab();
    // There is no other way: neither outside the mesh nor by addresses.
    for (east, west) in addresses(&lab, "shop/echo-1")
        .iter()
        .zip(&addresses(&lab, "shop/echo-2"))
    {
        let _ = get(&lab, "outside/stranger", east, 8080).success();
        for from in ["outside/stranger", "shop/client-1"] {
            let _ = get(&lab, from, west, 8080).failure();
        }
    }
    for (from, to, network) in [
        (("client-1", "node-1"), ("echo-2", "node-2"), "west"),
        (("client-2", "node-2"), ("echo-1", "node-1"), "east"),
    ] {
        for address in cluster_ips(&lab, &format!("shop/{}", to.0)) {
            let url = format!("http://{}/", host(&address));
            let answer = lab.get(&format!("shop/{}", from.0), &url);
            assert_eq!(answer["hostname"], to.0, "{url}");
        }
        // The ends know each other, and the way is told.
        let gateway = gateway_ips(&lab, network);
        let [caller, server] = [from.0, to.0].map(|pod| identity("shop", pod));
        let out = flow_that(&lab, from.1, "the way through the gateway", |flow| {
            flow.text("src.workload") == from.0 && flow.text("dst.workload") == to.0
        });
        let at = gateway.clone().map(|ip| format!("{}:15008", host(&ip)));
        assert!(at.iter().any(|at| at == out.text("dst.addr")), "{out:?}");
        assert!(out.text("dst.hbone_addr").ends_with(":8080"), "{out:?}");
        assert_eq!(out.text("dst.identity"), server, "{out:?}");
        let arrived = flow_that(&lab, to.1, "a tunnel through the gateway", |flow| {
            flow.text("direction") == "inbound" && flow.text("src.identity") == caller
        });
        assert_eq!(arrived.text("dst.workload"), to.0, "{arrived:?}");
        assert_eq!(arrived.text("dst.identity"), server, "{arrived:?}");
        let peer = arrived.text("src.addr");
        let from_gateway = |ip: &String| peer.starts_with(&format!("{}:", host(ip)));
        assert!(gateway.iter().any(from_gateway), "{arrived:?}");
    }
    // A service with endpoints on both.
    for client in ["shop/client-1", "shop/client-2"] {
        let names: BTreeSet<String> = (0..24)
            .map(|_| text(&lab.get(client, "http://echo/")["hostname"]))
            .collect();
        let both = ["echo-1", "echo-2"].map(str::to_owned);
        assert_eq!(names, both.into_iter().collect(), "{client}");
    }
}

#[test]
fn policies_judge_who_is_behind_the_gateway() {
    let lab = lab();
    let passes = |client: &str| {
        let got = lab.load(
            client,
            &["get", "--fail", "--timeout", "5s", "http://echo-2/"],
        );
        got.code == 0
    };
    let passing = || ["shop/client-1", "shop/other-1", "shop/client-2"].map(passes);
    assert_eq!(passing(), [true; 3]);
    for (spec, expected) in [
        (
            "action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client-1]}}]}]",
            [false, true, true],
        ),
        (
            "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client-1]}}]}]",
            [true, false, false],
        ),
        // The gateway is nobody's caller.
        (
            "action: ALLOW, rules: [{from: [{source: {namespaces: [gateways]}}]}]",
            [false; 3],
        ),
    ] {
        lab.apply(&policy(spec));
        assert_eq!(passing(), expected, "{spec}");
    }
    let denied = flow_that(&lab, "node-2", "a denial", |flow| {
        flow.text("src.identity") == identity("shop", "client-1") && !flow.text("error").is_empty()
    });
    assert!(denied.text("error").contains("shop/callers"), "{denied:?}");
    let _ = flow_that(&lab, "node-1", "the caller's word of it", |flow| {
        flow.text("src.workload") == "client-1" && flow.text("error").contains("401")
    });
}

#[test]
fn without_a_gateway_another_network_is_not_reached() {
    let lab = lab();
    let get = || {
        lab.load(
            "shop/client-1",
            &["get", "--fail", "--timeout", "5s", "http://echo-2/"],
        )
    };
    let _ = get().success();
    lab.delete(&gateway("west"));
    let _ = get().failure();
    let why = "network \"west\" is another one and has no gateway";
    let refused = flow_that(&lab, "node-1", why, |flow| is_refused_for(flow, why));
    assert_eq!(refused.text("src.workload"), "client-1", "{refused:?}");
    // What has endpoints here as well is served by them alone.
    for _ in 0..12 {
        let answer = lab.get("shop/client-1", "http://echo/");
        assert_eq!(answer["hostname"], "echo-1");
    }
    // No attempt was made in plain text.
    let plain = |flow: &Flow| {
        let to_west = ["echo-2", "plain"].contains(&flow.text("dst.workload"));
        to_west && flow.text("direction") == "outbound" && flow.text("dst.identity").is_empty()
    };
    assert!(!flows(&lab, "node-1").iter().any(plain));
    lab.apply(&gateway("west"));
    let _ = get().success();
}

#[test]
fn a_gateway_leads_into_its_network_and_to_tunnels_alone() {
    let lab = lab();
    let friend = identity("shop", "client-1");
    let ask = |address: &str, authority: &str, identity: &[&str]| {
        let asked = ["--authority", authority, "--send", HELLO];
        tunnel(&lab, address, &[&asked[..], identity].concat())
    };
    let at = |ip: &str, port: u16| format!("{}:{port}", host(ip));
    for (family, gateway) in gateway_ips(&lab, "west").iter().enumerate() {
        let pod = |pod: &str| addresses(&lab, pod)[family].clone();
        let own = ["--identity", &*friend];
        let good = ask(gateway, &at(&pod("shop/echo-2"), 15008), &own);
        assert_eq!(good["status"], 200, "{good}");
        assert_eq!(good["server"], identity("gateways", "to-west"), "{good}");
        // What spoke no TLS got no answer of the application.
        assert!(!text(&good["received"]).contains("HTTP/1.1 200"), "{good}");
        for (case, authority) in [
            ("another network", at(&pod("shop/echo-1"), 15008)),
            ("an application", at(&pod("shop/echo-2"), 8080)),
            ("plain text of the mesh", at(&pod("shop/echo-2"), 15006)),
            ("outside the mesh", at(&pod("outside/plain"), 15008)),
            ("itself", at(gateway, 15008)),
            ("nobody", at("192.0.2.1", 15008)),
            (
                "a service",
                at(&cluster_ips(&lab, "shop/echo-2")[family], 15008),
            ),
            ("a name", "echo-2.shop.svc.cluster.local:80".to_owned()),
        ] {
            let refused = ask(gateway, &authority, &own);
            assert_eq!(refused["status"], 404, "{case}: {refused}");
        }
        let stranger = ask(gateway, &at(&pod("shop/echo-2"), 15008), &[]);
        assert!(stranger["error"].is_string(), "{stranger}");
        assert!(stranger["status"].is_null(), "{stranger}");
    }
    eventually("a line of each refusal", PATIENCE, || {
        let why = "does not lead to";
        let all = lines(&lab, "west");
        let refused = all
            .iter()
            .filter(|line| line.contains(why) && line.contains(&friend));
        (refused.count() == 16).then_some(())
    });
}

#[test]
fn resets_and_half_closes_pass_the_gateway() {
    let lab = lab();
    for ip in cluster_ips(&lab, "shop/echo-2") {
        let way = Way {
            lab: &lab,
            from: "shop/client-1",
            to: format!("{}:80", host(&ip)),
            server: "shop/echo-2",
        };
        way.check();
    }
    let gateway = gateway_ips(&lab, "west");
    let through = eventually("a line of each connection", PATIENCE, || {
        let all = flows(&lab, "node-1").into_iter();
        let there = all.filter(|flow| flow.text("dst.workload") == "echo-2");
        Some(there.collect::<Vec<Flow>>()).filter(|it| it.len() >= 10)
    });
    for flow in through {
        let to = flow.text("dst.addr");
        let there = |ip: &String| to.starts_with(&format!("{}:", host(ip)));
        assert!(gateway.iter().any(there), "{flow:?}");
    }
}

#[test]
fn inner_tunnels_are_shared_by_connections() {
    let lab = lab();
    let count = |server: &str| {
        let url = "http://127.0.0.1:15020/stats/prometheus";
        let text = lab.load("gateways/deploy/to-west", &["get", "--fail", url]);
        let labels = [("destination_workload", server)];
        let name = "istio_tcp_connections_opened_total";
        metrics::sum(&text.success(), name, &labels)
    };
    assert_eq!(count("echo-2"), 0.0);
    let arguments = [
        "http",
        "http://echo-2/",
        "-n",
        "200",
        "-c",
        "8",
        "--new-connections",
        "--json",
    ];
    let report = lab.load("shop/client-1", &arguments).json();
    assert_eq!(report["errors"]["total"], 0, "{report}");
    // Each is one session between the two pods. A worker has two to a peer, and the node proxy of the lab two workers.
    let sessions = count("echo-2");
    assert!(
        (1.0..=8.0).contains(&sessions),
        "{sessions} for 200 connections"
    );
    // Who is another has its own.
    let _ = lab.get("shop/other-1", "http://echo-2/");
    assert!(count("echo-2") > sessions);
}

#[test]
fn a_waypoint_is_reached_on_another_network_and_sends_within_its_own() {
    let lab = lab();
    let bound: String = [1, 2]
        .map(|number| {
            let name = format!("echo-{number}");
            let label = "labels: {istio.io/use-waypoint: waypoint}";
            let plain = service("shop", &name, &format!("name: {name}"));
            plain.replacen("namespace: shop", &format!("namespace: shop, {label}"), 1)
        })
        .concat();
    let waypoint = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {name: waypoint, namespace: shop}\n\
         spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";
    lab.apply(&(waypoint.to_owned() + &bound));
    let pods = lab.objects("pod", "shop");
    let named = |pod: &&Value| text(&pod["metadata"]["name"]).starts_with("waypoint-");
    let instance = pods.iter().find(named).expect("an instance");
    let (near, far) = match text(&instance["spec"]["nodeName"]).as_str() {
        "node-1" => (1, 2),
        _ => (2, 1),
    };
    for client in [near, far] {
        let answer = lab.get(
            &format!("shop/client-{client}"),
            &format!("http://echo-{near}/"),
        );
        assert_eq!(answer["hostname"], format!("echo-{near}"));
    }
    let _ = flow_that(&lab, &format!("node-{far}"), "the waypoint", |flow| {
        flow.text("dst.workload").starts_with("waypoint-")
    });
    let url = format!("http://echo-{far}/");
    let from = format!("shop/client-{near}");
    let refused = lab.load(&from, &["get", "--fail", "--timeout", "5s", &url]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stdout.contains("Service Unavailable"), "{refused}");
    eventually("the waypoint's word of it", PATIENCE, || {
        let log = lab.logs("shop/deploy/waypoint");
        let why = "are on other networks, where a waypoint does not send";
        log.contains(why).then_some(())
    });
}
