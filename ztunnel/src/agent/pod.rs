//! Pods, and whether one is in the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_core::exclusions::Exclusions;
use ambit_core::udp;
use k8s_openapi::api::core::v1 as core;

/// On a namespace or a pod: `ambient` is in the mesh, `none` is not.
const MODE: &str = "istio.io/dataplane-mode";
/// On pods that have a sidecar proxy of their own.
const SIDECAR: &str = "sidecar.istio.io/status";
/// A namespace or service account that is not said.
const DEFAULT: &str = "default";

/// On pods: whether their DNS is captured, whatever the agent does with others.
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
/// How pods are marked: the annotation of a [`Mark`].
pub const MARK: &str = "ambient.istio.io/redirection";

/// Kubernetes labels.
pub type Labels = BTreeMap<String, String>;

/// Whether a pod is captured, as everybody sees it. Callers in the mesh use a tunnel if it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mark {
    /// It is not.
    #[default]
    None,
    /// It still is, and leaves.
    Pending,
    /// It is.
    Enabled,
}

impl Mark {
    /// The annotation's value; there is none on a pod that is not captured.
    #[must_use]
    pub fn value(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Pending => Some("pending"),
            Self::Enabled => Some("enabled"),
        }
    }

    fn of(annotation: Option<&String>) -> Self {
        match annotation.map(String::as_str) {
            Some("enabled") => Self::Enabled,
            Some("pending") => Self::Pending,
            _ => Self::None,
        }
    }
}

/// What the agent has to know of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
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
    /// How it is marked.
    pub mark: Mark,
    /// Whether its DNS is captured, if it says so itself.
    pub dns_capture: Option<bool>,
    /// What it says is to be left alone; nothing when that does not read.
    pub exclusions: Exclusions,
    /// Whether its UDP is captured; not when what it says of that does not read.
    pub udp: bool,
    /// Why something of this does not read, for a person.
    pub unread: Option<String>,
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name);
        let text = |name: &str| annotation(name).map(String::as_str);
        let (exclusions, unread) = match Exclusions::read(text) {
            Ok(exclusions) => (exclusions, None),
            Err(error) => (Exclusions::default(), Some(error.to_string())),
        };
        let (udp, unread) = match udp::is_enabled(text(udp::UDP)) {
            Ok(udp) => (udp, unread),
            Err(error) => (false, unread.or(Some(error.to_string()))),
        };
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let phase = status.and_then(|status| status.phase.as_deref());
        let ips = status.and_then(|status| status.pod_ips.as_ref());
        let ips = ips.into_iter().flatten();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace: metadata.namespace.as_deref().unwrap_or(DEFAULT).to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
            service_account: account
                .filter(|name| !name.is_empty())
                .unwrap_or(DEFAULT)
                .to_owned(),
            labels: metadata.labels.clone().unwrap_or_default(),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
            sidecar: annotation(SIDECAR).is_some(),
            ips: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            mark: Mark::of(annotation(MARK)),
            dns_capture: dns_capture(annotation(DNS_CAPTURE)),
            exclusions,
            udp,
            unread,
        }
    }
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

/// Whether the DNS of a pod with this annotation is captured, if it says so.
fn dns_capture(annotation: Option<&String>) -> Option<bool> {
    annotation?.to_ascii_lowercase().parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            let annotation = value.map(str::to_owned);
            assert_eq!(dns_capture(annotation.as_ref()), expected, "{value:?}");
        }
    }

    #[test]
    fn pods_are_read_as_they_are() {
        let read = |value| Pod::from(&serde_json::from_value(value).expect("a pod"));
        let object = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"a": "b"},
                "annotations": {"ambient.istio.io/redirection": "enabled", "sidecar.istio.io/status": "{}",
                    "ambient.istio.io/dns-capture": "false",
                    "ambit.dev/exclude-inbound-ports": "9090", "ambit.dev/udp": "enabled"}},
            "spec": {"serviceAccountName": "s", "hostNetwork": true, "containers": []},
            "status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
        let named = Pod {
            uid: "u".to_owned(),
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            ..Pod::default()
        };
        let expected = Pod {
            service_account: "s".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            host_network: true,
            sidecar: true,
            ips: ["10.0.0.1", "fd00::1"]
                .map(|ip| ip.parse().expect("an address"))
                .to_vec(),
            ended: true,
            mark: Mark::Enabled,
            dns_capture: Some(false),
            exclusions: Exclusions {
                inbound_ports: [9090].into(),
                ..Exclusions::default()
            },
            udp: true,
            ..named.clone()
        };
        assert_eq!(read(object), expected);
        let bare = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}});
        let expected = Pod {
            service_account: "default".to_owned(),
            ..named
        };
        assert_eq!(read(bare), expected);
        let bad = read(json!({"metadata": {"name": "web", "annotations": {
            "ambit.dev/exclude-inbound-ports": "9090",
            "ambit.dev/exclude-outbound-ports": "http"}}}));
        assert_eq!(bad.exclusions, Exclusions::default(), "not half of it");
        let why = bad.unread.expect("a word on it");
        assert!(why.contains("exclude-outbound-ports=\"http\": "), "{why}");
        let bad = read(json!({"metadata": {"name": "web", "annotations": {
            "ambit.dev/exclude-inbound-ports": "9090", "ambit.dev/udp": "on"}}}));
        assert!(!bad.udp && bad.exclusions.inbound_ports.contains(&9090));
        let why = bad.unread.expect("a word on it");
        assert!(why.contains("ambit.dev/udp=\"on\": "), "{why}");
        let nowhere = read(json!({"metadata": {"name": "web"}}));
        assert_eq!(nowhere.namespace, "default");
    }

    #[test]
    fn marks_are_annotations() {
        for mark in [Mark::None, Mark::Pending, Mark::Enabled] {
            let annotation = mark.value().map(str::to_owned);
            assert_eq!(Mark::of(annotation.as_ref()), mark);
        }
        assert_eq!(Mark::of(Some(&"other".to_owned())), Mark::None);
    }
}
