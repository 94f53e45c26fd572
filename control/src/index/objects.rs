//! All objects the source knows, by kind, namespace and name. Plain data that translation reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::source::ambit::{ExternalAuthorizer, FaultInjection, RateLimit};
use crate::source::entry::{ServiceEntry, WorkloadEntry};
use crate::source::gateway::{
    BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TCPRoute,
    TLSRoute, XBackendTrafficPolicy,
};
use crate::source::istio::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use crate::source::networking::DestinationRule;
use crate::source::object::for_each_kind;
use crate::source::{Key, Kind, Object};
use crate::translate::entry::allocation::Allocation;
use crate::translate::entry::claims::Claims;
use crate::translate::network::Networks;

/// Objects of one kind.
#[derive(Debug, Clone)]
pub struct Table<T> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            namespaces: BTreeMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// One object; the namespace of a kind without namespaces is empty.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// Objects of a namespace, by name.
    pub fn within<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<T>)> + use<'a, T> {
        self.namespaces.get(namespace).into_iter().flatten()
    }

    /// All objects: namespace, name, object.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<T>)> {
        self.namespaces.iter().flat_map(|(namespace, of)| {
            of.iter()
                .map(move |(name, object)| (namespace, name, object))
        })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.namespaces.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    fn set(&mut self, key: &Key, object: Option<Arc<T>>) -> Option<Arc<T>> {
        let Some(object) = object else {
            let of = self.namespaces.get_mut(&key.namespace)?;
            let old = of.remove(&key.name);
            if of.is_empty() {
                self.namespaces.remove(&key.namespace);
            }
            return old;
        };
        self.namespaces
            .entry(key.namespace.clone())
            .or_default()
            .insert(key.name.clone(), object)
    }
}

macro_rules! tables {
    ($($kind:ident in $table:ident,)*) => {
        /// All objects.
        #[derive(Debug, Clone, Default)]
        #[allow(missing_docs)]
        pub struct Objects {
            $(pub $table: Table<$kind>,)*
            /// The addresses that hosts of ServiceEntries are given; follows from all of these.
            pub allocation: Allocation,
            /// Which ServiceEntries name a host; follows from them.
            pub claims: Claims,
            /// The networks that they name.
            pub networks: Networks,
        }

        impl Objects {
            /// Stores an object, or removes it, and gives the one it replaces.
            pub(crate) fn set(&mut self, key: &Key, object: Option<Object>) -> Option<Object> {
                let entry = |object: &Option<Object>| object.as_ref()?.service_entry().cloned();
                let new = entry(&object);
                let replaced = self.replace(key, object);
                let old = entry(&replaced);
                self.claims.change(&key.namespace, &key.name, old.as_deref(), new.as_deref());
                replaced
            }

            fn replace(&mut self, key: &Key, object: Option<Object>) -> Option<Object> {
                match key.kind {
                    $(Kind::$kind => {
                        let object = match object {
                            Some(Object::$kind(object)) => Some(object),
                            Some(_) => return None,
                            None => None,
                        };
                        self.$table.set(key, object).map(Object::$kind)
                    })*
                }
            }

            /// An object by its key.
            #[must_use]
            pub fn find(&self, key: &Key) -> Option<Object> {
                match key.kind {
                    $(Kind::$kind => {
                        self.$table.find(&key.namespace, &key.name).cloned().map(Object::$kind)
                    })*
                }
            }

            /// How many objects of each kind.
            #[must_use]
            pub fn counts(&self) -> Vec<(Kind, usize)> {
                vec![$((Kind::$kind, self.$table.len()),)*]
            }
        }
    };
}
for_each_kind!(tables);

impl Objects {
    /// A label of a namespace; `None` as well when the namespace is unknown.
    #[must_use]
    pub fn namespace_label(&self, namespace: &str, label: &str) -> Option<&str> {
        crate::translate::labels::label(&self.namespaces.find("", namespace)?.metadata, label)
    }
}
