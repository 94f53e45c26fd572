//! The objects that are read, and their keys.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::ambit::{ExternalAuthorizer, FaultInjection, RateLimit};
use super::entry::{ServiceEntry, WorkloadEntry};
use super::gateway::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TCPRoute,
    TLSRoute, XBackendTrafficPolicy,
};
use super::istio::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use super::networking::DestinationRule;

/// Gives every kind that is read, with the table its objects are in, to a macro.
macro_rules! for_each_kind {
    ($with:ident) => {
        $with! {
            Namespace in namespaces,
            Node in nodes,
            Pod in pods,
            Service in services,
            EndpointSlice in slices,
            ServiceAccount in service_accounts,
            AuthorizationPolicy in policies,
            PeerAuthentication in peers,
            RequestAuthentication in authentications,
            GatewayClass in classes,
            Gateway in gateways,
            HTTPRoute in http_routes,
            GRPCRoute in grpc_routes,
            TLSRoute in tls_routes,
            TCPRoute in tcp_routes,
            ReferenceGrant in grants,
            BackendTLSPolicy in backend_tls,
            XBackendTrafficPolicy in backend_traffic,
            DestinationRule in destination_rules,
            ServiceEntry in service_entries,
            WorkloadEntry in workload_entries,
            RateLimit in rate_limits,
            FaultInjection in faults,
            ExternalAuthorizer in authorizers,
            ConfigMap in config_maps,
            Secret in secrets,
        }
    };
}
pub(crate) use for_each_kind;

macro_rules! objects {
    ($($kind:ident in $table:ident,)*) => {
        /// An object, as `kubectl apply` would have it.
        #[derive(Debug, Clone)]
        #[allow(missing_docs)]
        pub enum Object {
            $($kind(Arc<$kind>),)*
        }

        impl Object {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(o) => &o.metadata,)*
                }
            }

            /// The same object, shared or equal.
            #[must_use]
            pub fn same(&self, other: &Self) -> bool {
                fn eq<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
                    Arc::ptr_eq(a, b) || a == b
                }
                match (self, other) {
                    $((Self::$kind(a), Self::$kind(b)) => eq(a, b),)*
                    _ => false,
                }
            }
        }

        /// The kinds that are read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[allow(missing_docs)]
        pub enum Kind {
            $($kind,)*
        }
    };
}
for_each_kind!(objects);

impl Object {
    /// The ServiceEntry that it is.
    #[must_use]
    pub fn service_entry(&self) -> Option<&Arc<ServiceEntry>> {
        match self {
            Self::ServiceEntry(entry) => Some(entry),
            _ => None,
        }
    }
}

impl Object {
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
}

impl Kind {
    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node | Self::GatewayClass)
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
