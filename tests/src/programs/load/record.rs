//! What one thread has seen: latencies, bytes and failures.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::failure::Failure;

/// Failures by kind.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(super) struct Errors {
    /// All of them.
    pub(super) total: u64,
    /// How many of each kind.
    pub(super) kinds: BTreeMap<String, u64>,
    /// The whole text of the first one of each kind.
    pub(super) first: BTreeMap<String, String>,
}

impl Errors {
    pub(super) fn add(&mut self, failure: Failure) {
        self.total += 1;
        let kind = failure.kind.into_owned();
        self.first.entry(kind.clone()).or_insert(failure.detail);
        *self.kinds.entry(kind).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.total += other.total;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (kind, detail) in other.first {
            self.first.entry(kind).or_insert(detail);
        }
    }
}

/// Totals of a thread, or of all.
#[derive(Debug)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) received_bytes: u64,
    /// Nanoseconds from begin to the end of the answer.
    pub(super) latency: Histogram<u64>,
    /// Nanoseconds by which our own timer was late.
    pub(super) lag: Histogram<u64>,
    pub(super) errors: Errors,
}

impl Default for Totals {
    fn default() -> Self {
        let histogram = || Histogram::new(3).expect("three significant digits are supported");
        Self {
            requests: 0,
            received_bytes: 0,
            latency: histogram(),
            lag: histogram(),
            errors: Errors::default(),
        }
    }
}

impl Totals {
    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.received_bytes += other.received_bytes;
        self.errors.merge(other.errors);
        self.latency += other.latency;
        self.lag += other.lag;
    }
}

/// Totals shared by the tasks of one thread.
#[derive(Debug, Default)]
pub(super) struct Recorder(RefCell<Totals>);

impl Recorder {
    pub(super) fn success(&self, latency: Duration, lag: Duration, received: u64) {
        let totals = &mut *self.0.borrow_mut();
        totals.requests += 1;
        totals.received_bytes += received;
        totals.latency += nanoseconds(latency);
        totals.lag += nanoseconds(lag);
    }

    pub(super) fn failure(&self, failure: Failure) {
        self.0.borrow_mut().errors.add(failure);
    }

    pub(super) fn take(&self) -> Totals {
        self.0.take()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
