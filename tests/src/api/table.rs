//! The objects of one kind, by namespace and name, with a note of what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Names one object of a kind. The namespace is empty for kinds without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The object `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key that an object's metadata says.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return formatter.write_str(&self.name);
        }
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Table<T> {
    objects: BTreeMap<Key, T>,
    changed: BTreeSet<Key>,
    changes: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            changed: BTreeSet::new(),
            changes: 0,
        }
    }
}

impl<T: Metadata<Ty = ObjectMeta> + Clone + PartialEq> Table<T> {
    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.objects.get(key)
    }

    /// Whether there is such an object.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// All objects, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.objects.iter()
    }

    /// The objects of one namespace.
    pub fn within<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a T> {
        self.objects
            .iter()
            .filter(move |(key, _)| key.namespace == namespace)
            .map(|(_, it)| it)
    }

    /// Stores `object`; nothing happens when it is what is there.
    pub fn put(&mut self, object: T) {
        let key = Key::of(object.metadata());
        if self.objects.get(&key) == Some(&object) {
            return;
        }
        self.note(&key);
        self.objects.insert(key, object);
    }

    /// Changes an object in place.
    pub fn update(&mut self, key: &Key, change: impl FnOnce(&mut T)) {
        let Some(current) = self.objects.get(key) else {
            return;
        };
        let mut object = current.clone();
        change(&mut object);
        self.put(object);
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &Key) -> Option<T> {
        let removed = self.objects.remove(key);
        if removed.is_some() {
            self.note(key);
        }
        removed
    }

    /// How often something changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The keys of what changed since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    fn note(&mut self, key: &Key) {
        self.changes += 1;
        self.changed.insert(key.clone());
    }
}
