//! What pods may connect to: anything, or what the mesh knows.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

use crate::fixtures::{AMBIENT, addresses, client, cluster_ips, echo, host, namespace, service};
use crate::flows::{Flow, flow_that, metric, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// On node-1.
const CALLER: &str = "shop/caller";
/// Of these addresses the mesh knows nothing: they are where the caller's node receives what its pods send.
const OUTSIDE: [&str; 2] = ["10.244.1.1", "fd00:10:244:1::1"];
/// The other node, which is known by a pod that shares its address.
const NODE: &str = "172.30.0.3";
/// Where every node has a page.
const PORT: u16 = 15020;

/// Pods of the mesh on both nodes, and one outside it.
fn lab() -> Lab {
    let mut all = namespace("shop", AMBIENT) + &namespace("outside", "");
    all += &client("shop", "caller", "node-1");
    for (namespace, name, node) in [
        ("shop", "near", "node-1"),
        ("shop", "far", "node-2"),
        ("outside", "stranger", "node-2"),
    ] {
        all += &echo(namespace, name, node);
        all += &service(namespace, name, &format!("name: {name}"));
    }
    start(all, &[])
}

fn reaches(lab: &Lab, to: &str, port: u16, path: &str) -> bool {
    let url = format!("http://{}:{port}{path}", host(to));
    let asked = lab.load(CALLER, &["get", "--fail", "--timeout", "5s", &url]);
    asked.code == 0
}

fn goes_outside(lab: &Lab) -> [bool; 2] {
    OUTSIDE.map(|address| reaches(lab, address, PORT, "/metrics"))
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{hosts: [{name}.internal], {spec}}}\n"
    )
}

/// Services and pods, by name and by address, in the mesh and outside, and a node.
fn mesh_is_reached(lab: &Lab) {
    for name in ["near.shop", "far.shop", "stranger.outside"] {
        assert!(reaches(lab, name, 80, "/"), "{name}");
        let (name, namespace) = name.split_once('.').expect("two names");
        let name = format!("{namespace}/{name}");
        for address in cluster_ips(lab, &name) {
            assert!(reaches(lab, &address, 80, "/"), "{name} {address}");
        }
        for address in addresses(lab, &name) {
            assert!(reaches(lab, &address, 8080, "/"), "{name} {address}");
        }
    }
    assert!(reaches(lab, NODE, PORT, "/metrics"));
}

/// Why the proxy did not carry the caller's connection there.
fn why_not(lab: &Lab, address: &str) -> String {
    let to = format!("{}:{PORT}", host(address));
    let refused = |flow: &Flow| {
        flow.text("direction") == "outbound"
            && flow.text("src.workload") == "caller"
            && flow.text("dst.addr") == to
            && !flow.text("error").is_empty()
    };
    let flow = flow_that(lab, "node-1", "a connection that is refused", refused);
    flow.text("error").to_owned()
}

#[test]
fn only_what_the_mesh_knows_is_reached_if_the_policy_says_so() {
    let lab = lab();
    assert_eq!(goes_outside(&lab), [true; 2], "anything is allowed");
    mesh_is_reached(&lab);
    let policy = "AMBIT_OUTBOUND_TRAFFIC_POLICY=REGISTRY_ONLY";
    let replaced = ["replace", "ztunnel/node-1", "--env", policy];
    let _ = lab.run(replaced).success();
    mesh_is_reached(&lab);
    assert_eq!(goes_outside(&lab), [false; 2]);
    for address in OUTSIDE {
        let said = why_not(&lab, address);
        for part in [address, "REGISTRY_ONLY", "ServiceEntry"] {
            assert!(said.contains(part), "{said}");
        }
    }
    let labels = [
        ("reporter", "source"),
        ("source_workload", "caller"),
        ("response_flags", "DENY"),
    ];
    let refused = metric(
        &lab,
        "node-1",
        "istio_tcp_connections_failed_total",
        &labels,
    );
    assert!(refused >= 2.0, "{refused}");

    // A range of addresses, as they are dialled; and a name, whose address is given.
    let ports = format!("ports: [{{number: {PORT}, name: tcp, protocol: TCP}}]");
    let range = format!("addresses: [10.244.1.0/31], resolution: NONE, {ports}");
    let named = format!(
        "ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {PORT}}}], \
         resolution: STATIC, endpoints: [{{address: {}}}]",
        OUTSIDE[0]
    );
    for (name, spec, url, port) in [
        ("range", range, OUTSIDE[0], PORT),
        ("named", named, "named.internal", 80),
    ] {
        lab.apply(&entry(name, &spec));
        assert!(reaches(&lab, url, port, "/metrics"), "{name}");
        assert_eq!(goes_outside(&lab), [true, false], "{name}");
        let gone = ["delete", "-n", "shop", "serviceentry", name];
        let _ = lab.run(gone).success();
        eventually(&format!("no entry {name}"), PATIENCE, || {
            (goes_outside(&lab) == [false; 2]).then_some(())
        });
    }
    mesh_is_reached(&lab);
}
