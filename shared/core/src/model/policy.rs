//! L4 authorization policies, compiled: every value is parsed, so evaluation cannot fail.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::addr::NamespacedName;
use crate::trust_domain::TrustDomains;

/// An L4 authorization policy. Rules are alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorizationPolicy {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// Which workloads it applies to.
    pub scope: Scope,
    /// What a match means.
    pub action: Action,
    /// Any of these.
    pub rules: Vec<Rule>,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
}

impl AuthorizationPolicy {
    /// Lets principals hold under every name of the trust domain: see [`TrustDomains::spell_out`].
    pub fn spell_out(&mut self, names: &TrustDomains) {
        let clauses = self.rules.iter_mut().flat_map(|rule| &mut rule.clauses);
        for found in clauses.flat_map(|clause| &mut clause.matches) {
            names.spell_out(&mut found.principals);
            names.spell_out(&mut found.not_principals);
        }
    }
}

/// Which workloads a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Scope {
    /// All of the mesh (a policy of the root namespace).
    Global,
    /// All of its namespace.
    Namespace,
    /// Those that name it in `authorization_policies`.
    WorkloadSelector,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// A workload with any ALLOW policy takes only what one of them matches.
    Allow,
    /// A match refuses, whatever else allows.
    Deny,
}

/// All clauses hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Rule {
    /// Each of these.
    pub clauses: Vec<Clause>,
}

/// Any match holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Clause {
    /// Any of these.
    pub matches: Vec<Match>,
}

/// Fields that are set hold together; within a field one value is enough, within a `not_` field
/// no value may hold. A match without any field never holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Match {
    /// Namespace of the source identity.
    pub namespaces: Vec<StringMatch>,
    #[allow(missing_docs)]
    pub not_namespaces: Vec<StringMatch>,
    /// Source identity without `spiffe://`.
    pub principals: Vec<StringMatch>,
    #[allow(missing_docs)]
    pub not_principals: Vec<StringMatch>,
    /// Source address.
    pub source_ips: Vec<IpNet>,
    #[allow(missing_docs)]
    pub not_source_ips: Vec<IpNet>,
    /// Destination address.
    pub destination_ips: Vec<IpNet>,
    #[allow(missing_docs)]
    pub not_destination_ips: Vec<IpNet>,
    /// Destination port.
    pub destination_ports: Vec<u16>,
    #[allow(missing_docs)]
    pub not_destination_ports: Vec<u16>,
    /// Service account of the source identity.
    pub service_accounts: Vec<ServiceAccountMatch>,
    #[allow(missing_docs)]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
}

/// A namespace and a service account, compared as parsed fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceAccountMatch {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The service account.
    pub service_account: Arc<str>,
}

/// How a text is compared; case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// There is one, and it is not empty.
    Presence,
}
