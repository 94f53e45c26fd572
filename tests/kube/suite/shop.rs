//! A mesh with a shop in it that is asked all the time: servers, a client on every node, and a waypoint.

use ambit_lab::harness::eventually;

use crate::installed::{Cluster, MANIFESTS, SYSTEM};
use crate::plane::PATIENCE;
use crate::pods::CLIENT;
use crate::traces::SHOP;
use crate::traffic::Flow;

const SHORT_GRACE: &str = r#"{"spec": {"template": {"spec": {
    "terminationGracePeriodSeconds": 15,
    "containers": [{"name": "ztunnel", "env": [{"name": "TERMINATION_GRACE_PERIOD_SECONDS", "value": "15"}]}]
}}}}"#;

/// A server on one node, behind a Service of its name.
fn server(name: &str, node: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec:\n      nodeSelector: {{kubernetes.io/hostname: {node}}}\n      containers:\n      \
         - {{name: echo, image: ambit/echo, readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

/// A Service that is reached through a waypoint.
const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: bound, labels: {istio.io/use-waypoint: waypoint}}
spec: {selector: {app: near}, ports: [{port: 80, targetPort: 8080}]}
";

/// Installs the mesh and the shop on a cluster that has neither, with these servers by name and node, `near` among
/// them. Gives the client on the first node, once it reaches what it will ask.
pub(crate) fn open(cluster: &Cluster, servers: &[(&str, &str)]) -> String {
    cluster.kubectl(&["apply", "-k", MANIFESTS]);
    // Nothing here takes as long as proxies are given to end, one node after the other.
    cluster.kubectl(&["patch", "-n", SYSTEM, "ds/ztunnel", "-p", SHORT_GRACE]);
    cluster.await_mesh();
    cluster.plane.apply(SHOP);
    let deployments: String = servers
        .iter()
        .map(|(name, node)| server(name, node))
        .collect();
    let programs = [CLIENT, &deployments, "---", WAYPOINT];
    cluster.apply("shop", &programs.concat());
    cluster.plane.rolled_out("shop", "ds/client");
    for (name, _) in servers {
        cluster.plane.rolled_out("shop", &format!("deploy/{name}"));
    }
    cluster
        .plane
        .condition("shop", "gateway/waypoint", "Programmed");
    let client = cluster.pod_on("shop", "app=client", "node-1");
    for flow in flows(&client) {
        eventually(flow.url, PATIENCE, || {
            (cluster.get(&client, flow.url).code == 0).then_some(())
        });
    }
    client
}

/// What the client asks: a Service directly, and one behind the waypoint.
pub(crate) fn flows(client: &str) -> [Flow<'_>; 2] {
    ["http://near.shop/", "http://bound.shop/"].map(|url| Flow { client, url })
}
