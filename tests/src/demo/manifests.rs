//! What the demonstration applies.

/// The labelled namespace.
pub(super) const NAMESPACE: &str = "shop";
/// The client, on node-1.
pub(super) const FRONTEND: &str = "frontend";
/// The server, on node-2.
pub(super) const BACKEND: &str = "backend";
/// Another client, on node-1.
pub(super) const STRANGER: &str = "stranger";
/// A server that fails.
pub(super) const FAILING: &str = "checkout-4";

const WAIT: &str = "command: [sleep, infinity]";
const READY: &str = "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}";

/// The namespace and everything in it.
pub(super) fn shop() -> String {
    let mut all = namespace("");
    all += &service(BACKEND, &format!("app: {BACKEND}"));
    all += &pod(FRONTEND, "node-1", "", WAIT);
    all += &pod(STRANGER, "node-1", "", WAIT);
    all += &pod(
        BACKEND,
        "node-2",
        "",
        &format!("image: ambit/echo, {READY}"),
    );
    all
}

/// A waypoint for the namespace, and what it is for: a service `store` of two versions, and a service
/// `checkout` one of whose four pods fails.
pub(super) fn waypoint() -> String {
    let mut all = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: waypoint, namespace: {NAMESPACE}}}\n\
         spec:\n  gatewayClassName: ambit-waypoint\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n"
    );
    all += &namespace(", istio.io/use-waypoint: waypoint");
    for (name, selector) in [
        ("store", "app: store"),
        ("store-v1", "version: v1"),
        ("store-v2", "version: v2"),
        ("checkout", "app: checkout"),
    ] {
        all += &service(name, selector);
    }
    let well = format!("image: ambit/echo, {READY}");
    let ill = format!("image: ambit/echo, args: [--status=503], {READY}");
    for (name, node, labels, container) in [
        ("store-v1", "node-1", "app: store, version: v1", &well),
        ("store-v2", "node-2", "app: store, version: v2", &well),
        ("checkout-1", "node-1", "app: checkout", &well),
        ("checkout-2", "node-2", "app: checkout", &well),
        ("checkout-3", "node-2", "app: checkout", &well),
        (FAILING, "node-1", "app: checkout", &ill),
    ] {
        all += &pod(name, node, labels, container);
    }
    all
}

fn namespace(labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\n\
         metadata: {{name: {NAMESPACE}, labels: {{istio.io/dataplane-mode: ambient{labels}}}}}\n"
    )
}

fn service(name: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec: {{selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    )
}

fn pod(name: &str, node: &str, labels: &str, container: &str) -> String {
    let labels = match labels {
        "" => format!("app: {name}"),
        labels => labels.to_owned(),
    };
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{{labels}}}}}\n\
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

/// The only route of a service. Its rules are shown as they stand.
pub(super) fn route(service: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {service}, namespace: {NAMESPACE}}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  rules:\n{rules}\n"
    )
}

/// A policy of the waypoint for a service. Its rules are shown as they stand.
pub(super) fn allow(service: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {service}, namespace: {NAMESPACE}}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  action: ALLOW\n  rules:\n{rules}\n"
    )
}
