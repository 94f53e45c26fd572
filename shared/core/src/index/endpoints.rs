//! The endpoints of one service: constant-time choice of any, exact update and removal by uid.

use std::sync::Arc;

use super::Map;
use crate::model::{Health, PortMapping, Workload};

/// A workload as an endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    workload: Arc<Workload>,
    service: usize,
}

impl Endpoint {
    /// The workload.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// The ports it serves the service on.
    #[must_use]
    pub fn ports(&self) -> &[PortMapping] {
        self.workload
            .services
            .get(self.service)
            .map_or(&[], |(_, ports)| ports)
    }
}

/// The endpoints of one service. Healthy ones come first in [`Endpoints::get`]'s order.
#[derive(Clone, Default)]
pub struct Endpoints {
    healthy: rpds::VectorSync<Endpoint>,
    unhealthy: rpds::VectorSync<Endpoint>,
    positions: Map<Arc<str>, Position>,
    weighted: usize,
    version: u64,
}

#[derive(Clone, Copy)]
struct Position {
    health: Health,
    at: usize,
}

impl Endpoints {
    /// Differs between any two states of a service's endpoints in one index and its later versions:
    /// what was made from them is good for as long as this is the same.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many there are, healthy or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.healthy.len() + self.unhealthy.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many want new connections.
    #[must_use]
    pub fn healthy_len(&self) -> usize {
        self.healthy.len()
    }

    /// Whether all have the same share: no capacity but 1.
    #[must_use]
    pub fn uniform(&self) -> bool {
        self.weighted == 0
    }

    /// One by position, in constant time. The first [`Endpoints::healthy_len`] are healthy.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Endpoint> {
        match at.checked_sub(self.healthy.len()) {
            None => self.healthy.get(at),
            Some(at) => self.unhealthy.get(at),
        }
    }

    /// One by the uid of its workload.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<&Endpoint> {
        let position = self.positions.get(uid)?;
        self.side(position.health).get(position.at)
    }

    /// All, healthy ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.healthy.iter().chain(self.unhealthy.iter())
    }

    /// Adds the workload's `service`-th service, or replaces what is known of this uid.
    pub(super) fn put(&mut self, workload: &Arc<Workload>, service: usize, version: u64) {
        self.version = version;
        let endpoint = Endpoint {
            workload: workload.clone(),
            service,
        };
        if let Some(position) = self.positions.get(&workload.uid).copied()
            && position.health == workload.health
        {
            let side = self.side_mut(position.health);
            let old = side.get(position.at).map_or(1, |e| e.workload.capacity);
            side.set_mut(position.at, endpoint);
            self.weighted -= usize::from(old != 1);
            self.weighted += usize::from(workload.capacity != 1);
            return;
        }
        self.remove(&workload.uid, version);
        self.weighted += usize::from(workload.capacity != 1);
        let side = self.side_mut(workload.health);
        let at = side.len();
        side.push_back_mut(endpoint);
        let health = workload.health;
        self.positions
            .insert_mut(workload.uid.clone(), Position { health, at });
    }

    /// Removes the endpoint of this uid, if there is one; the last of its side takes its place.
    pub(super) fn remove(&mut self, uid: &str, version: u64) {
        self.version = version;
        let Some(Position { health, at }) = self.positions.get(uid).copied() else {
            return;
        };
        self.positions.remove_mut(uid);
        let side = self.side_mut(health);
        let Some(removed) = side.get(at).cloned() else {
            return;
        };
        let last = side.last().cloned();
        side.drop_last_mut();
        if let Some(last) = last.filter(|last| last.workload.uid != removed.workload.uid) {
            let moved = last.workload.uid.clone();
            side.set_mut(at, last);
            self.positions.insert_mut(moved, Position { health, at });
        }
        self.weighted -= usize::from(removed.workload.capacity != 1);
    }

    fn side(&self, health: Health) -> &rpds::VectorSync<Endpoint> {
        match health {
            Health::Healthy => &self.healthy,
            Health::Unhealthy => &self.unhealthy,
        }
    }

    fn side_mut(&mut self, health: Health) -> &mut rpds::VectorSync<Endpoint> {
        match health {
            Health::Healthy => &mut self.healthy,
            Health::Unhealthy => &mut self.unhealthy,
        }
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|endpoint| &endpoint.workload.uid))
            .finish()
    }
}
