//! Whether the process may be sent traffic: it is ready once every task it named is done.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// The tasks that are still to be done. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

impl Readiness {
    /// Adds a task; it is done when the guard is dropped.
    #[must_use]
    pub fn task(&self, name: &'static str) -> Task {
        self.0.lock().insert(name);
        Task {
            name,
            readiness: self.clone(),
        }
    }

    /// The tasks that are still to be done.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.0.lock().iter().copied().collect()
    }

    /// Whether all tasks are done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Something that must happen before the process is ready.
#[derive(Debug)]
pub struct Task {
    name: &'static str,
    readiness: Readiness,
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut pending = self.readiness.0.lock();
        pending.remove(self.name);
        tracing::info!(task = self.name, still_pending = ?pending, "task is done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_task_is_done() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready(), "nothing was asked for");
        let (a, b) = (readiness.task("a"), readiness.task("b"));
        assert_eq!(readiness.pending(), ["a", "b"]);
        drop(b);
        assert_eq!(readiness.pending(), ["a"]);
        drop(a);
        assert!(readiness.is_ready());
    }
}
