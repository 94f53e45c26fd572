//! The cluster that is measured: a client on node-1, servers on node-2, waypoints on node-3; more clients on nodes of
//! their own where one process cannot hold all connections.

use std::path::Path;

use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "mesh";
/// The pod that runs `load`.
pub(crate) const CLIENT: &str = "mesh/client";
/// Nodes without those of more clients.
pub(crate) const NODES: usize = 3;
const PORT: u16 = 8080;

/// Pods that only hold connections.
pub(crate) fn more_clients(count: usize) -> Vec<String> {
    (1..=count).map(|at| format!("client-{at}")).collect()
}

/// A way from the client to a server of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Without a waypoint.
    Direct,
    /// Through ours.
    Ambit,
    /// Through an Envoy.
    Envoy,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ambit => "ambit",
            Self::Envoy => "envoy",
        }
    }

    /// The address of its server, as the client dials it.
    pub(crate) fn url(self, query: &str) -> String {
        format!("http://{}.{NAMESPACE}/?{query}", self.name())
    }
}

/// Everything but Envoy's pod.
pub(crate) fn objects(echo: &Path, ways: &[Way], more_clients: &[String]) -> String {
    let mut items = vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"istio.io/dataplane-mode": "ambient"}},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "ambit-waypoint", "namespace": NAMESPACE},
            "spec": {"gatewayClassName": "ambit-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
        }),
        route("ambit", "/"),
    ];
    items.extend(pod("client", "node-1", echo));
    for (at, client) in more_clients.iter().enumerate() {
        items.extend(pod(client, &format!("node-{}", NODES + at + 1), echo));
    }
    for way in ways {
        let name = way.name();
        items.extend(pod(&format!("server-{name}"), "node-2", echo));
        let waypoint = match way {
            Way::Direct => "none",
            Way::Ambit => "ambit-waypoint",
            Way::Envoy => "envoy-waypoint",
        };
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"istio.io/use-waypoint": waypoint}},
            "spec": {
                "selector": {"app": format!("server-{name}")},
                "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
            },
        }));
    }
    text(&items)
}

/// Envoy as the waypoint `envoy-waypoint`: `command` writes its certificate and runs it.
pub(crate) fn envoy(command: &str) -> String {
    let name = "envoy-waypoint";
    let labels = json!({
        "app": name,
        "istio.io/dataplane-mode": "none",
        "istio.io/use-waypoint": "none",
        "networking.istio.io/tunnel": "http",
        "gateway.networking.k8s.io/gateway-name": name,
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "nodeName": "node-3",
            "serviceAccountName": name,
            "containers": [{
                "name": "envoy",
                "command": ["sh", "-ec", command],
                "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 15021}, "periodSeconds": 1},
            }],
            // Where the lab's authority keeps its key.
            "volumes": [{"name": "ca", "hostPath": {"path": "/run/ambit-lab/mesh/ca"}}],
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {
            "gateway.networking.k8s.io/gateway-name": name,
            "istio.io/waypoint-for": "service",
        }},
        "spec": {"selector": {"app": name}, "ports": [{"name": "mesh", "port": 15008, "appProtocol": "all"}]},
    });
    text(&[account(name), pod, service])
}

/// Routes that no request follows and each is compared with: the waypoint is what limits who sends it requests.
pub(crate) fn costly_routes(count: usize) -> String {
    let routes: Vec<Value> = (0..count)
        .map(|at| {
            let mut route = route(&format!("costly-{at}"), "/");
            let host = format!("[a-z]+{at}.(x|y)+z");
            route["spec"]["rules"][0]["matches"] = json!([{
                "headers": [{"type": "RegularExpression", "name": "host", "value": host}],
            }]);
            route
        })
        .collect();
    text(&routes)
}

/// A route `NAME` of the service behind our waypoint, with a header of its own.
pub(crate) fn route(name: &str, prefix: &str) -> Value {
    route_with(name, prefix, name)
}

/// The same with this value of `x-route`.
pub(crate) fn route_with(name: &str, prefix: &str, value: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": Way::Ambit.name()}],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
                "filters": [{
                    "type": "RequestHeaderModifier",
                    "requestHeaderModifier": {"set": [{"name": "x-route", "value": value}]},
                }],
                "backendRefs": [{"name": Way::Ambit.name(), "port": 80}],
            }],
        },
    })
}

/// Objects as manifests; JSON is YAML too.
pub(crate) fn text(items: &[Value]) -> String {
    items.iter().map(|it| format!("---\n{it}\n")).collect()
}

fn account(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE},
    })
}

fn pod(name: &str, node: &str, echo: &Path) -> [Value; 2] {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "serviceAccountName": name,
            "containers": [{
                "name": "echo",
                "command": [echo, "--port", PORT.to_string()],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            }],
        },
    });
    [account(name), pod]
}
