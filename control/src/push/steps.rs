//! When the next step of what goes step by step is due: all proxies know the last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use tokio::time::{Instant, timeout_at};

use super::connections::Connections;
use crate::engine::State;
use crate::index::Step;

/// Who does not answer for so long is waited for no more: a proxy that hangs keeps nobody from a waypoint, or from leaving it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long steps last at least.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until calls are sent to who takes them. What another replica of the control plane tells is known then.
    pub arrives: Duration,
    /// Until who is sent no more calls takes none: what was on its way has arrived, and what runs has its answer.
    pub leaves: Duration,
}

/// Waits for the proxies that are connected.
#[derive(Debug)]
pub struct Steps {
    connections: Arc<Connections>,
    pace: Pace,
    /// The oldest first.
    noted: VecDeque<Noted>,
}

/// What was told by then.
#[derive(Debug)]
struct Noted {
    /// The index's count.
    told: u64,
    /// The generation that includes it.
    generation: u64,
    at: Instant,
}

impl Steps {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(connections: Arc<Connections>, pace: Pace) -> Self {
        Self {
            connections,
            pace,
            noted: VecDeque::new(),
        }
    }

    /// Waits until the next step of some services is due, and gives these. For ever while nothing goes step by step: it is
    /// to be dropped when something else was told, and called again.
    pub async fn due(&mut self, state: &State) -> Vec<NamespacedName> {
        let steps = state.index().steps();
        self.note(state, &steps);
        if steps.is_empty() {
            return std::future::pending().await;
        }
        let mut changes = self.connections.changes();
        loop {
            changes.borrow_and_update();
            let (due, next) = self.look(&steps);
            if !due.is_empty() {
                return due;
            }
            // Either comes first.
            let _ = timeout_at(next, changes.changed()).await;
        }
    }

    /// Notes what was told by now, and forgets what nobody waits for.
    fn note(&mut self, state: &State, steps: &[Step]) {
        let told = state.index().told();
        if self.noted.back().is_none_or(|last| last.told < told) {
            self.noted.push_back(Noted {
                told,
                generation: state.shelves().generation(),
                at: Instant::now(),
            });
        }
        let first = steps.iter().map(|step| step.told).min();
        while let Some(noted) = self.noted.front()
            && first.is_none_or(|first| noted.told < first)
        {
            self.noted.pop_front();
        }
    }

    /// The services whose next step is due now, and when to look again.
    fn look(&self, steps: &[Step]) -> (Vec<NamespacedName>, Instant) {
        let now = Instant::now();
        let proxies = self.connections.proxies();
        let (mut due, mut next) = (Vec::new(), now + PATIENCE);
        for step in steps {
            let noted = self.noted.iter().find(|it| it.told >= step.told);
            let noted = noted.expect("what was told was noted");
            let least = match step.leaves {
                true => self.pace.leaves,
                false => self.pace.arrives,
            };
            let (from, until) = (noted.at + least, noted.at + least + PATIENCE);
            let late = || proxies.iter().filter(|it| !it.settled(noted.generation));
            if now < from {
                next = next.min(from);
            } else if late().next().is_none() {
                due.push(step.service.clone());
            } else if now < until {
                next = next.min(until);
            } else {
                tracing::warn!(
                    service = %step.service,
                    late = ?late().map(|it| &it.node).collect::<Vec<_>>(),
                    "the service changes its waypoint although these proxies do not answer: some of their calls may be refused"
                );
                due.push(step.service.clone());
            }
        }
        (due, next)
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
