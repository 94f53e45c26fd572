//! The lab that tests of waypoints share the shape of.

use ambit_lab::harness::Lab;

use crate::fixtures::{client, namespace};
use crate::flows::start;

/// A client of the namespace of the services, on another node than most servers.
pub(super) const CLIENT: &str = "mesh/client";
/// Its neighbour, with another identity.
pub(super) const OTHER: &str = "mesh/other";
/// A client of another namespace of the mesh.
pub(super) const CONSUMER: &str = "consumer/client";
/// Not enrolled.
pub(super) const STRANGER: &str = "outside/client";

/// The shared port of `v2`, which the waypoint relays without a look at what it carries.
pub(super) const OPAQUE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: opaque, namespace: mesh}\n\
     spec: {ipFamilyPolicy: PreferDualStack, selector: {version: v2}, ports: [{name: tcp, port: 9000, targetPort: web}]}\n";

/// Servers `v1`, `v2`, `v3` of namespace `mesh` behind services of their names and behind `echo`
/// (v1 and v2), all bound to a waypoint; `other` of namespace `elsewhere`; and the clients.
pub(super) fn lab() -> Lab {
    start(manifests(), &[])
}

pub(super) fn manifests() -> String {
    let ambient = "istio.io/dataplane-mode: ambient";
    let bound = format!("{ambient}, istio.io/use-waypoint: waypoint");
    let mut all = namespace("mesh", &bound);
    all += &namespace("consumer", ambient);
    all += &namespace("elsewhere", ambient);
    all += &namespace("outside", "");
    all += &namespace("istio-system", "");
    all += &gateway("mesh", "waypoint", "");
    for (name, node) in [("v1", "node-1"), ("v2", "node-2"), ("v3", "node-2")] {
        all += &server("mesh", name, node);
        all += &service("mesh", name, &format!("version: {name}"));
    }
    all += &service("mesh", "echo", "app: echo, group: both");
    all += &server("elsewhere", "other", "node-1");
    all += &service("elsewhere", "other", "version: other");
    for (pod, node) in [
        (CLIENT, "node-1"),
        (OTHER, "node-2"),
        (CONSUMER, "node-2"),
        (STRANGER, "node-1"),
    ] {
        let (namespace, name) = pod.split_once('/').expect("a namespace and a name");
        all += &client(namespace, name, node);
    }
    all
}

/// A waypoint.
pub(super) fn gateway(namespace: &str, name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
         spec: {{gatewayClassName: ambit-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
    )
}

/// An echo server with a service account of its own; `v1` and `v2` are of the group `both`.
pub(super) fn server(namespace: &str, name: &str, node: &str) -> String {
    let group = if ["v1", "v2"].contains(&name) {
        "both"
    } else {
        name
    };
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{app: echo, version: {name}, group: {group}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: {node}\n  terminationGracePeriodSeconds: 2\n  \
         containers:\n  - name: echo\n    image: ambit/echo\n    args: [\"--port=8080\", \"--port=echo=9090\"]\n    \
         env: [{{name: POD_NAMESPACE, valueFrom: {{fieldRef: {{fieldPath: metadata.namespace}}}}}}]\n    \
         ports: [{{name: web, containerPort: 8080}}, {{name: raw, containerPort: 9090}}]\n    \
         readinessProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1}}\n"
    )
}

/// A pod on node-2, with the label `app: NAME`, that is ready once it listens; `container` is what it runs.
pub(super) fn program_pod(namespace: &str, name: &str, port: u16, container: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
         spec:\n  nodeName: node-2\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: {name}\n    {container}\n    \
         readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}\n"
    )
}

/// A service with addresses of both families, with HTTP on 80 and 8080, gRPC on 7070, h2c on 8081, WebSocket on 8082, raw TCP on 9090 and
/// (by its name) TLS on 9443.
pub(super) fn service(namespace: &str, name: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  ipFamilyPolicy: PreferDualStack\n  selector: {{{selector}}}\n  ports:\n  \
         - {{name: http, port: 80, targetPort: web}}\n  \
         - {{name: http-alt, port: 8080, targetPort: web, appProtocol: http}}\n  \
         - {{name: grpc, port: 7070, targetPort: web}}\n  \
         - {{name: clear, port: 8081, targetPort: web, appProtocol: kubernetes.io/h2c}}\n  \
         - {{name: socket, port: 8082, targetPort: web, appProtocol: kubernetes.io/ws}}\n  \
         - {{name: tcp, port: 9090, targetPort: raw}}\n  \
         - {{name: tls, port: 9443, targetPort: raw}}\n"
    )
}

/// A route of `kind` (HTTPRoute and the like) in `namespace`, for a service of namespace `mesh`.
pub(super) fn route(kind: &str, namespace: &str, name: &str, parent: &str, rules: &str) -> String {
    let version = match kind {
        "HTTPRoute" | "GRPCRoute" => "v1",
        _ => "v1alpha2",
    };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, namespace: mesh, {parent}}}]\n  \
         rules:\n{}\n",
        indented(rules)
    )
}

/// An HTTPRoute of namespace `mesh` for all ports of a service.
pub(super) fn http_route(name: &str, service: &str, rules: &str) -> String {
    route(
        "HTTPRoute",
        "mesh",
        name,
        &format!("name: {service}"),
        rules,
    )
}

fn indented(rules: &str) -> String {
    rules
        .lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
