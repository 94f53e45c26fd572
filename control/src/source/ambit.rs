//! `ambit.dev` objects: what no other API has a word for. Unknown fields of a spec are errors.

use serde::{Deserialize, Serialize};

use super::gateway::object;
use super::gateway::route::BackendRef;

object!(
    /// `RateLimit`: a filter of HTTPRoutes and GRPCRoutes, by `ExtensionRef`.
    RateLimit,
    RateLimitSpec
);
object!(
    /// `FaultInjection`: a filter of HTTPRoutes and GRPCRoutes, by `ExtensionRef`.
    FaultInjection,
    FaultInjectionSpec
);
object!(
    /// `ExternalAuthorizer`: the provider that CUSTOM policies name, in the root namespace.
    ExternalAuthorizer,
    ExternalAuthorizerSpec
);

/// A token bucket in each waypoint instance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitSpec {
    /// Requests an interval, at least 1.
    pub requests: i64,
    /// `1s` by default.
    pub interval: Option<String>,
    /// Most requests at once; `requests` by default.
    pub burst: Option<i64>,
    /// `Route` (the default) or `Client`.
    pub per: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct FaultInjectionSpec {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Delay {
    pub duration: String,
    /// 100 by default.
    pub percent: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Abort {
    pub status: i64,
    /// 100 by default.
    pub percent: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ExternalAuthorizerSpec {
    /// `GRPC` or `HTTP`.
    pub protocol: String,
    pub backend_ref: BackendRef,
    /// Of HTTP alone.
    pub path_prefix: Option<String>,
    /// `1s` by default.
    pub timeout: Option<String>,
    /// Allows when there is no answer; `false` by default.
    pub fail_open: bool,
    /// 403 by default.
    pub status_on_error: Option<i64>,
    /// Empty sends all.
    pub request_headers: Vec<String>,
    pub upstream_headers: Vec<String>,
    /// Bytes; 0 (the default) sends no body.
    pub body_limit: Option<i64>,
}
