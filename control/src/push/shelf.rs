//! The newest state of the resources of each type, in order of their last change.
//!
//! A reader remembers a generation and asks for what is younger: however slow it is, it finds each
//! resource once, in its newest state.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{ByType, ResourceType};
use crate::index::readers::Readers;

/// Removals that are remembered. A reader that is further behind starts over.
const REMEMBERED: usize = 65_536;

/// A resource as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its xDS name.
    pub name: Arc<str>,
    /// A hash of its content.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Bytes,
    /// Other names it is asked for by.
    pub aliases: Vec<Arc<str>>,
    /// The waypoints that it concerns; `None` is everybody.
    pub readers: Option<Arc<Readers>>,
    /// The node of a pod.
    pub node: Option<Arc<str>>,
}

/// What happens to a resource.
#[derive(Debug, Clone)]
pub enum Update {
    /// It is this now.
    Set(Resource),
    /// It is gone.
    Remove(Arc<str>),
}

/// All shelves, under one count of generations.
#[derive(Debug, Default)]
pub struct Shelves {
    generation: u64,
    shelves: ByType<Shelf>,
}

impl Shelves {
    /// The generation of the last change; 0 when there was none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The shelf of a type.
    #[must_use]
    pub fn of(&self, of: ResourceType) -> &Shelf {
        &self.shelves[of]
    }

    /// Applies an update as a generation of its own.
    pub fn update(&mut self, of: ResourceType, update: Update) {
        self.generation += 1;
        self.shelves[of].update(update, self.generation);
    }
}

/// The resources of one type.
#[derive(Debug, Default)]
pub struct Shelf {
    resources: HashMap<Arc<str>, (u64, Resource)>,
    aliases: HashMap<Arc<str>, Arc<str>>,
    present: BTreeMap<u64, Arc<str>>,
    removed: BTreeMap<u64, Arc<str>>,
    removed_at: HashMap<Arc<str>, u64>,
    forgotten: u64,
}

impl Shelf {
    fn update(&mut self, update: Update, generation: u64) {
        match update {
            Update::Set(resource) => {
                let name = resource.name.clone();
                self.take(&name);
                if let Some(at) = self.removed_at.remove(&name) {
                    self.removed.remove(&at);
                }
                for alias in &resource.aliases {
                    self.aliases.insert(alias.clone(), name.clone());
                }
                self.present.insert(generation, name.clone());
                self.resources.insert(name, (generation, resource));
            }
            Update::Remove(name) => {
                if !self.take(&name) {
                    return;
                }
                self.removed.insert(generation, name.clone());
                self.removed_at.insert(name, generation);
                if self.removed.len() > REMEMBERED
                    && let Some((at, name)) = self.removed.pop_first()
                {
                    self.removed_at.remove(&name);
                    self.forgotten = at;
                }
            }
        }
    }

    fn take(&mut self, name: &Arc<str>) -> bool {
        let Some((at, old)) = self.resources.remove(name) else {
            return false;
        };
        self.present.remove(&at);
        for alias in &old.aliases {
            // Another resource may have taken over the address.
            if self.aliases.get(alias) == Some(name) {
                self.aliases.remove(alias);
            }
        }
        true
    }

    /// Resources that changed after a generation, the one that changed longest ago first.
    pub fn present_after(&self, generation: u64) -> impl Iterator<Item = (u64, &Resource)> {
        self.present
            .range((Bound::Excluded(generation), Bound::Unbounded))
            .map(|(at, name)| (*at, &self.resources[name].1))
    }

    /// Names that were removed after a generation and are not there.
    pub fn removed_after(&self, generation: u64) -> impl Iterator<Item = (u64, &Arc<str>)> {
        self.removed
            .range((Bound::Excluded(generation), Bound::Unbounded))
            .map(|(at, name)| (*at, name))
    }

    /// Removals up to this generation may be forgotten.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A resource by its name or by an alias.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Resource> {
        let name = self.aliases.get(name).map_or(name, |name| name);
        self.resources.get(name).map(|(_, resource)| resource)
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shelves: &mut Shelves, name: &str, version: &str) {
        let resource = Resource {
            name: name.into(),
            version: version.into(),
            body: Bytes::new(),
            aliases: vec!["/10.0.0.1".into()],
            readers: None,
            node: None,
        };
        shelves.update(ResourceType::Address, Update::Set(resource));
    }

    fn after(shelf: &Shelf, generation: u64) -> (Vec<String>, Vec<String>) {
        let present = shelf.present_after(generation);
        let removed = shelf.removed_after(generation);
        (
            present
                .map(|(_, r)| format!("{}={}", r.name, r.version))
                .collect(),
            removed.map(|(_, name)| name.to_string()).collect(),
        )
    }

    #[test]
    fn a_reader_finds_each_resource_once_in_its_newest_state() {
        let mut shelves = Shelves::default();
        set(&mut shelves, "a", "1");
        set(&mut shelves, "b", "1");
        set(&mut shelves, "a", "2");
        let remove = |name: &str| Update::Remove(name.into());
        shelves.update(ResourceType::Address, remove("b"));
        let shelf = shelves.of(ResourceType::Address);
        assert_eq!(after(shelf, 0), (vec!["a=2".into()], vec!["b".into()]));
        assert_eq!(after(shelf, 3), (vec![], vec!["b".into()]));
        assert_eq!(after(shelf, 4), (vec![], vec![]));
        set(&mut shelves, "b", "2");
        let shelf = shelves.of(ResourceType::Address);
        assert_eq!(after(shelf, 3), (vec!["b=2".into()], vec![]));
    }

    #[test]
    fn an_address_that_moved_is_found_at_its_new_owner() {
        let mut shelves = Shelves::default();
        set(&mut shelves, "a", "1");
        set(&mut shelves, "b", "1");
        shelves.update(ResourceType::Address, Update::Remove("a".into()));
        let found = shelves.of(ResourceType::Address).find("/10.0.0.1");
        assert_eq!(found.map(|r| &*r.name), Some("b"));
    }

    #[test]
    fn memory_for_removals_is_bounded() {
        let mut shelves = Shelves::default();
        for n in 0..=REMEMBERED {
            let name = n.to_string();
            set(&mut shelves, &name, "1");
            shelves.update(ResourceType::Address, Update::Remove(name.into()));
        }
        let shelf = shelves.of(ResourceType::Address);
        assert_eq!(shelf.removed.len(), REMEMBERED);
        assert_eq!(shelf.forgotten(), 2);
    }
}
