//! `AuthorizationPolicy` (security.istio.io/v1) as waypoints enforce it.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{ServiceAccountMatch, StringMatch};
use ambit_core::trust_domain::TrustDomains;
use http::HeaderName;
use ipnet::IpNet;
use serde::Serialize;

use super::route::BackendRef;
use super::{Target, TextMatch};

/// A policy. Rules are alternatives; without one it never matches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// Any of these.
    pub targets: Vec<Target>,
    /// What a match means.
    pub action: Action,
    /// Any of these.
    pub rules: Vec<Rule>,
    /// Evaluated and reported, never enforced.
    #[serde(rename = "dryRun")]
    pub dry_run: bool,
    /// It could not be understood as a whole and denies what it is attached to.
    pub undecodable: Option<Arc<str>>,
}

impl Policy {
    /// Lets principals hold under every name of the trust domain: see [`TrustDomains::spell_out`].
    pub fn spell_out(&mut self, names: &TrustDomains) {
        for rule in &mut self.rules {
            for source in &mut rule.from {
                spell_out(&mut source.principals, names);
            }
            for condition in &mut rule.when {
                if let Condition::SourcePrincipal(values) = condition {
                    spell_out(values, names);
                }
            }
        }
    }
}

fn spell_out(values: &mut Values<TextMatch>, names: &TrustDomains) {
    for texts in [&mut values.any, &mut values.none] {
        let mut spelt: Vec<StringMatch> = texts.drain(..).map(Into::into).collect();
        names.spell_out(&mut spelt);
        texts.extend(spelt.into_iter().map(TextMatch::from));
    }
}

/// What a match means, in the order of evaluation; AUDIT never decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// The external authorizer of this key decides; an unknown one denies.
    Custom(NamespacedName),
    #[allow(missing_docs)]
    Deny,
    #[allow(missing_docs)]
    Allow,
    #[allow(missing_docs)]
    Audit,
}

/// `from`, `to` and `when` hold together; an empty part always holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Rule {
    /// Any of these.
    pub from: Vec<Source>,
    /// Any of these.
    pub to: Vec<Operation>,
    /// Each of these.
    pub when: Vec<Condition>,
}

/// Values to match (any of them), and values that must not match (none of them). Both empty: not
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Values<T> {
    /// One of these, unless empty.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

impl<T> Values<T> {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            any: Vec::new(),
            none: Vec::new(),
        }
    }
}

/// Who calls: fields hold together.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Source {
    /// The verified identity, without `spiffe://`.
    pub principals: Values<TextMatch>,
    /// `issuer/subject` of the verified JWT.
    pub request_principals: Values<TextMatch>,
    /// Namespace of the verified identity.
    pub namespaces: Values<TextMatch>,
    /// Namespace and service account of the verified identity.
    pub service_accounts: Values<ServiceAccountMatch>,
    /// The TCP peer that opened the connection to the mesh.
    pub ip_blocks: Values<IpNet>,
    /// The client as X-Forwarded-For tells it, after the trusted proxies.
    pub remote_ip_blocks: Values<IpNet>,
}

/// What is called: fields hold together.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Operation {
    /// Lower case, compared without port and trailing dot.
    pub hosts: Values<TextMatch>,
    /// The port of the service, or of the workload where the caller addressed it.
    pub ports: Values<u16>,
    /// Case-sensitive.
    pub methods: Values<TextMatch>,
    /// The canonical path, without the query.
    pub paths: Values<PathPattern>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PathPattern {
    /// Whole, start or end.
    Text(TextMatch),
    /// `/a/{*}/b/{**}`: `{*}` is one segment that is not empty, `{**}` zero or more and only last.
    Template(Arc<str>),
}

/// One attribute and its values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Condition {
    /// `request.headers[NAME]`. Each value of a repeated header is judged by itself.
    Header(
        #[serde(serialize_with = "name")] HeaderName,
        Values<TextMatch>,
    ),
    /// `source.ip`.
    SourceIp(Values<IpNet>),
    /// `remote.ip`.
    RemoteIp(Values<IpNet>),
    /// `source.namespace`.
    SourceNamespace(Values<TextMatch>),
    /// `source.principal`.
    SourcePrincipal(Values<TextMatch>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Values<ServiceAccountMatch>),
    /// `request.auth.principal`.
    RequestPrincipal(Values<TextMatch>),
    /// `request.auth.audiences`.
    Audiences(Values<TextMatch>),
    /// `request.auth.presenter`.
    Presenter(Values<TextMatch>),
    /// `request.auth.claims[a][b]`: the path, from the outside in.
    Claim(Vec<Arc<str>>, Values<TextMatch>),
    /// `destination.ip`.
    DestinationIp(Values<IpNet>),
    /// `destination.port`.
    DestinationPort(Values<u16>),
    /// `connection.sni`.
    Sni(Values<TextMatch>),
    /// A key that is not known: never holds in ALLOW, always in DENY (access never widens).
    Unknown(Arc<str>),
}

/// Who decides CUSTOM policies and `ExternalAuth` filters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Authorizer {
    /// `namespace/name`; for a filter, of the route and its position.
    pub key: NamespacedName,
    /// How it is asked.
    pub kind: AuthorizerKind,
    /// Where it is.
    pub backend: BackendRef,
    /// Longest wait for its answer.
    pub timeout: Duration,
    /// What holds when it does not answer: `false` denies (403, or `status_on_error`).
    pub fail_open: bool,
    #[allow(missing_docs)]
    pub status_on_error: u16,
    /// Request headers that are sent to it, besides method, path and host; empty sends all.
    #[serde(serialize_with = "names")]
    pub request_headers: Vec<HeaderName>,
    /// Headers of its answer that go to the backend when it allows.
    #[serde(serialize_with = "names")]
    pub upstream_headers: Vec<HeaderName>,
    /// Bytes of the body that are sent to it; a longer body is refused with 413. 0 sends none.
    pub body_limit: u32,
}

/// How an external authorizer is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum AuthorizerKind {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// The request's head to a path below this prefix; 200 allows.
    Http {
        #[allow(missing_docs)]
        path_prefix: Arc<str>,
    },
}

fn name<S: serde::Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn names<S: serde::Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}
