//! Who claims a key. Almost always one; several while addresses move between pods or when
//! services share a hostname.

use std::sync::Arc;

use super::Map;
use crate::model::{Service, Workload};

/// The claimants of one key, the latest first.
#[derive(Clone)]
pub(super) enum Holders<T> {
    One(T),
    Many(Arc<[T]>),
}

/// Two values of the same resource, perhaps of different versions.
pub(super) trait Same {
    fn same(&self, other: &Self) -> bool;
}

impl Same for Arc<Workload> {
    fn same(&self, other: &Self) -> bool {
        self.uid == other.uid
    }
}

impl Same for Arc<Service> {
    fn same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T: Clone + Same> Holders<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn put(&mut self, value: T) {
        let mut all = self.as_slice().to_vec();
        match all.iter_mut().find(|held| held.same(&value)) {
            Some(held) => *held = value,
            None => all.insert(0, value),
        }
        self.set(all);
    }

    fn set(&mut self, mut all: Vec<T>) {
        *self = if all.len() == 1 {
            Self::One(all.remove(0))
        } else {
            Self::Many(all.into())
        };
    }
}

/// Adds a claim, or replaces the value of one that stands and keeps its place.
pub(super) fn hold<K, T>(map: &mut Map<K, Holders<T>>, key: K, value: T)
where
    K: Eq + std::hash::Hash + Clone,
    T: Clone + Same,
{
    match map.get_mut(&key) {
        Some(Holders::One(held)) if held.same(&value) => *held = value,
        Some(holders) => holders.put(value),
        None => map.insert_mut(key, Holders::One(value)),
    }
}

/// Takes exactly this claim back; others stand.
pub(super) fn release<K, T>(map: &mut Map<K, Holders<T>>, key: &K, value: &T)
where
    K: Eq + std::hash::Hash + Clone,
    T: Clone + Same,
{
    let Some(holders) = map.get(key) else { return };
    let mut rest = holders.as_slice().to_vec();
    rest.retain(|held| !held.same(value));
    if rest.is_empty() {
        map.remove_mut(key);
    } else if let Some(holders) = map.get_mut(key) {
        holders.set(rest);
    }
}
