//! The attempts of one request: whether a failed one is made again, when, and what may be replayed.
//!
//! Once a byte of a response has gone to the client there is no other attempt, whatever happens.

mod budget;
mod outcome;
mod replay;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::balance::Picker;

use crate::model::route::Retry;
use crate::refusal::Flag;
use crate::timeout::{Limits, earlier};

pub use budget::Budget;
pub use outcome::{Outcome, grpc_as_http};
pub use replay::{DEFAULT_REPLAY, Replay};

/// Attempts after the first, where no route says otherwise.
const DEFAULT_ATTEMPTS: u32 = 2;
/// The first wait is up to this long, the next up to twice that.
const BASE: Duration = Duration::from_millis(25);
/// Waits grow up to that many times the first.
const GROWTH: u32 = 10;

/// When a failed attempt is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Policy {
    /// Only what the backend has certainly not acted on.
    Unseen,
    /// Any failure of the connection, and these statuses (GEP-1731).
    Route(Retry),
}

/// One request and its attempts.
#[derive(Debug)]
pub struct Attempts {
    policy: Policy,
    deadline: Option<Instant>,
    limit: Option<Duration>,
    made: u32,
    tried: Vec<Arc<str>>,
    response_began: bool,
}

/// One attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// 1 is the first.
    pub number: u32,
    /// When it counts as [`Outcome::TimedOut`].
    pub deadline: Option<Instant>,
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Make another one then, on an endpoint that is not in [`Attempts::tried`] if there is one.
    Retry {
        #[allow(missing_docs)]
        at: Instant,
    },
    /// It stands: a response goes to the client, a failure is answered with
    /// [`Outcome::refusal`] and this flag.
    Finish(Flag),
}

impl Attempts {
    /// For a request whose head arrived at `now`. `retry` is the rule's; `None` is the mesh's
    /// default.
    #[must_use]
    pub fn new(retry: Option<&Retry>, limits: Limits, now: Instant) -> Self {
        Self {
            policy: retry.map_or(Policy::Unseen, |retry| Policy::Route(retry.clone())),
            deadline: limits.request.and_then(|limit| now.checked_add(limit)),
            limit: limits.attempt,
            made: 0,
            tried: Vec::new(),
            response_began: false,
        }
    }

    /// An attempt starts on the workload `uid`.
    pub fn begin(&mut self, uid: &Arc<str>, now: Instant) -> Attempt {
        self.made += 1;
        if !self.tried.contains(uid) {
            self.tried.push(uid.clone());
        }
        let own = self.limit.and_then(|limit| now.checked_add(limit));
        Attempt {
            number: self.made,
            deadline: earlier(self.deadline, own),
        }
    }

    /// When the request as a whole is given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Workloads that had an attempt.
    #[must_use]
    pub fn tried(&self) -> &[Arc<str>] {
        &self.tried
    }

    /// Attempts that were begun.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Whether any outcome could lead to another attempt: if not, nothing has to be kept for it.
    #[must_use]
    pub fn another_is_possible(&self) -> bool {
        !self.response_began && self.made <= self.most()
    }

    /// A byte of a response has gone to the client (an interim response is not one).
    pub fn response_began(&mut self) {
        self.response_began = true;
    }

    /// An attempt has ended, or its response's head has arrived. `replayable`: all that was sent of
    /// the body can be sent again (see [`Replay`]). `budget` is the service's, and another attempt
    /// is charged to it.
    pub fn on_result(
        &mut self,
        outcome: &Outcome,
        replayable: bool,
        now: Instant,
        budget: &mut Budget,
        picker: &mut impl Picker,
    ) -> Verdict {
        if self.response_began || !self.wants(outcome) {
            return Verdict::Finish(outcome.flag());
        }
        if self.made > self.most() {
            let retried = self.made > 1;
            return Verdict::Finish(match retried {
                true => Flag::RetriesExhausted,
                false => outcome.flag(),
            });
        }
        let at = now + self.wait(picker);
        let late = self.deadline.is_some_and(|deadline| at >= deadline);
        if !replayable || late {
            return Verdict::Finish(outcome.flag());
        }
        match budget.try_retry(now) {
            true => Verdict::Retry { at },
            false => Verdict::Finish(Flag::UpstreamOverflow),
        }
    }

    fn wants(&self, outcome: &Outcome) -> bool {
        match (&self.policy, outcome) {
            _ if outcome.is_unseen() => true,
            (Policy::Unseen, _) => false,
            (Policy::Route(retry), Outcome::Response { .. }) => outcome
                .status()
                .is_some_and(|status| retry.codes.contains(&status)),
            (Policy::Route(_), _) => true,
        }
    }

    fn most(&self) -> u32 {
        match &self.policy {
            Policy::Unseen => DEFAULT_ATTEMPTS,
            Policy::Route(retry) => retry.attempts,
        }
    }

    /// Drawn from the whole of a step that doubles ("full jitter"), on top of what the route wants
    /// at least.
    fn wait(&self, picker: &mut impl Picker) -> Duration {
        let least = match &self.policy {
            Policy::Unseen => Duration::ZERO,
            Policy::Route(retry) => retry.backoff,
        };
        let base = if least.is_zero() { BASE } else { least };
        let growth = 1u32
            .checked_shl(self.made.saturating_sub(1))
            .map_or(GROWTH, |growth| growth.clamp(1, GROWTH));
        let step = base.saturating_mul(growth);
        let step = u32::try_from(step.as_micros()).unwrap_or(u32::MAX - 1);
        let drawn = picker.next(step.saturating_add(1));
        least.saturating_add(Duration::from_micros(u64::from(drawn)))
    }
}
