//! The one task that changes the index and the shelves, and the state that everyone else reads.

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, watch};

use crate::index::{Change, Index};
use crate::push::encode::encode;
use crate::push::shelf::Shelves;
use crate::push::steps::Steps;
use crate::source::{Batch, Delivery, Origin, Problem};
use crate::translate::{Mesh, unselected};

/// What the control plane knows. Locks are held for moments, never across an await.
#[derive(Debug)]
pub struct State {
    index: RwLock<Index>,
    shelves: RwLock<Shelves>,
    source: RwLock<SourceReport>,
    changed: watch::Sender<u64>,
    batches: watch::Sender<u64>,
    loaded: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone)]
struct SourceReport {
    problems: Vec<Problem>,
    unhandled: Vec<Problem>,
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(mesh: Mesh) -> Self {
        Self {
            index: RwLock::new(Index::new(mesh)),
            shelves: RwLock::default(),
            source: RwLock::default(),
            changed: watch::channel(0).0,
            batches: watch::channel(0).0,
            loaded: watch::channel(false).0,
        }
    }

    /// Takes in a batch; its changes become visible all at once. Gives the generation they led to.
    pub fn apply(&self, batch: Batch) -> u64 {
        let before = self.problems();
        let generation = {
            // Whoever sees what is so sees it on the shelves as well.
            let mut index = self.index.write();
            let changes = index.apply(batch.events);
            self.publish(&changes)
        };
        *self.source.write() = SourceReport {
            problems: batch.problems,
            unhandled: batch.unhandled,
        };
        for problem in self.problems() {
            if !before.contains(&problem) {
                tracing::warn!(
                    file = %problem.origin.file,
                    document = problem.origin.document,
                    line = problem.origin.line,
                    object = %problem.object,
                    error = %problem.error,
                    "an object has a problem"
                );
            }
        }
        self.batches.send_modify(|count| *count += 1);
        self.loaded.send_replace(true);
        generation
    }

    /// Takes services on their way from or to a waypoint, see [`Index::advance`].
    pub fn advance(&self, services: &[NamespacedName]) {
        let mut index = self.index.write();
        let changes = index.advance(services);
        self.publish(&changes);
    }

    fn publish(&self, changes: &[Change]) -> u64 {
        let updates: Vec<_> = changes.iter().map(encode).collect();
        let generation = {
            let mut shelves = self.shelves.write();
            for (of, update) in updates {
                shelves.update(of, update);
            }
            shelves.generation()
        };
        if !changes.is_empty() {
            tracing::info!(changes = changes.len(), generation, "configuration changed");
            self.changed.send_replace(generation);
        }
        generation
    }

    /// Objects and the resources that follow from them.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    /// Resources as they are pushed.
    pub fn shelves(&self) -> RwLockReadGuard<'_, Shelves> {
        self.shelves.read()
    }

    /// All that is wrong now: what could not be read, and what was read and makes no sense.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.source.read().problems.clone();
        problems.extend(self.index.read().problems());
        problems.sort();
        problems
    }

    /// The objects that cannot be read as they are now, as far as their names are known.
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        let source = self.source.read();
        source.problems.iter().map(|it| it.object.clone()).collect()
    }

    /// What has no effect (yet), and what authors may not expect. Looks at every pod.
    #[must_use]
    pub fn notices(&self) -> Vec<Problem> {
        let mut notices = self.source.read().unhandled.clone();
        let index = self.index.read();
        notices.extend(index.notices());
        let unselected = unselected::notices(index.objects(), index.mesh()).into_iter();
        notices.extend(unselected.map(|(key, error)| Problem {
            origin: Origin::default(),
            object: key.to_string(),
            error,
        }));
        notices.sort();
        notices
    }

    /// Wakes when there is something to push.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes when a batch was applied, also one that nothing is pushed of.
    #[must_use]
    pub fn batches(&self) -> watch::Receiver<u64> {
        self.batches.subscribe()
    }

    /// Turns true when the first batch was applied.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }
}

/// Applies deliveries until the sources are gone, and takes services on their way in between.
pub async fn run(state: Arc<State>, mut deliveries: mpsc::Receiver<Delivery>, mut steps: Steps) {
    loop {
        tokio::select! {
            delivery = deliveries.recv() => {
                let Some(Delivery { batch, applied }) = delivery else { return };
                let generation = state.apply(batch);
                // A source that does not wait for the answer is fine.
                let _ = applied.send(generation);
            }
            services = steps.due(&state) => state.advance(&services),
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
