//! The objects that are read, and their keys.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::istio::{AuthorizationPolicy, PeerAuthentication};

/// An object, as `kubectl apply` would have it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    ServiceAccount(Arc<ServiceAccount>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    PeerAuthentication(Arc<PeerAuthentication>),
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
        }
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(o) => &o.metadata,
            Self::Node(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
            Self::EndpointSlice(o) => &o.metadata,
            Self::ServiceAccount(o) => &o.metadata,
            Self::AuthorizationPolicy(o) => &o.metadata,
            Self::PeerAuthentication(o) => &o.metadata,
        }
    }

    /// Its key. An object of a namespaced kind that names none is in `default`.
    #[must_use]
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        let kind = self.kind();
        let namespace = match &metadata.namespace {
            _ if !kind.namespaced() => "",
            Some(namespace) if !namespace.is_empty() => namespace,
            _ => "default",
        };
        Key {
            kind,
            namespace: namespace.into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
        }
    }

    /// The same object, shared or equal.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        fn eq<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
            Arc::ptr_eq(a, b) || a == b
        }
        match (self, other) {
            (Self::Namespace(a), Self::Namespace(b)) => eq(a, b),
            (Self::Node(a), Self::Node(b)) => eq(a, b),
            (Self::Pod(a), Self::Pod(b)) => eq(a, b),
            (Self::Service(a), Self::Service(b)) => eq(a, b),
            (Self::EndpointSlice(a), Self::EndpointSlice(b)) => eq(a, b),
            (Self::ServiceAccount(a), Self::ServiceAccount(b)) => eq(a, b),
            (Self::AuthorizationPolicy(a), Self::AuthorizationPolicy(b)) => eq(a, b),
            (Self::PeerAuthentication(a), Self::PeerAuthentication(b)) => eq(a, b),
            _ => false,
        }
    }
}

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    ServiceAccount,
    AuthorizationPolicy,
    PeerAuthentication,
}

impl Kind {
    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What identifies an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
