//! Labs and manifests that several tests use.

use std::sync::OnceLock;

use ambit_lab::harness::{Lab, Options};
use serde_json::Value;

/// The label by which a namespace is in the mesh.
pub(crate) const AMBIENT: &str = "istio.io/dataplane-mode: ambient";

/// Two nodes without the mesh, with one echo server and one client on each. Read only.
pub(crate) fn plain() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        Lab::start(&Options {
            manifests: shop(),
            ..Options::default()
        })
    })
}

/// The namespace `shop`: `client-1` and `client-2` on their nodes, `echo-1` and `echo-2` likewise,
/// behind the services `echo` (both), `echo-1`, `echo-2`, `none` (no endpoint).
pub(crate) fn shop() -> String {
    let mut all = namespace("shop", "");
    for number in [1, 2] {
        let node = format!("node-{number}");
        all += &echo("shop", &format!("echo-{number}"), &node);
        all += &client("shop", &format!("client-{number}"), &node);
        all += &service(
            "shop",
            &format!("echo-{number}"),
            &format!("name: echo-{number}"),
        );
    }
    all += &service("shop", "echo", "app: echo");
    all += &service("shop", "none", "app: nobody");
    all
}

/// The same, in the mesh.
pub(crate) fn ambient_shop() -> String {
    shop().replace("labels: {}", &format!("labels: {{{AMBIENT}}}"))
}

pub(crate) fn namespace(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
    )
}

/// An echo server on port 8080 with a service account of its own.
pub(crate) fn echo(namespace: &str, name: &str, node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{app: echo, name: {name}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: {node}\n  terminationGracePeriodSeconds: 2\n  \
         containers:\n  - name: echo\n    image: ambit/echo\n    ports: [{{name: web, containerPort: 8080}}]\n    \
         readinessProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1}}\n"
    )
}

/// One more server on node-2, which is asked for by its name.
pub(crate) fn neighbour() -> String {
    echo("shop", "neighbour", "node-2") + &service("shop", "neighbour", "name: neighbour")
}

/// A pod that waits for commands, with a service account of its own.
pub(crate) fn client(namespace: &str, name: &str, node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{app: client}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: {node}\n  terminationGracePeriodSeconds: 2\n  \
         containers: [{{name: client, command: [sleep, infinity]}}]\n"
    )
}

/// A service of port 80 for the named port `web`, with addresses of both families.
pub(crate) fn service(namespace: &str, name: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{ipFamilyPolicy: PreferDualStack, selector: {{{selector}}}, \
         ports: [{{name: http, port: 80, targetPort: web}}]}}\n"
    )
}

/// A pod's addresses, IPv4 first.
pub(crate) fn addresses(lab: &Lab, pod: &str) -> [String; 2] {
    let pod = lab.object("pod", pod);
    [0, 1].map(|index| text(&pod["status"]["podIPs"][index]["ip"]))
}

/// The addresses of a service that has both, IPv4 first.
pub(crate) fn cluster_ips(lab: &Lab, service: &str) -> [String; 2] {
    let service = lab.object("service", service);
    [0, 1].map(|index| text(&service["spec"]["clusterIPs"][index]))
}

/// A string of an answer.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// An address as a URL has it.
pub(crate) fn host(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
