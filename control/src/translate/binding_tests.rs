//! Who is told of callers by the PROXY protocol, and who may be bound to them.

use std::sync::Arc;

use ambit_core::model::{Destination, Workload};

use crate::index::Index;
use crate::translate::testing::{apply, index, notices, status};

const BOUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: w}}
spec: {clusterIPs: [10.96.0.1], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: w, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: w}}
spec: {clusterIPs: [10.96.0.2], ports: [{port: 15088}]}
---
apiVersion: v1
kind: Pod
metadata: {name: w-1, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: w}}
status: {phase: Running, podIPs: [{ip: 10.9.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop}
status: {phase: Running, podIPs: [{ip: 10.9.0.2}]}
---
";

fn annotations(said: Option<&str>) -> String {
    let line =
        |said| format!("annotations: {{ambient.istio.io/waypoint-inbound-binding: {said:?}}}");
    said.map(line).unwrap_or_default()
}

fn class(name: &str, said: Option<&str>) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata:\n  name: {name}\n  {}\n\
         spec: {{controllerName: example.com/other}}\n---\n",
        annotations(said)
    )
}

fn gateway(class: &str, said: Option<&str>) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: w\n  namespace: shop\n  {}\n\
         spec: {{gatewayClassName: {class}, listeners: [{{name: proxy, port: 15088, protocol: PROXY}}]}}\n---\n",
        annotations(said)
    )
}

fn pod(index: &Index, name: &str) -> Arc<Workload> {
    let found = index.workloads().find(|it| &*it.name == name);
    found.expect("a workload").clone()
}

/// The port of an instance's tunnel, and whether a Service may be bound to it.
fn found(index: &Index) -> (Option<Option<u16>>, bool) {
    let other = pod(index, "other").application_tunnel;
    assert_eq!(other, None, "it is no instance");
    let mut services = index.services();
    let web = services.find(|it| &*it.name == "web").expect("the service");
    let way = web.waypoint.as_ref().map(|it| &it.destination);
    let Some(Destination::Hostname(key)) = way else {
        panic!("{way:?}");
    };
    let tunnel = pod(index, "w-1").application_tunnel;
    (
        tunnel.map(|tunnel| tunnel.port),
        &*key.name == "w.shop.svc.cluster.local",
    )
}

#[test]
fn a_gateway_or_its_class_says_how_its_instances_are_told_of_callers() {
    let none = (None, false);
    let at = |port| (Some(Some(port)), true);
    let cases = [
        ("nobody says anything", "other", None, None, none),
        ("the class", "other", Some("PROXY/15088"), None, at(15088)),
        ("the Gateway", "other", None, Some("PROXY/15088"), at(15088)),
        (
            "both",
            "other",
            Some("PROXY/15088"),
            Some("PROXY/15089"),
            at(15089),
        ),
        ("no port", "other", Some("PROXY"), None, (Some(None), true)),
        ("none of it", "other", Some("NONE"), None, none),
        (
            "not this one",
            "other",
            Some("PROXY/15088"),
            Some("NONE"),
            none,
        ),
        ("another protocol", "other", Some("HBONE/15008"), None, none),
        ("no number", "other", Some("PROXY/http"), None, none),
        ("too large", "other", Some("PROXY/70000"), None, none),
        ("nobody's port", "other", Some("PROXY/0"), None, none),
        ("the proxy's port", "other", Some("PROXY/15008"), None, none),
        ("three parts", "other", Some("PROXY/1/2"), None, none),
        (
            "a waypoint of ours",
            "ambit-waypoint",
            Some("PROXY/15088"),
            Some("PROXY/15088"),
            (None, true),
        ),
    ];
    for (case, name, of_class, of_gateway, expected) in cases {
        let text = BOUND.to_owned() + &class(name, of_class) + &gateway(name, of_gateway);
        assert_eq!(found(&index(&text)), expected, "{case}");
    }
}

#[test]
fn what_changes_is_in_force_and_what_has_no_effect_is_said() {
    let without_class = index(&(BOUND.to_owned() + &gateway("other", Some("PROXY"))));
    assert_eq!(found(&without_class), (Some(None), true));
    assert_eq!(notices(&without_class, "Gateway shop/w"), [""; 0]);
    let mut index = index(&(BOUND.to_owned() + &gateway("other", None)));
    assert_eq!(found(&index), (None, false));
    apply(&mut index, &class("other", Some("PROXY/15088")));
    assert_eq!(found(&index), (Some(Some(15088)), true));
    let conditions = |index: &Index| {
        let status = status(index, "Service shop/web").expect("a status");
        status["conditions"][0]["reason"].clone()
    };
    assert_eq!(conditions(&index), "WaypointAccepted");
    assert_eq!(notices(&index, "Gateway shop/w"), [""; 0]);
    apply(&mut index, &class("other", Some("PROXY/x")));
    assert_eq!(found(&index), (None, false));
    assert_eq!(conditions(&index), "WaypointNotAllowed");
    let said = notices(&index, "Gateway shop/w").join("|");
    let expected = "annotation ambient.istio.io/waypoint-inbound-binding is \"PROXY/x\", which has no effect: what follows the protocol is no port";
    assert!(said.starts_with(expected), "{said}");
}
