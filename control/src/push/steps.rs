//! When the next step of what goes step by step is due: all proxies know the last.

use std::cell::LazyCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connections::Connections;
use crate::engine::State;

/// Who does not answer for so long is waited for no more: a proxy that hangs keeps nobody from a waypoint, or from leaving it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers that come in this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How many proxies that do not answer are named.
const SHOWN: usize = 20;

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
        let mut steps: BTreeMap<(u64, bool), Vec<NamespacedName>> = BTreeMap::new();
        for step in state.index().steps() {
            let alike = steps.entry((step.told, step.leaves)).or_default();
            alike.push(step.service);
        }
        self.note(state, steps.keys().next().map(|(told, _)| *told));
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
            if let Ok(Ok(())) = timeout_at(next, changes.changed()).await {
                // Many answer at the same time.
                sleep_until(next.min(Instant::now() + TOGETHER)).await;
            }
        }
    }

    /// Notes what was told by now, and forgets what was told before `first`.
    fn note(&mut self, state: &State, first: Option<u64>) {
        let told = state.index().told();
        if self.noted.back().is_none_or(|last| last.told < told) {
            self.noted.push_back(Noted {
                told,
                generation: state.shelves().generation(),
                at: Instant::now(),
            });
        }
        while let Some(noted) = self.noted.front()
            && first.is_none_or(|first| noted.told < first)
        {
            self.noted.pop_front();
        }
    }

    /// The services whose next step is due now, and when to look again.
    fn look(
        &self,
        steps: &BTreeMap<(u64, bool), Vec<NamespacedName>>,
    ) -> (Vec<NamespacedName>, Instant) {
        let now = Instant::now();
        let proxies = LazyCell::new(|| self.connections.proxies());
        let (mut due, mut next) = (Vec::new(), now + PATIENCE);
        for ((told, leaves), services) in steps {
            let at = self.noted.partition_point(|it| it.told < *told);
            let noted = self.noted.get(at).expect("what was told was noted");
            let least = match leaves {
                true => self.pace.leaves,
                false => self.pace.arrives,
            };
            let (from, until) = (noted.at + least, noted.at + least + PATIENCE);
            if now < from {
                next = next.min(from);
                continue;
            }
            let late = proxies.iter().filter(|it| !it.settled(noted.generation));
            let late: Vec<_> = late.map(|it| &it.node).collect();
            if !late.is_empty() && now < until {
                next = next.min(until);
                continue;
            }
            if !late.is_empty() {
                tracing::warn!(
                    services = services.len(),
                    service = %services[0],
                    proxies = late.len(),
                    late = ?&late[..late.len().min(SHOWN)],
                    "services change their waypoint although proxies do not answer: some of their calls may be refused"
                );
            }
            due.extend_from_slice(services);
        }
        (due, next)
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
