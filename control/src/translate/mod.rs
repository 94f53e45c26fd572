//! Objects to resources. Pure: the same objects give the same resources, whatever came before.

pub mod authentication;
pub mod authorization;
pub mod authorizer;
pub mod binding;
pub mod canary;
pub mod entry;
pub mod extension;
pub mod gateway;
pub mod labels;
pub mod network;
pub mod peer;
pub mod policy;
pub mod ports;
pub mod reference;
pub mod route;
pub mod service;
pub mod slice;
pub mod status;
pub mod strangers;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod traffic;
pub mod unselected;
pub mod values;
pub mod view;
pub mod waypoint;
pub mod workload;

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::index::DEFAULT_ROOT_NAMESPACE;
use ambit_core::model;
use ambit_core::trust_domain::TrustDomains;
use serde::Serialize;

/// What holds for the whole mesh.
#[derive(Debug, Clone, Serialize)]
pub struct Mesh {
    /// Of the identities; policies are written out under each of its names.
    pub trust_domains: TrustDomains,
    /// Suffix of service hostnames, `NAME.NAMESPACE.svc.DOMAIN`.
    pub cluster_domain: Arc<str>,
    /// The cluster the objects are from.
    pub cluster_id: Arc<str>,
    /// The network its pods are on, unless they say otherwise.
    pub network: Arc<str>,
    /// Policies of this namespace hold everywhere.
    pub root_namespace: Arc<str>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domains: TrustDomains::default(),
            cluster_domain: "cluster.local".into(),
            cluster_id: "Kubernetes".into(),
            network: "".into(),
            root_namespace: DEFAULT_ROOT_NAMESPACE.into(),
        }
    }
}

impl Mesh {
    /// The mesh of tests whose trust domain has been renamed.
    #[cfg(test)]
    pub(crate) fn renamed(own: &str, aliases: &str) -> Self {
        let own = own.parse().expect("a name");
        let aliases = aliases.parse().expect("aliases");
        Self {
            trust_domains: TrustDomains::new(own, aliases),
            ..Self::default()
        }
    }

    /// The key of a service: `namespace/name.namespace.svc.domain`.
    #[must_use]
    pub fn service_key(&self, namespace: &str, name: &str) -> NamespacedName {
        let hostname = format!("{name}.{namespace}.svc.{}", self.cluster_domain);
        NamespacedName::new(namespace, hostname)
    }
}

/// A policy object as node proxies enforce it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyOutcome {
    /// The resource; `None` when node proxies have no part in this policy.
    pub policy: Option<model::AuthorizationPolicy>,
    /// Values that are wrong. The resource fails closed on them.
    pub problems: Vec<String>,
    /// What the author may not expect.
    pub notices: Vec<String>,
    /// What is written back into a policy that is for node proxies alone.
    pub status: Option<serde_json::Value>,
}
