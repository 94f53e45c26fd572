//! Who a proxy says it is when it subscribes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_proto::xds;
use prost_types::{Struct, Value, value::Kind};

/// A proxy as the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    id: String,
    metadata: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl Node {
    /// The proxy `role` (`ztunnel`, `waypoint`) that runs as `pod` of `namespace`, reachable at
    /// `instance_ip`, on the Kubernetes node `node_name`.
    #[must_use]
    pub fn new(
        role: &str,
        instance_ip: IpAddr,
        pod: &str,
        namespace: &str,
        node_name: &str,
    ) -> Self {
        let entry = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            id: format!("{role}~{instance_ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
            metadata: BTreeMap::from([
                entry("NAME", pod),
                entry("NAMESPACE", namespace),
                entry("INSTANCE_IPS", &instance_ip.to_string()),
                entry("NODE_NAME", node_name),
            ]),
            labels: BTreeMap::new(),
        }
    }

    /// Adds a label of its pod.
    #[must_use]
    pub fn with_label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds every `ISTIO_META_*` variable of an environment under the name behind the prefix.
    #[must_use]
    pub fn with_environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: Into<String>,
    {
        for (key, value) in variables {
            if let Some(name) = key
                .as_ref()
                .strip_prefix("ISTIO_META_")
                .filter(|n| !n.is_empty())
            {
                self.metadata.insert(name.to_owned(), value.into());
            }
        }
        self
    }

    /// The node id, which the control plane shows as the name of the proxy.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The message of the first request on a stream.
    pub(super) fn to_proto(&self) -> xds::Node {
        let text = |value: &String| Value {
            kind: Some(Kind::StringValue(value.clone())),
        };
        let fields = |texts: &BTreeMap<String, String>| Struct {
            fields: texts
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        };
        let mut metadata = fields(&self.metadata);
        if !self.labels.is_empty() {
            let labels = Value {
                kind: Some(Kind::StructValue(fields(&self.labels))),
            };
            metadata.fields.insert("LABELS".to_owned(), labels);
        }
        xds::Node {
            id: self.id.clone(),
            metadata: Some(metadata),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_control_plane_expects() {
        let node = Node::new(
            "ztunnel",
            [10, 0, 0, 7].into(),
            "ztunnel-x",
            "ambit-system",
            "node-1",
        )
        .with_environment([
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("ISTIO_META_", "no name"),
            ("PATH", "/bin"),
        ])
        .with_label("app", "z");
        assert_eq!(
            node.id(),
            "ztunnel~10.0.0.7~ztunnel-x.ambit-system~ambit-system.svc.cluster.local"
        );
        let metadata = node.to_proto().metadata.expect("present").fields;
        let shown: Vec<_> = metadata
            .iter()
            .map(|(k, v)| (k.as_str(), v.kind.clone()))
            .collect();
        let text = |t: &str| Some(Kind::StringValue(t.to_owned()));
        let label = Value { kind: text("z") };
        let labels = Struct {
            fields: BTreeMap::from([("app".to_owned(), label)]),
        };
        assert_eq!(
            shown,
            [
                ("CLUSTER_ID", text("Kubernetes")),
                ("INSTANCE_IPS", text("10.0.0.7")),
                ("LABELS", Some(Kind::StructValue(labels))),
                ("NAME", text("ztunnel-x")),
                ("NAMESPACE", text("ambit-system")),
                ("NODE_NAME", text("node-1")),
            ]
        );
    }
}
