//! `gateway.networking.k8s.io` objects and `XBackendTrafficPolicy`, as users write them.
//!
//! Own types rather than those of the gateway-api crate: there each filter has one type for rules and
//! another for backends, in each kind of route, and what it does not know is dropped. Here an unknown
//! field of a spec is an error: dropped, a route would do half of what it says.

pub mod route;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

pub use route::{GRPCRoute, HTTPRoute, TCPRoute, TLSRoute};

macro_rules! object {
    ($(#[$doc:meta])* $name:ident, $spec:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, ::serde::Serialize, ::serde::Deserialize)]
        pub struct $name {
            #[allow(missing_docs)]
            pub metadata: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            #[allow(missing_docs)]
            #[serde(default)]
            pub spec: $spec,
        }
    };
}
pub(crate) use object;

object!(
    /// `Gateway`.
    Gateway,
    GatewaySpec
);
object!(
    /// `GatewayClass`.
    GatewayClass,
    GatewayClassSpec
);
object!(
    /// `ReferenceGrant`.
    ReferenceGrant,
    ReferenceGrantSpec
);
object!(
    /// `BackendTLSPolicy`.
    BackendTLSPolicy,
    BackendTLSPolicySpec
);
object!(
    /// `XBackendTrafficPolicy`.
    XBackendTrafficPolicy,
    XBackendTrafficPolicySpec
);

/// What a `Gateway` says. Parts that a waypoint has no use for are not looked into.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct GatewaySpec {
    pub gateway_class_name: String,
    pub listeners: Vec<Listener>,
    pub infrastructure: Option<Infrastructure>,
    pub addresses: Option<serde_json::Value>,
    pub allowed_listeners: Option<serde_json::Value>,
    pub default_scope: Option<String>,
    pub tls: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Listener {
    pub name: String,
    pub hostname: Option<String>,
    pub port: i32,
    pub protocol: String,
    pub tls: Option<serde_json::Value>,
    pub allowed_routes: Option<AllowedRoutes>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct AllowedRoutes {
    pub kinds: Option<serde_json::Value>,
    pub namespaces: Option<RouteNamespaces>,
}

/// Who may use a listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteNamespaces {
    /// `Same` (the default), `All` or `Selector`.
    pub from: Option<String>,
    #[allow(missing_docs)]
    pub selector: Option<LabelSelector>,
}

/// What the objects that run a Gateway get.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Infrastructure {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub parameters_ref: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct GatewayClassSpec {
    pub controller_name: String,
    pub description: Option<String>,
    pub parameters_ref: Option<serde_json::Value>,
}

/// References from these to those are fine, across namespaces.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ReferenceGrantSpec {
    pub from: Vec<GrantFrom>,
    pub to: Vec<GrantTo>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct GrantFrom {
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct GrantTo {
    pub group: String,
    pub kind: String,
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct BackendTLSPolicySpec {
    pub target_refs: Vec<PolicyTarget>,
    pub validation: TlsValidation,
    pub options: BTreeMap<String, String>,
}

/// An object of the policy's namespace, or a part of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct PolicyTarget {
    pub group: String,
    pub kind: String,
    pub name: String,
    /// A port of a Service, by its name.
    pub section_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TlsValidation {
    #[serde(rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<LocalRef>,
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    pub hostname: String,
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// An object of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LocalRef {
    pub group: String,
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct SubjectAltName {
    pub r#type: String,
    pub hostname: Option<String>,
    pub uri: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct XBackendTrafficPolicySpec {
    pub target_refs: Vec<PolicyTarget>,
    pub retry_constraint: Option<RetryConstraint>,
    pub session_persistence: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RetryConstraint {
    pub budget: Option<Budget>,
    pub min_retry_rate: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Budget {
    pub percent: Option<i64>,
    pub interval: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Rate {
    pub count: Option<i64>,
    pub interval: Option<String>,
}

#[cfg(test)]
#[path = "../gateway_tests.rs"]
mod tests;
