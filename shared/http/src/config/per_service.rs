//! Objects of which one counts for a service port: one that names the port before one that does not,
//! then the first by name.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;

use super::Map;
use crate::model::{BackendTls, TrafficPolicy};

/// An object for a service.
pub(super) trait ForService {
    fn key(&self) -> &NamespacedName;
    fn service(&self) -> &NamespacedName;
    fn port(&self) -> Option<u16>;
}

impl ForService for TrafficPolicy {
    fn key(&self) -> &NamespacedName {
        &self.key
    }

    fn service(&self) -> &NamespacedName {
        &self.service
    }

    fn port(&self) -> Option<u16> {
        self.port
    }
}

impl ForService for BackendTls {
    fn key(&self) -> &NamespacedName {
        &self.key
    }

    fn service(&self) -> &NamespacedName {
        &self.service
    }

    fn port(&self) -> Option<u16> {
        self.port
    }
}

#[derive(Debug, Clone)]
pub(super) struct PerService<T> {
    services: Map<NamespacedName, NamespacedName>,
    objects: Map<NamespacedName, Arc<Vec<Arc<T>>>>,
}

impl<T> Default for PerService<T> {
    fn default() -> Self {
        Self {
            services: Map::default(),
            objects: Map::default(),
        }
    }
}

impl<T: ForService> PerService<T> {
    pub(super) fn set(&mut self, object: Arc<T>) {
        self.remove(object.key());
        let (key, service) = (object.key().clone(), object.service().clone());
        let mut list = self.objects.get(&service).cloned().unwrap_or_default();
        let objects = Arc::make_mut(&mut list);
        objects.push(object);
        objects.sort_by(|a, b| (a.port().is_none(), a.key()).cmp(&(b.port().is_none(), b.key())));
        self.objects.insert_mut(service.clone(), list);
        self.services.insert_mut(key, service);
    }

    pub(super) fn remove(&mut self, key: &NamespacedName) {
        let Some(service) = self.services.get(key).cloned() else {
            return;
        };
        self.services.remove_mut(key);
        if let Some(mut list) = self.objects.get(&service).cloned() {
            Arc::make_mut(&mut list).retain(|known| known.key() != key);
            if list.is_empty() {
                self.objects.remove_mut(&service);
            } else {
                self.objects.insert_mut(service, list);
            }
        }
    }

    /// The object of this name.
    pub(super) fn of(&self, key: &NamespacedName) -> Option<Arc<T>> {
        let list = self.objects.get(self.services.get(key)?)?;
        list.iter().find(|known| known.key() == key).cloned()
    }

    pub(super) fn find(&self, service: &NamespacedName, port: u16) -> Option<&Arc<T>> {
        // Most waypoints have none, and each request asks.
        if self.objects.is_empty() {
            return None;
        }
        let list = self.objects.get(service)?;
        list.iter().find(|it| it.port().is_none_or(|it| it == port))
    }
}
