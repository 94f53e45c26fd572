//! L7 configuration as plain data: routes, policies, authentication, traffic.
//!
//! Resources are small and point up to what they belong to (a rule to its services, a policy to its
//! targets), so that a change costs one message. Values are parsed once, when they arrive (see
//! `convert`), and never half valid: what could not be understood says so and fails closed.

pub mod authentication;
pub mod policy;
pub mod route;
pub mod traffic;

use std::fmt;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::model::StringMatch;
use serde::Serialize;

pub use authentication::{JwtRule, KeySource, RequestAuthentication, TokenSource};
pub use policy::{Action, Authorizer, AuthorizerKind, Condition, Operation, Policy, Rule, Source};
pub use route::{Backend, Filter, Protocol, RouteKey, RouteMatch, RouteRule};
pub use traffic::{BackendTls, TrafficPolicy};

/// One resource that the control plane sends to waypoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Resource {
    /// A rule of a route.
    Route(Arc<RouteRule>),
    /// An `AuthorizationPolicy` that waypoints enforce.
    Policy(Arc<Policy>),
    /// A `RequestAuthentication`.
    Authentication(Arc<RequestAuthentication>),
    /// An external authorizer that CUSTOM policies and filters name.
    Authorizer(Arc<Authorizer>),
    /// How endpoints of a service are chosen and protected.
    Traffic(Arc<TrafficPolicy>),
    /// How TLS is spoken to a service.
    Tls(Arc<BackendTls>),
}

/// The name of a [`Resource`] on the wire: `KIND/NAMESPACE/NAME`, and `/RULE` for a route's rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKey {
    #[allow(missing_docs)]
    Route(RouteKey),
    #[allow(missing_docs)]
    Policy(NamespacedName),
    #[allow(missing_docs)]
    Authentication(NamespacedName),
    #[allow(missing_docs)]
    Authorizer(NamespacedName),
    /// Keyed by the object that says so.
    Traffic(NamespacedName),
    #[allow(missing_docs)]
    Tls(NamespacedName),
}

impl Resource {
    /// Its name.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        match self {
            Self::Route(it) => ResourceKey::Route(it.key.clone()),
            Self::Policy(it) => ResourceKey::Policy(it.key.clone()),
            Self::Authentication(it) => ResourceKey::Authentication(it.key.clone()),
            Self::Authorizer(it) => ResourceKey::Authorizer(it.key.clone()),
            Self::Traffic(it) => ResourceKey::Traffic(it.key.clone()),
            Self::Tls(it) => ResourceKey::Tls(it.key.clone()),
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Route(key) => return write!(f, "route/{key}"),
            Self::Policy(name) => ("policy", name),
            Self::Authentication(name) => ("authentication", name),
            Self::Authorizer(name) => ("authorizer", name),
            Self::Traffic(name) => ("traffic", name),
            Self::Tls(name) => ("tls", name),
        };
        write!(f, "{kind}/{name}")
    }
}

/// What a policy or an authentication is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Target {
    /// Every waypoint of the mesh (a GatewayClass, from the root namespace).
    Mesh,
    /// All that goes through one waypoint: the `namespace/name` of its Gateway.
    Waypoint(NamespacedName),
    /// A service, by its key `namespace/hostname`.
    Service(NamespacedName),
}

/// How a text is compared; case-sensitive unless the field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum TextMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// There is one.
    Present,
}

impl From<StringMatch> for TextMatch {
    fn from(text: StringMatch) -> Self {
        match text {
            StringMatch::Exact(text) => Self::Exact(text),
            StringMatch::Prefix(text) => Self::Prefix(text),
            StringMatch::Suffix(text) => Self::Suffix(text),
            StringMatch::Presence => Self::Present,
        }
    }
}

impl From<TextMatch> for StringMatch {
    fn from(text: TextMatch) -> Self {
        match text {
            TextMatch::Exact(text) => Self::Exact(text),
            TextMatch::Prefix(text) => Self::Prefix(text),
            TextMatch::Suffix(text) => Self::Suffix(text),
            TextMatch::Present => Self::Presence,
        }
    }
}
