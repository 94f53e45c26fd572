//! Objects as a translation reads them: what it looked at is remembered, also what was not there.
//!
//! So a change of an object leads to those who looked at it, without a second description of who
//! depends on whom.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_http::model::Resource;

use super::Mesh;
use crate::index::objects::{Objects, Table};
use crate::source::object::for_each_kind;
use crate::source::{Key, Kind};

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Looked {
    /// At one object.
    At(Key),
    /// At all objects of a kind in a namespace.
    Within(Kind, Arc<str>),
}

/// What is made of one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// For waypoints.
    pub resources: Vec<Resource>,
    /// What is written back, without `lastTransitionTime`: that is for who writes it.
    pub status: Option<serde_json::Value>,
    /// What is wrong; it fails closed.
    pub problems: Vec<String>,
    /// What the author may not expect.
    pub notices: Vec<String>,
}

/// Objects, and what was looked at.
#[derive(Debug)]
pub struct View<'a> {
    /// Read without being remembered.
    pub objects: &'a Objects,
    #[allow(missing_docs)]
    pub mesh: &'a Mesh,
    looked: RefCell<BTreeSet<Looked>>,
}

/// A kind of object and where it is kept.
pub trait Kept: Sized {
    #[allow(missing_docs)]
    const KIND: Kind;
    #[allow(missing_docs)]
    fn table(objects: &Objects) -> &Table<Self>;
}

mod kept {
    use k8s_openapi::api::core::v1::{
        ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount,
    };
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::{Kept, Kind, Objects, Table, for_each_kind};
    use crate::source::ambit::{ExternalAuthorizer, FaultInjection, RateLimit};
    use crate::source::entry::{ServiceEntry, WorkloadEntry};
    use crate::source::gateway::{
        BackendTLSPolicy, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TCPRoute,
        TLSRoute, XBackendTrafficPolicy,
    };
    use crate::source::istio::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
    use crate::source::networking::DestinationRule;

    macro_rules! kept {
        ($($kind:ident in $table:ident,)*) => {
            $(impl Kept for $kind {
                const KIND: Kind = Kind::$kind;

                fn table(objects: &Objects) -> &Table<Self> {
                    &objects.$table
                }
            })*
        };
    }
    for_each_kind!(kept);
}

impl<'a> View<'a> {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(objects: &'a Objects, mesh: &'a Mesh) -> Self {
        Self {
            objects,
            mesh,
            looked: RefCell::default(),
        }
    }

    /// An object.
    pub fn find<T: Kept + 'a>(&self, namespace: &str, name: &str) -> Option<&'a Arc<T>> {
        let key = Key {
            kind: T::KIND,
            namespace: namespace.into(),
            name: name.into(),
        };
        self.looked.borrow_mut().insert(Looked::At(key));
        T::table(self.objects).find(namespace, name)
    }

    /// All objects of a namespace, by name.
    pub fn within<T: Kept + 'a>(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<T>)> + use<'a, T> {
        let looked = Looked::Within(T::KIND, namespace.into());
        self.looked.borrow_mut().insert(looked);
        T::table(self.objects).within(namespace)
    }

    /// The key of a Service.
    #[must_use]
    pub fn service_key(&self, namespace: &str, name: &str) -> NamespacedName {
        self.mesh.service_key(namespace, name)
    }

    /// What was looked at.
    #[must_use]
    pub fn looked(self) -> BTreeSet<Looked> {
        self.looked.into_inner()
    }
}
