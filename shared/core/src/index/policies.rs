//! Policies by what they apply to, and the ones that are known only to exist.

use std::sync::Arc;

use super::{Map, Scope};
use crate::addr::NamespacedName;
use crate::model::{AuthorizationPolicy, Workload};

/// A policy that exists but could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecodablePolicy {
    /// Its `namespace/name`.
    pub key: NamespacedName,
    /// Its scope, when that much could be read. Unknown means the widest it may have.
    pub scope: Option<Scope>,
    /// What is wrong with it.
    pub reason: Arc<str>,
}

/// A policy that applies to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applicable<'a> {
    /// It can be evaluated.
    Ready(&'a Arc<AuthorizationPolicy>),
    /// It could not be understood: deny.
    Undecodable(&'a UndecodablePolicy),
    /// The workload names it, and it is not known: deny.
    Unknown(&'a NamespacedName),
}

#[derive(Debug, Clone)]
enum Entry {
    Ready(Arc<AuthorizationPolicy>),
    Undecodable(Arc<UndecodablePolicy>),
}

#[derive(Clone)]
pub(super) struct Policies {
    root_namespace: Arc<str>,
    by_key: Map<NamespacedName, Entry>,
    global: Arc<Vec<Entry>>,
    by_namespace: Map<Arc<str>, Arc<Vec<Entry>>>,
    pub(super) synced: bool,
}

impl Policies {
    pub(super) fn new(root_namespace: Arc<str>) -> Self {
        Self {
            root_namespace,
            by_key: Map::default(),
            global: Arc::default(),
            by_namespace: Map::default(),
            synced: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.size()
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.global.is_empty() && self.by_namespace.is_empty()
    }

    pub(super) fn put(&mut self, policy: Arc<AuthorizationPolicy>) {
        self.insert(Entry::Ready(policy));
    }

    pub(super) fn put_undecodable(&mut self, policy: UndecodablePolicy) {
        self.insert(Entry::Undecodable(Arc::new(policy)));
    }

    pub(super) fn remove(&mut self, key: &NamespacedName) -> bool {
        let Some(entry) = self.by_key.get(key).cloned() else {
            return false;
        };
        self.by_key.remove_mut(key);
        match self.scope(&entry) {
            Scope::Global => Arc::make_mut(&mut self.global).retain(|e| e.key() != key),
            Scope::Namespace => {
                if let Some(list) = self.by_namespace.get_mut(&key.namespace) {
                    let list = Arc::make_mut(list);
                    list.retain(|e| e.key() != key);
                    if list.is_empty() {
                        self.by_namespace.remove_mut(&key.namespace);
                    }
                }
            }
            Scope::WorkloadSelector => {}
        }
        true
    }

    pub(super) fn get(&self, key: &NamespacedName) -> Option<Applicable<'_>> {
        self.by_key.get(key).map(Entry::applicable)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Applicable<'_>> {
        self.by_key.values().map(Entry::applicable)
    }

    /// Each policy that applies, once: global, of the namespace, then those it names.
    pub(super) fn applicable<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Applicable<'a>> + 'a {
        let of_namespace = self
            .by_namespace
            .get(&workload.namespace)
            .map_or(&[][..], |list| list);
        let by_scope = self.global.iter().chain(of_namespace);
        let named =
            workload
                .authorization_policies
                .iter()
                .filter_map(|key| match self.by_key.get(key) {
                    None => Some(Applicable::Unknown(key)),
                    Some(entry) => match self.scope(entry) {
                        Scope::Global => None,
                        Scope::Namespace if key.namespace == workload.namespace => None,
                        _ => Some(entry.applicable()),
                    },
                });
        by_scope.map(Entry::applicable).chain(named)
    }

    fn insert(&mut self, entry: Entry) {
        let key = entry.key().clone();
        self.remove(&key);
        match self.scope(&entry) {
            Scope::Global => insert_sorted(&mut self.global, entry.clone()),
            Scope::Namespace => match self.by_namespace.get_mut(&key.namespace) {
                Some(list) => insert_sorted(list, entry.clone()),
                None => self
                    .by_namespace
                    .insert_mut(key.namespace.clone(), Arc::new(vec![entry.clone()])),
            },
            Scope::WorkloadSelector => {}
        }
        self.by_key.insert_mut(key, entry);
    }

    fn scope(&self, entry: &Entry) -> Scope {
        match entry {
            Entry::Ready(policy) => policy.scope,
            Entry::Undecodable(policy) => policy.scope.unwrap_or({
                if policy.key.namespace == self.root_namespace || policy.key.namespace.is_empty() {
                    Scope::Global
                } else {
                    Scope::Namespace
                }
            }),
        }
    }
}

impl Entry {
    fn key(&self) -> &NamespacedName {
        match self {
            Self::Ready(policy) => &policy.key,
            Self::Undecodable(policy) => &policy.key,
        }
    }

    fn applicable(&self) -> Applicable<'_> {
        match self {
            Self::Ready(policy) => Applicable::Ready(policy),
            Self::Undecodable(policy) => Applicable::Undecodable(policy),
        }
    }
}

/// Keeps the order of names, so that the deciding policy does not depend on arrival.
fn insert_sorted(list: &mut Arc<Vec<Entry>>, entry: Entry) {
    let list = Arc::make_mut(list);
    let at = list.partition_point(|known| known.key() < entry.key());
    list.insert(at, entry);
}
