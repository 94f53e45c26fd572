//! What this proxy knows of an endpoint by having used it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// An estimate halves in about seven seconds without news.
const DECAY: f64 = 10_000.0;
/// What is assumed of an endpoint that was never used, in milliseconds.
const UNKNOWN: f32 = 30.0;
/// Below this, endpoints differ by their requests in flight alone.
const LEAST: f64 = 0.1;
/// A failure counts as that many times what was expected, ...
const PENALTY: f32 = 5.0;
/// ... at least of this, ...
const LEAST_PENALTY: f32 = 5.0;
/// ... and no estimate is longer, so that an endpoint is tried again some time.
const LONGEST: f32 = 10_000.0;

/// Live figures of one workload. Shared, and changed without locks.
#[derive(Debug)]
pub struct Stats {
    /// Times are counted from here.
    start: Instant,
    /// Milliseconds after `start`; [`OLD`] for one that was there from the beginning.
    since: u32,
    in_flight: AtomicU32,
    /// Latency in milliseconds as f32 bits, and when it was estimated, in milliseconds.
    latency: AtomicU64,
    /// Milliseconds after `start` until which it gets nothing.
    pub(crate) rests_until: AtomicU64,
    pub(crate) errors: AtomicU32,
    pub(crate) gateway_errors: AtomicU32,
    pub(crate) ejections: AtomicU32,
}

const OLD: u32 = u32::MAX;

impl Stats {
    fn new(start: Instant, since: Option<Instant>) -> Self {
        let clock = |at: Instant| millis(start, at) as u32;
        Self {
            start,
            since: since.map_or(OLD, clock),
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(pack(UNKNOWN, since.map_or(0, clock))),
            rests_until: AtomicU64::new(0),
            errors: AtomicU32::new(0),
            gateway_errors: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
        }
    }

    /// Requests that were begun and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// It is ejected.
    #[must_use]
    pub fn rests(&self, now: Instant) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        until > 0 && self.millis(now) < until
    }

    /// The latency to expect: rises with the worst at once, falls slowly.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.estimate(now) / 1000.0)
    }

    /// Peak EWMA: the latency to expect times the requests that would be in flight.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.estimate(now).max(LEAST) * f64::from(self.in_flight().saturating_add(1))
    }

    /// How long it has been known; `None` for one that was there from the beginning.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let since = (self.since != OLD).then_some(u64::from(self.since))?;
        Some(Duration::from_millis(
            self.millis(now).saturating_sub(since),
        ))
    }

    /// Milliseconds on its clock.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        millis(self.start, now)
    }

    fn estimate(&self, now: Instant) -> f64 {
        let (latency, at) = unpack(self.latency.load(Ordering::Relaxed));
        let passed = (self.millis(now) as u32).wrapping_sub(at);
        f64::from(latency) * decay(passed)
    }

    /// A response, or its lack, after `took`.
    pub fn observe(&self, took: Duration, good: bool, now: Instant) {
        let clock = self.millis(now) as u32;
        let took = took.as_secs_f32() * 1000.0;
        let order = Ordering::Relaxed;
        let news = |packed: u64| {
            let (latency, at) = unpack(packed);
            // Several threads report: one that is late does not turn the clock back.
            let passed = clock.wrapping_sub(at);
            let (passed, clock) = if passed > u32::MAX / 2 {
                (0, at)
            } else {
                (passed, clock)
            };
            let kept = decay(passed) as f32;
            let old = latency * kept;
            let took = match good {
                true => took,
                false => took.max(old.max(LEAST_PENALTY) * PENALTY),
            };
            let latency = if took > old {
                took
            } else {
                latency * kept + took * (1.0 - kept)
            };
            Some(pack(latency.min(LONGEST), clock))
        };
        // The closure never gives None, so this never fails.
        let _ = self.latency.fetch_update(order, order, news);
    }
}

/// What is left of an estimate after that many milliseconds.
fn decay(passed: u32) -> f64 {
    if passed > u32::MAX / 2 {
        return 1.0;
    }
    (-f64::from(passed) / DECAY).exp()
}

fn pack(latency: f32, at: u32) -> u64 {
    u64::from(latency.to_bits()) << 32 | u64::from(at)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

fn millis(start: Instant, at: Instant) -> u64 {
    let passed = at.saturating_duration_since(start).as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX)
}

/// A request at an endpoint, until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    stats: Arc<Stats>,
    service: Arc<AtomicU32>,
    began: Instant,
}

impl InFlight {
    pub(super) fn new(stats: Arc<Stats>, service: Arc<AtomicU32>, now: Instant) -> Self {
        stats.in_flight.fetch_add(1, Ordering::Relaxed);
        service.fetch_add(1, Ordering::Relaxed);
        Self {
            stats,
            service,
            began: now,
        }
    }

    /// The response's head has come, or it is sure that none will.
    pub fn answered(&self, good: bool, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.stats.observe(took, good, now);
    }

    /// Of the endpoint it is at.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.service.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The figures of all workloads, by uid. They survive what is built from them.
#[derive(Debug)]
pub struct Registry {
    start: Instant,
    known: HashMap<Arc<str>, Arc<Stats>>,
}

impl Registry {
    /// Knows nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            known: HashMap::new(),
        }
    }

    /// Of the workload `uid`; `since` is when it appeared if it was not known.
    pub fn stats(&mut self, uid: &Arc<str>, since: Option<Instant>) -> Arc<Stats> {
        let new = || Arc::new(Stats::new(self.start, since));
        self.known.entry(uid.clone()).or_insert_with(new).clone()
    }

    /// Forgets what nobody has as an endpoint any more. Gives how many are left.
    pub fn sweep(&mut self) -> usize {
        self.known.retain(|_, stats| Arc::strong_count(stats) > 1);
        self.known.len()
    }
}
