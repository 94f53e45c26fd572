//! How many retries a service may see: a share of its requests, so that retries never multiply an
//! outage.

use std::time::{Duration, Instant};

use crate::model::traffic::RetryBudget;

/// Parts of the window; what is older than all of them is forgotten part by part.
const PARTS: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Requests and retries of a service in a sliding window.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: RetryBudget,
    start: Instant,
    parts: [Part; PARTS],
    /// Retries of the second that began then.
    second: (Instant, u32),
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which part of time it is: the number of parts since the start.
    number: u64,
    requests: u32,
    retries: u32,
}

impl Budget {
    /// Nothing has been seen.
    #[must_use]
    pub fn new(limit: RetryBudget, now: Instant) -> Self {
        Self {
            limit,
            start: now,
            parts: [Part::default(); PARTS],
            second: (now, 0),
        }
    }

    /// Other limits, the same memory unless the window is another.
    pub fn reconfigure(&mut self, limit: &RetryBudget, now: Instant) {
        if limit.interval != self.limit.interval {
            *self = Self::new(limit.clone(), now);
        } else if *limit != self.limit {
            self.limit = limit.clone();
        }
    }

    /// A request has come (not a retry of it).
    pub fn on_request(&mut self, now: Instant) {
        let part = self.part(now);
        part.requests = part.requests.saturating_add(1);
    }

    /// Whether a retry may be made; it is counted if so.
    pub fn try_retry(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second.0) >= SECOND {
            self.second = (now, 0);
        }
        if self.second.1 >= self.limit.min_per_second && !self.share_left(now) {
            return false;
        }
        self.second.1 += 1;
        let part = self.part(now);
        part.retries = part.retries.saturating_add(1);
        true
    }

    fn share_left(&self, now: Instant) -> bool {
        let newest = self.number(now);
        let live = self
            .parts
            .iter()
            .filter(|part| part.number + PARTS as u64 > newest);
        let (requests, retries) = live.fold((0u64, 0u64), |(requests, retries), part| {
            (
                requests + u64::from(part.requests),
                retries + u64::from(part.retries),
            )
        });
        (retries + 1) * 100 <= requests * u64::from(self.limit.percent)
    }

    fn part(&mut self, now: Instant) -> &mut Part {
        let number = self.number(now);
        let part = &mut self.parts[(number % PARTS as u64) as usize];
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part
    }

    fn number(&self, now: Instant) -> u64 {
        let length = (self.limit.interval.as_micros() / PARTS as u128).max(1);
        let passed = now.saturating_duration_since(self.start).as_micros();
        u64::try_from(passed / length).unwrap_or(u64::MAX - PARTS as u64)
    }
}
