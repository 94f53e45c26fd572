//! What a waypoint was told: what begins to concern it is new to it, and what no longer does is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;

use super::shelf::Resource;

/// One waypoint's view of a shelf.
#[derive(Debug)]
pub(super) struct Reading {
    waypoint: NamespacedName,
    told: HashMap<Arc<str>, Told>,
    /// What no longer concerns it, by the generation of that, until it is said.
    lost: BTreeMap<u64, Arc<str>>,
}

#[derive(Debug)]
struct Told {
    version: Arc<str>,
    lost: Option<u64>,
}

impl Reading {
    pub(super) fn of(waypoint: NamespacedName) -> Self {
        Self {
            waypoint,
            told: HashMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Takes note of a resource that changed at a generation; `held` is the version that the waypoint brought from
    /// an earlier stream. Whether it is to be sent.
    pub(super) fn look(&mut self, at: u64, resource: &Resource, held: Option<&str>) -> bool {
        let readers = resource.readers.as_ref();
        let concerned = readers.is_none_or(|it| it.include(&self.waypoint));
        if let Some(version) = held {
            let told = Told {
                version: version.into(),
                lost: None,
            };
            self.told.insert(resource.name.clone(), told);
        }
        if concerned {
            let told = Told {
                version: resource.version.clone(),
                lost: None,
            };
            let before = self.told.insert(resource.name.clone(), told);
            if let Some(at) = before.as_ref().and_then(|it| it.lost) {
                self.lost.remove(&at);
            }
            return before.is_none_or(|it| it.version != resource.version);
        }
        if let Some(told) = self.told.get_mut(&resource.name)
            && told.lost.is_none()
        {
            told.lost = Some(at);
            self.lost.insert(at, resource.name.clone());
        }
        false
    }

    /// A resource is gone. Whether the waypoint was told of it.
    pub(super) fn forget(&mut self, name: &Arc<str>) -> bool {
        let told = self.told.remove(name);
        if let Some(at) = told.as_ref().and_then(|it| it.lost) {
            self.lost.remove(&at);
        }
        told.is_some()
    }

    /// The next that stopped to concern it, up to a generation: it is gone for the waypoint.
    pub(super) fn lost_until(&mut self, until: u64) -> Option<Arc<str>> {
        let next = self.lost.first_entry().filter(|it| *it.key() <= until)?;
        let name = next.remove();
        self.told.remove(&name);
        Some(name)
    }

    /// Whether some of that is still to be said.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }
}
