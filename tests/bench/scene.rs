//! The cluster that is measured: two namespaces, one of them in the mesh, each with a client and a server on its node and
//! a server on the other node.

use std::path::Path;

use serde_json::{Value, json};

/// The namespace outside the mesh.
pub(crate) const PLAIN: &str = "plain";
/// The namespace in the mesh.
pub(crate) const MESH: &str = "mesh";
/// The pod that runs `load`.
pub(crate) const CLIENT: &str = "client";
/// The server on the client's node.
pub(crate) const NEAR: &str = "near";
/// The server on the other node.
pub(crate) const FAR: &str = "far";
/// Where the servers listen.
pub(crate) const PORT: u16 = 8080;

/// The objects; JSON is YAML too.
pub(crate) fn objects(echo: &Path) -> Value {
    let mut items = Vec::new();
    for (namespace, mode) in [(PLAIN, "none"), (MESH, "ambient")] {
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "istio.io/dataplane-mode": mode } },
        }));
        for (pod, node) in [(CLIENT, "node-1"), (NEAR, "node-1"), (FAR, "node-2")] {
            items.push(json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": { "name": pod, "namespace": namespace },
            }));
            items.push(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": pod, "namespace": namespace, "labels": { "app": pod }, "annotations": { "ambit.dev/udp": "enabled" } },
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": pod,
                    "containers": [{
                        "name": "echo",
                        "image": "echo",
                        "command": [echo, "--port", PORT.to_string()],
                        "ports": [{ "containerPort": PORT }],
                        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
                    }],
                },
            }));
        }
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}
