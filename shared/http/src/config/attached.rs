//! Objects by what they are attached to.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;

use super::{Map, Scope};
use crate::model::{Policy, RequestAuthentication, Target};

/// An object with a name and targets.
pub(super) trait Attachable {
    fn key(&self) -> &NamespacedName;
    fn targets(&self) -> &[Target];
}

impl Attachable for Policy {
    fn key(&self) -> &NamespacedName {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }
}

impl Attachable for RequestAuthentication {
    fn key(&self) -> &NamespacedName {
        &self.key
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// Objects, by name and by target; those of a target in the order of their names.
#[derive(Debug, Clone)]
pub(super) struct Attached<T> {
    all: Map<NamespacedName, Arc<T>>,
    by_target: Map<Target, Arc<Vec<Arc<T>>>>,
}

impl<T> Default for Attached<T> {
    fn default() -> Self {
        Self {
            all: Map::default(),
            by_target: Map::default(),
        }
    }
}

impl<T: Attachable> Attached<T> {
    pub(super) fn set(&mut self, object: Arc<T>) {
        self.remove(object.key());
        for target in object.targets() {
            let mut list = self.by_target.get(target).cloned().unwrap_or_default();
            let objects = Arc::make_mut(&mut list);
            let at = objects.partition_point(|known| known.key() < object.key());
            if objects
                .get(at)
                .is_none_or(|known| known.key() != object.key())
            {
                objects.insert(at, object.clone());
            }
            self.by_target.insert_mut(target.clone(), list);
        }
        self.all.insert_mut(object.key().clone(), object);
    }

    pub(super) fn remove(&mut self, key: &NamespacedName) {
        let Some(object) = self.all.get(key).cloned() else {
            return;
        };
        self.all.remove_mut(key);
        for target in object.targets() {
            let Some(mut list) = self.by_target.get(target).cloned() else {
                continue;
            };
            Arc::make_mut(&mut list).retain(|known| known.key() != key);
            if list.is_empty() {
                self.by_target.remove_mut(target);
            } else {
                self.by_target.insert_mut(target.clone(), list);
            }
        }
    }

    pub(super) fn targets(&self, key: &NamespacedName) -> Option<Vec<Target>> {
        Some(self.all.get(key)?.targets().to_vec())
    }

    /// Each object that is attached to something in the scope, once.
    pub(super) fn within<'a>(&'a self, scope: Scope<'a>) -> impl Iterator<Item = &'a Arc<T>> {
        let lists = match self.by_target.is_empty() {
            // Most services have no such object, and each request asks.
            true => Vec::new(),
            false => self.lists(scope),
        };
        let earlier = lists.clone();
        lists
            .into_iter()
            .enumerate()
            .flat_map(move |(index, list)| {
                let earlier = earlier[..index].to_vec();
                list.iter().filter(move |object| {
                    !earlier
                        .iter()
                        .any(|list| list.iter().any(|known| known.key() == object.key()))
                })
            })
    }

    /// Of each target in the scope, the widest first.
    fn lists(&self, scope: Scope<'_>) -> Vec<&[Arc<T>]> {
        let wide = [Target::Mesh, Target::Waypoint(scope.waypoint.clone())];
        let services = scope.services.iter().cloned().map(Target::Service);
        wide.into_iter()
            .chain(services)
            .filter_map(|target| self.by_target.get(&target))
            .map(|list| list.as_slice())
            .collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.all.values()
    }
}
