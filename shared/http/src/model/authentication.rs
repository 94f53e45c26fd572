//! `RequestAuthentication` (security.istio.io/v1): which JSON Web Tokens are accepted.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use http::HeaderName;
use serde::Serialize;

use super::Target;
use super::route::BackendRef;

/// A request without a token passes, one with a bad token is answered with 401.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestAuthentication {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// Any of these.
    pub targets: Vec<Target>,
    /// A token is valid if one of these accepts it.
    pub rules: Vec<JwtRule>,
    /// It could not be understood: every token is refused.
    pub undecodable: Option<Arc<str>>,
}

/// One issuer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JwtRule {
    /// `iss` of its tokens.
    pub issuer: Arc<str>,
    /// `aud` has one of these; empty takes any.
    pub audiences: Vec<Arc<str>>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Where tokens are looked for.
    pub sources: Vec<TokenSource>,
    /// The token stays in the request for the backend.
    pub forward: bool,
    /// The payload, base64url, for the backend.
    #[serde(serialize_with = "option")]
    pub payload_header: Option<HeaderName>,
    /// Claims as headers for the backend: header, path of the claim.
    #[serde(serialize_with = "claims")]
    pub claim_headers: Vec<(HeaderName, Vec<Arc<str>>)>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum KeySource {
    /// A JWK set.
    Inline(Arc<str>),
    /// Fetched from a port of a service of the mesh, and again when a key is missing.
    Service {
        #[allow(missing_docs)]
        backend: BackendRef,
        #[allow(missing_docs)]
        host: Arc<str>,
        #[allow(missing_docs)]
        path: Arc<str>,
    },
    /// Fetched from outside the mesh.
    Url(Arc<str>),
}

/// Where a token may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum TokenSource {
    /// In a header, after a prefix such as `Bearer `.
    Header {
        #[allow(missing_docs)]
        #[serde(serialize_with = "display")]
        name: HeaderName,
        #[allow(missing_docs)]
        prefix: Arc<str>,
    },
    /// In a query parameter.
    Query(Arc<str>),
    /// In a cookie.
    Cookie(Arc<str>),
}

fn display<S: serde::Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn option<S: serde::Serializer>(
    name: &Option<HeaderName>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => serializer.serialize_str(name.as_str()),
        None => serializer.serialize_none(),
    }
}

fn claims<S: serde::Serializer>(
    claims: &[(HeaderName, Vec<Arc<str>>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(claims.iter().map(|(name, path)| (name.as_str(), path)))
}
