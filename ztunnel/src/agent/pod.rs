//! Pods, and whether one is in the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// On a namespace or a pod: `ambient` is in the mesh, `none` is not.
const MODE: &str = "istio.io/dataplane-mode";
/// On pods that have a sidecar proxy of their own.
pub(super) const SIDECAR: &str = "sidecar.istio.io/status";

/// On pods: whether their DNS is captured, whatever the agent does with others.
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
/// `enabled` on pods that are captured.
pub(super) const MARK: &str = "ambient.istio.io/redirection";

/// Kubernetes labels.
pub type Labels = BTreeMap<String, String>;

/// What the agent has to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    pub labels: Labels,
    /// It uses the node's network.
    pub host_network: bool,
    /// It has a sidecar.
    pub sidecar: bool,
    /// Its addresses, as far as the source says them.
    pub ips: Vec<IpAddr>,
    /// Its containers have ended for good.
    pub ended: bool,
    /// It is marked as captured.
    pub marked: bool,
    /// Whether its DNS is captured, if it says so itself.
    pub dns_capture: Option<bool>,
}

impl Pod {
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whether a pod is in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Enrol,
    /// It is not, and why.
    Leave(&'static str),
}

/// Decides by the labels of the pod and its namespace.
#[must_use]
pub fn decide(pod: &Pod, namespace: &Labels) -> Decision {
    let mode = |labels: &Labels| labels.get(MODE).cloned();
    if pod.host_network {
        return Decision::Leave("it uses the node's network");
    }
    if pod.sidecar {
        return Decision::Leave("it has a sidecar");
    }
    if pod.ended {
        return Decision::Leave("it has ended");
    }
    match (mode(&pod.labels).as_deref(), mode(namespace).as_deref()) {
        (Some("none"), _) => Decision::Leave("its label istio.io/dataplane-mode is none"),
        (Some("ambient"), _) | (_, Some("ambient")) => Decision::Enrol,
        _ => Decision::Leave(
            "neither it nor its namespace is labelled istio.io/dataplane-mode=ambient",
        ),
    }
}

/// Whether the DNS of a pod with these annotations is captured, if they say so.
pub(super) fn dns_capture(annotations: &BTreeMap<String, String>) -> Option<bool> {
    annotations
        .get(DNS_CAPTURE)?
        .to_ascii_lowercase()
        .parse()
        .ok()
}

/// A Kubernetes object, of which only what is used here is read.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    service_account_name: Option<String>,
    #[serde(default)]
    host_network: Option<bool>,
}

impl Object {
    pub(super) fn into_pod(self) -> Pod {
        let annotations = self.metadata.annotations.unwrap_or_default();
        Pod {
            uid: self.metadata.uid.unwrap_or_default(),
            namespace: self.metadata.namespace.unwrap_or_else(default),
            name: self.metadata.name,
            service_account: self
                .spec
                .service_account_name
                .filter(|name| !name.is_empty())
                .unwrap_or_else(default),
            labels: self.metadata.labels.unwrap_or_default(),
            host_network: self.spec.host_network.unwrap_or_default(),
            sidecar: annotations.contains_key(SIDECAR),
            dns_capture: dns_capture(&annotations),
            ..Pod::default()
        }
    }

    pub(super) fn into_namespace(self) -> (String, Labels) {
        (self.metadata.name, self.metadata.labels.unwrap_or_default())
    }
}

fn default() -> String {
    "default".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(mode: Option<&str>) -> Labels {
        mode.map(|mode| (MODE.into(), mode.into()))
            .into_iter()
            .collect()
    }

    #[test]
    fn labels_decide() {
        let (ambient, none) = (Some("ambient"), Some("none"));
        let cases = [
            ("namespace in", None, ambient, true),
            ("nobody said anything", None, None, false),
            ("pod in", ambient, None, true),
            ("pod out", none, ambient, false),
            ("namespace out, pod in", ambient, none, true),
            ("namespace out", None, none, false),
            ("an unknown word is nothing", Some("sidecar"), ambient, true),
        ];
        for (name, pod, namespace, enrolled) in cases {
            let pod = Pod {
                labels: labels(pod),
                ..Pod::default()
            };
            let decision = decide(&pod, &labels(namespace));
            assert_eq!(
                decision == Decision::Enrol,
                enrolled,
                "{name}: {decision:?}"
            );
        }
        for (host_network, sidecar, ended) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            let pod = Pod {
                host_network,
                sidecar,
                ended,
                labels: labels(ambient),
                ..Pod::default()
            };
            assert!(matches!(decide(&pod, &labels(ambient)), Decision::Leave(_)));
        }
    }

    #[test]
    fn an_annotation_decides_about_dns() {
        for (value, expected) in [
            (None, None),
            (Some("false"), Some(false)),
            (Some("False"), Some(false)),
            (Some("true"), Some(true)),
            (Some(""), None),
        ] {
            let annotations = value.map(|value| (DNS_CAPTURE.to_owned(), value.to_owned()));
            let annotations = annotations.into_iter().collect();
            assert_eq!(dns_capture(&annotations), expected, "{value:?}");
        }
    }

    #[test]
    fn objects_are_read_with_kubernetes_defaults() {
        let read = |json: &str| serde_json::from_str::<Object>(json).expect("an object");
        let bare = read(r#"{"metadata": {"name": "a"}}"#).into_pod();
        assert_eq!(
            (bare.namespace, bare.service_account),
            ("default".into(), "default".into())
        );
        let full = read(
            r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b", "uid": "u",
                "labels": {"app": "a"}, "annotations": {"sidecar.istio.io/status": "{}",
                "ambient.istio.io/dns-capture": "false"}},
                "spec": {"serviceAccountName": "s", "hostNetwork": true, "containers": []}, "status": {}}"#,
        );
        let expected = Pod {
            uid: "u".into(),
            namespace: "b".into(),
            name: "a".into(),
            service_account: "s".into(),
            labels: [("app".into(), "a".into())].into(),
            host_network: true,
            sidecar: true,
            dns_capture: Some(false),
            ..Pod::default()
        };
        assert_eq!(full.into_pod(), expected);
    }
}
