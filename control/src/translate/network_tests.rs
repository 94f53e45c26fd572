//! Which network a pod is on, who leads into it, and what a Gateway is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::model::{Destination, Workload};

use crate::index::Index;
use crate::translate::Mesh;
use crate::translate::testing::{apply, conditions, index, problems, status};

const WORLD: &str = "
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.istio.io/network: east}}
---
apiVersion: v1
kind: Node
metadata: {name: b, labels: {topology.istio.io/network: west}}
---
apiVersion: v1
kind: Node
metadata: {name: c}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.1], selector: {app: web}, ports: [{port: 80}]}
---
";

fn pod(name: &str, node: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n\
         spec: {{nodeName: {node}}}\nstatus: {{phase: Running, podIPs: [{{ip: 10.9.0.1}}]}}\n---\n"
    )
}

fn gateway(name: &str, network: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: {name}, namespace: infra, labels: {{{network}}}}}\n\
         spec: {{gatewayClassName: ambit-east-west, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]{more}}}\n---\n"
    )
}

const WEST: &str = "topology.istio.io/network: west";

fn workload(index: &Index, name: &str) -> Arc<Workload> {
    let found = index.workloads().find(|it| &*it.name == name);
    found.expect("a workload").clone()
}

/// Who leads to a pod.
fn way(index: &Index, pod: &str) -> String {
    match workload(index, pod).network_gateway.as_ref() {
        None => "nobody".to_owned(),
        Some(gateway) => match &gateway.destination {
            Destination::Hostname(key) => key.to_string(),
            Destination::Address(at) => at.to_string(),
        },
    }
}

#[test]
fn a_pods_network_is_its_own_else_its_nodes_else_the_clusters() {
    let pods = pod("of-node", "b", "app: web")
        + &pod("own", "b", "topology.istio.io/network: east")
        + &pod("unknown", "b", "topology.istio.io/network: far")
        + &pod("empty", "a", "topology.istio.io/network: ''")
        + &pod("neither", "c", "app: web");
    let mut index = Index::new(Mesh {
        network: "home".into(),
        ..Mesh::default()
    });
    apply(&mut index, &(WORLD.to_owned() + &pods));
    let network = |pod: &str| workload(&index, pod).network.to_string();
    assert_eq!(network("of-node"), "west");
    assert_eq!(network("own"), "east");
    // Services have no addresses on a network that nothing but a pod names.
    assert_eq!(network("unknown"), "west");
    assert_eq!(network("empty"), "east");
    assert_eq!(network("neither"), "home");
    apply(
        &mut index,
        "apiVersion: v1\nkind: Node\nmetadata: {name: c, labels: {topology.istio.io/network: west}}\n",
    );
    assert_eq!(&*workload(&index, "neither").network, "west");
}

#[test]
fn the_root_namespace_names_the_cluster_s_network() {
    let mut index = index(&(WORLD.to_owned() + &pod("p", "c", "") + &pod("q", "b", "")));
    let root = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: istio-system, labels: {{{labels}}}}}\n"
        )
    };
    let networks = |index: &Index| ["p", "q"].map(|it| workload(index, it).network.to_string());
    assert_eq!(networks(&index), ["", "west"]);
    apply(&mut index, &root("topology.istio.io/network: home"));
    assert_eq!(networks(&index), ["home", "west"]);
    apply(&mut index, &root("a: b"));
    assert_eq!(networks(&index), ["", "west"]);
}

#[test]
fn a_service_has_its_address_on_every_network() {
    let networks = |index: &Index| {
        let web = index.services().find(|it| &*it.name == "web");
        let vips = &web.expect("the service").vips;
        assert!(vips.iter().all(|vip| vip.net.to_string() == "10.96.0.1/32"));
        let names: BTreeSet<String> = vips.iter().map(|vip| vip.network.to_string()).collect();
        assert_eq!(names.len(), vips.len());
        names.into_iter().collect::<Vec<_>>()
    };
    let mut index = index(WORLD);
    assert_eq!(networks(&index), ["", "east", "west"]);
    let far = gateway("far", "topology.istio.io/network: far", "");
    apply(&mut index, &far);
    assert_eq!(networks(&index), ["", "east", "far", "west"]);
}

#[test]
fn a_gateway_leads_to_the_pods_of_its_network() {
    let mut index = index(&(WORLD.to_owned() + &pod("p", "b", "") + &pod("q", "a", "")));
    assert_eq!(way(&index, "p"), "nobody");
    apply(&mut index, &gateway("z", WEST, ""));
    assert_eq!(way(&index, "p"), "infra/z.infra.svc.cluster.local");
    assert_eq!(way(&index, "q"), "nobody");
    // One that is younger, or that cannot be reached, takes nothing over.
    let young =
        WEST.to_owned() + "}, creationTimestamp: \"2026-01-02T03:04:05Z\", annotations: {a: b";
    apply(&mut index, &gateway("x", &young, ""));
    apply(
        &mut index,
        &gateway("w", WEST, ", addresses: [{value: gw.example}]"),
    );
    assert_eq!(way(&index, "p"), "infra/z.infra.svc.cluster.local");
    // The first by name, and where it says that it is.
    let reached = ", addresses: [{value: 192.0.2.7}, {type: IPAddress, value: 192.0.2.8}]";
    apply(&mut index, &gateway("y", WEST, reached));
    assert_eq!(way(&index, "p"), "west/192.0.2.7");
    let outside = workload(&index, "y");
    assert_eq!(&*outside.network, "west");
    let identity = outside.identity.to_string();
    assert_eq!(identity, "spiffe://cluster.local/ns/infra/sa/y");
    let taken = status(&index, "Gateway infra/z").expect("a status");
    assert_eq!(
        conditions(&taken["conditions"])[0],
        "Accepted=False/Invalid"
    );
    let first = status(&index, "Gateway infra/y").expect("a status");
    assert_eq!(
        conditions(&first["conditions"])[0],
        "Accepted=True/Accepted"
    );
    assert_eq!(first["addresses"][0]["value"], "192.0.2.7");
    // Another class is none.
    let other = gateway("y", WEST, "").replace("ambit-east-west", "ambit-waypoint");
    apply(&mut index, &other);
    assert_eq!(way(&index, "p"), "infra/z.infra.svc.cluster.local");
    assert!(!index.workloads().any(|it| &*it.name == "y"));
    let free = status(&index, "Gateway infra/z").expect("a status");
    assert_eq!(conditions(&free["conditions"])[0], "Accepted=True/Accepted");
}

#[test]
fn a_gateway_that_leads_nowhere_says_why() {
    for (case, labels, more, why) in [
        (
            "no network",
            "a: b",
            "",
            "label topology.istio.io/network has to say which network the Gateway leads into",
        ),
        (
            "a name",
            WEST,
            ", addresses: [{type: Hostname, value: gw.example}]",
            "spec.addresses[0].value: \"gw.example\" is not an IP address",
        ),
    ] {
        let index = index(&(WORLD.to_owned() + &pod("p", "b", "") + &gateway("g", labels, more)));
        let told = status(&index, "Gateway infra/g").expect("a status");
        assert_eq!(
            conditions(&told["conditions"])[0],
            "Accepted=False/Invalid",
            "{case}"
        );
        assert_eq!(
            problems(&index, "Gateway infra/g"),
            [format!("{why}; it leads nowhere")],
            "{case}"
        );
        assert_eq!(way(&index, "p"), "nobody", "{case}");
    }
}
