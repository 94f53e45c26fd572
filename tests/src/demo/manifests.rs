//! What the demonstration applies.

/// The labelled namespace.
pub(super) const NAMESPACE: &str = "shop";
/// The client, on node-1.
pub(super) const FRONTEND: &str = "frontend";
/// The server, on node-2.
pub(super) const BACKEND: &str = "backend";
/// Another client, on node-1.
pub(super) const STRANGER: &str = "stranger";

/// The namespace and everything in it.
pub(super) fn shop() -> String {
    let mut all = format!(
        "---\napiVersion: v1\nkind: Namespace\n\
         metadata: {{name: {NAMESPACE}, labels: {{istio.io/dataplane-mode: ambient}}}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {BACKEND}, namespace: {NAMESPACE}}}\n\
         spec: {{selector: {{app: {BACKEND}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    );
    let wait = "command: [sleep, infinity]";
    all += &pod(FRONTEND, "node-1", wait);
    all += &pod(STRANGER, "node-1", wait);
    all += &pod(
        BACKEND,
        "node-2",
        "image: ambit/echo, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}",
    );
    all
}

fn pod(name: &str, node: &str, container: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {name}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  \
         containers: [{{name: main, {container}}}]\n"
    )
}

/// A policy that lets only one service account of the namespace call the backend.
pub(super) fn only(account: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: callers, namespace: {NAMESPACE}}}\n\
         spec:\n  selector: {{matchLabels: {{app: {BACKEND}}}}}\n  action: ALLOW\n  \
         rules: [{{from: [{{source: {{principals: [cluster.local/ns/{NAMESPACE}/sa/{account}]}}}}]}}]\n"
    )
}
