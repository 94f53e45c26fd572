//! One request's trace for others that took about as long (OpenMetrics 1.0, "Exemplars").

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// The latest exemplar of each bucket of a histogram. Nothing is allocated before there is one.
#[derive(Debug, Default)]
pub(super) struct Exemplars(OnceLock<Box<[Mutex<Option<Exemplar>>]>>);

/// A value and the trace that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exemplar {
    pub(super) trace: u128,
    pub(super) value: f64,
    /// When the value was counted.
    pub(super) at: SystemTime,
}

impl Exemplars {
    /// It is of bucket `place`, of so many.
    pub(super) fn put(&self, place: usize, buckets: usize, exemplar: Exemplar) {
        let all = self
            .0
            .get_or_init(|| (0..buckets).map(|_| Mutex::default()).collect());
        if let Some(latest) = all.get(place) {
            *latest.lock() = Some(exemplar);
        }
    }

    pub(super) fn of(&self, place: usize) -> Option<Exemplar> {
        *self.0.get()?.get(place)?.lock()
    }
}

impl fmt::Display for Exemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.at.duration_since(UNIX_EPOCH);
        let at = since.unwrap_or(Duration::ZERO).as_secs_f64();
        let Self { trace, value, .. } = self;
        write!(f, "{{trace_id=\"{trace:032x}\"}} {value} {at:.3}")
    }
}
