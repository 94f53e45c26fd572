//! Labels and annotations the mesh reads, and selection by label.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// `ambient` puts a namespace's pods, or a pod, into the mesh; `none` keeps a pod out.
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// The waypoint of a namespace, service or pod; `none` for no waypoint.
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The namespace of that waypoint, when it is another one.
pub const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// A second waypoint of a service or of the services of a namespace, which takes a share of new connections.
pub const USE_WAYPOINT_CANARY: &str = "istio.io/use-waypoint-canary";
/// The namespace of that one, when it is another one.
pub const USE_WAYPOINT_CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// Annotation beside it: the share, an integer from 0 to 100; 0 when it is absent.
pub const USE_WAYPOINT_CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
/// `allowed` lets the waypoint of a service, or of all services of a namespace, be gone around: for
/// migration. Any other value does not.
pub const WAYPOINT_BYPASS: &str = "ambit.dev/waypoint-bypass";
/// What a waypoint serves: `service` (the default), `workload`, `all` or `none`.
pub const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// Gateways at the edge send through the waypoint as well, when `true`.
pub const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";
/// On the service and pods of a Gateway.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Annotation of a Gateway of another controller, or of its class: how the Gateway's instances are told of callers.
pub const INBOUND_BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";
/// `http`: the pod terminates HBONE itself, or the machine of a WorkloadEntry does.
pub const TUNNEL: &str = "networking.istio.io/tunnel";
/// `istio`: the pod has a sidecar that speaks its own mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Annotation of a pod: `enabled` while it is captured, so that callers use a tunnel; of a WorkloadEntry the same.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The network of a pod, of all pods of a node, or (on the root namespace) of all others; on a Gateway between networks, the one that it leads into.
pub const NETWORK: &str = "topology.istio.io/network";
/// Annotation of a service, the older form of `spec.trafficDistribution`.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Annotation of a policy: evaluated and reported, never enforced, when `true`.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// A label.
#[must_use]
pub fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    Some(metadata.labels.as_ref()?.get(name)?)
}

/// An annotation.
#[must_use]
pub fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    Some(metadata.annotations.as_ref()?.get(name)?)
}

/// What is wrong with a value of [`DATAPLANE_MODE`], if anything is.
#[must_use]
pub fn unknown_mode(value: Option<&str>) -> Option<String> {
    match value {
        None | Some("ambient" | "none") => None,
        Some(other) => Some(format!(
            "label {DATAPLANE_MODE} is {other:?}, which has no effect; write ambient or none"
        )),
    }
}

/// Whether a workload ends tunnels itself.
#[must_use]
pub fn is_native(metadata: &ObjectMeta) -> bool {
    label(metadata, TUNNEL) == Some("http")
}

/// Whether a proxy captures a workload, and ends its tunnels.
#[must_use]
pub fn is_captured(metadata: &ObjectMeta) -> bool {
    annotation(metadata, REDIRECTION) == Some("enabled")
}

/// Whether an object has all the labels of a selector. An empty selector selects everything;
/// callers for whom it selects nothing ask first.
#[must_use]
pub fn selects(selector: &BTreeMap<String, String>, metadata: &ObjectMeta) -> bool {
    selector
        .iter()
        .all(|(name, value)| label(metadata, name) == Some(value.as_str()))
}

/// Whether an object matches a selector of Kubernetes. An operator that is not known selects nothing.
#[must_use]
pub fn label_selector(selector: &LabelSelector, metadata: &ObjectMeta) -> bool {
    let labels = selector.match_labels.iter().flatten();
    let mut all = labels.map(|(name, value)| label(metadata, name) == Some(value.as_str()));
    let expressions = selector.match_expressions.iter().flatten();
    let mut each = expressions.map(|wanted| {
        let found = label(metadata, &wanted.key);
        let listed = || {
            let values = wanted.values.iter().flatten();
            found.is_some_and(|found| values.into_iter().any(|value| value == found))
        };
        match wanted.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    });
    all.all(|holds| holds) && each.all(|holds| holds)
}
