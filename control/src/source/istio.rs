//! `security.istio.io` objects, as users write them.
//!
//! Inside a spec unknown fields are errors: a misspelt field would otherwise make a policy match
//! more, or less, than its author meant.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// `AuthorizationPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AuthorizationPolicy {
    #[allow(missing_docs)]
    pub metadata: ObjectMeta,
    #[allow(missing_docs)]
    #[serde(default)]
    pub spec: AuthorizationPolicySpec,
    /// It stands for one of which no version could be read, for this reason, and denies what that selects.
    #[serde(skip)]
    pub unreadable: Option<String>,
}

/// What an `AuthorizationPolicy` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizationPolicySpec {
    /// Workloads of the namespace (of the mesh, in the root namespace).
    pub selector: Option<Selector>,
    /// The one-element form of `target_refs`.
    pub target_ref: Option<TargetRef>,
    /// What the policy is attached to, enforced by waypoints.
    pub target_refs: Vec<TargetRef>,
    /// `ALLOW` (the default), `DENY`, `CUSTOM` or `AUDIT`.
    pub action: Option<String>,
    /// For `CUSTOM`.
    pub provider: Option<Provider>,
    /// Alternatives.
    pub rules: Vec<Rule>,
}

/// Selects workloads by label.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selector {
    /// All of these.
    pub match_labels: BTreeMap<String, String>,
}

/// The object that a policy is attached to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TargetRef {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

/// Who decides a `CUSTOM` policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Provider {
    pub name: String,
}

/// `from`, `to` and `when` hold together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Alternatives.
    pub from: Vec<From>,
    /// Alternatives.
    pub to: Vec<To>,
    /// Each of these.
    pub when: Vec<Condition>,
}

#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct From {
    pub source: Source,
}

#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct To {
    pub operation: Operation,
}

/// Who calls: fields hold together, values are alternatives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Source {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
}

/// What is called: fields hold together, values are alternatives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Operation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Condition {
    pub key: String,
    pub values: Vec<String>,
    pub not_values: Vec<String>,
}

/// `PeerAuthentication`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PeerAuthentication {
    #[allow(missing_docs)]
    pub metadata: ObjectMeta,
    #[allow(missing_docs)]
    #[serde(default)]
    pub spec: PeerAuthenticationSpec,
}

/// What a `PeerAuthentication` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PeerAuthenticationSpec {
    /// Workloads of the namespace; without it the namespace, or the mesh in the root namespace.
    pub selector: Option<Selector>,
    /// For all ports.
    pub mtls: Option<MutualTls>,
    /// For a port of the workload.
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

/// How much mutual TLS.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MutualTls {
    /// `STRICT`, `PERMISSIVE`, `DISABLE`, or `UNSET`: as the wider scope says.
    pub mode: Option<String>,
}

/// `RequestAuthentication`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RequestAuthentication {
    #[allow(missing_docs)]
    pub metadata: ObjectMeta,
    #[allow(missing_docs)]
    #[serde(default)]
    pub spec: RequestAuthenticationSpec,
}

/// What a `RequestAuthentication` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestAuthenticationSpec {
    /// For node proxies, which see no tokens.
    pub selector: Option<Selector>,
    /// The one-element form of `target_refs`.
    pub target_ref: Option<TargetRef>,
    #[allow(missing_docs)]
    pub target_refs: Vec<TargetRef>,
    /// Alternatives.
    pub jwt_rules: Vec<JwtRule>,
}

/// One issuer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct JwtRule {
    pub issuer: String,
    pub audiences: Vec<String>,
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: Option<String>,
    pub jwks: Option<String>,
    pub from_headers: Vec<JwtHeader>,
    pub from_params: Vec<String>,
    pub from_cookies: Vec<String>,
    pub output_payload_to_header: Option<String>,
    pub forward_original_token: bool,
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    pub timeout: Option<String>,
    pub presence: Option<String>,
    pub space_delimited_claims: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct JwtHeader {
    pub name: String,
    pub prefix: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ClaimToHeader {
    pub header: String,
    pub claim: String,
}
