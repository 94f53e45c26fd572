//! What a proxy knows of the mesh, as one value.
//!
//! An [`Index`] is built on persistent maps: cloning it costs nothing, so a writer clones, applies
//! a whole push and publishes the result, while readers go on with the old one. Changes arrive in
//! any order: an endpoint before its service, the removal of a pod after its address moved on.
//!
//! Policies fail closed here: see [`Index::policies_for`].

mod apply;
mod endpoints;
mod holders;
mod lookup;
mod policies;
mod ranges;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::addr::{NamespacedName, NetworkAddr};
use crate::model::policy::Scope;
use crate::model::{AuthorizationPolicy, Service, Workload};
use crate::trust_domain::TrustDomains;

pub use endpoints::{Endpoint, Endpoints};
pub use lookup::Target;
pub use policies::{Applicable, UndecodablePolicy};

use holders::Holders;
use policies::Policies;
use ranges::Ranges;

/// A persistent map. Keys come from the control plane, so a fast hash is enough.
type Map<K, V> = rpds::HashTrieMapSync<K, V, hashbrown::DefaultHashBuilder>;

/// The namespace whose policies may be global, unless [`Index::new`] says otherwise.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// Workloads, services and policies, with every lookup a decision needs.
#[derive(Clone)]
pub struct Index {
    trust_domains: TrustDomains,
    workloads: Map<Arc<str>, Arc<Workload>>,
    addresses: Map<NetworkAddr, Holders<Arc<Workload>>>,
    /// Addresses of nodes, by the workloads that share them.
    nodes: Map<NetworkAddr, Holders<Arc<Workload>>>,
    services: Map<NamespacedName, ServiceEntry>,
    service_count: usize,
    vips: Map<NetworkAddr, Holders<Arc<Service>>>,
    ranges: Ranges,
    hostnames: Map<Arc<str>, Holders<Arc<Service>>>,
    policies: Policies,
    epoch: u64,
    /// Counts changes of endpoints.
    endpoint_changes: u64,
}

/// A service and its endpoints; either may be known before the other.
#[derive(Clone, Default)]
struct ServiceEntry {
    service: Option<Arc<Service>>,
    endpoints: Endpoints,
}

/// One change to an [`Index`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A workload is new or different.
    Workload(Arc<Workload>),
    /// A service is new or different.
    Service(Arc<Service>),
    /// The workload with this uid, or the service of this `namespace/hostname`, is gone.
    RemoveAddress(Arc<str>),
    /// A policy is new or different.
    Policy(Arc<AuthorizationPolicy>),
    /// A policy exists but could not be understood: it denies what it may apply to.
    UndecodablePolicy(UndecodablePolicy),
    /// A policy is gone.
    RemovePolicy(NamespacedName),
    /// A whole push of policies has been applied; before the first, nothing is authorized.
    PoliciesSynced,
}

impl Change {
    /// An undecodable policy of which nothing but the name is known.
    #[must_use]
    pub fn undecodable_policy(key: NamespacedName, reason: impl Into<Arc<str>>) -> Self {
        Self::UndecodablePolicy(UndecodablePolicy {
            key,
            scope: None,
            reason: reason.into(),
        })
    }
}

impl Index {
    /// An empty index. Policies of `root_namespace` may apply to the whole mesh.
    #[must_use]
    pub fn new(root_namespace: impl Into<Arc<str>>) -> Self {
        Self {
            trust_domains: TrustDomains::default(),
            workloads: Map::default(),
            addresses: Map::default(),
            nodes: Map::default(),
            services: Map::default(),
            service_count: 0,
            vips: Map::default(),
            ranges: Ranges::default(),
            hostnames: Map::default(),
            policies: Policies::new(root_namespace.into()),
            epoch: 0,
            endpoint_changes: 0,
        }
    }

    /// The same of a mesh whose trust domain has these names: identities that are applied are settled, and
    /// policies spelled out.
    #[must_use]
    pub fn within(self, trust_domains: TrustDomains) -> Self {
        Self {
            trust_domains,
            ..self
        }
    }

    /// The names of the mesh's trust domain.
    #[must_use]
    pub fn trust_domains(&self) -> &TrustDomains {
        &self.trust_domains
    }

    /// Grows whenever the answer for an established connection may have changed: policies, their
    /// references, waypoint bindings. Live connections are judged again when it does.
    #[must_use]
    pub fn authorization_epoch(&self) -> u64 {
        self.epoch
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new(DEFAULT_ROOT_NAMESPACE)
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("workloads", &self.workloads.size())
            .field("services", &self.service_count)
            .field("policies", &self.policies.len())
            .field("policies_synced", &self.policies_synced())
            .finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "testing"))]
impl Index {
    /// No map keeps an entry of something that is gone.
    fn holds_nothing(&self) -> bool {
        self.workloads.is_empty()
            && self.addresses.is_empty()
            && self.nodes.is_empty()
            && self.services.is_empty()
            && self.service_count == 0
            && self.vips.is_empty()
            && self.ranges.is_empty()
            && self.hostnames.is_empty()
            && self.policies.is_empty()
    }
}
