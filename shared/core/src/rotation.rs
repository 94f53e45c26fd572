//! When to fetch which certificate.
//!
//! A certificate is renewed at half of its life, give or take some jitter so that a node's do not
//! all come at once; a failed fetch is repeated with backoff. What a connection waits for comes
//! before what is about to expire, and that before what may be wanted later.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// How urgent a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It may be wanted soon.
    Prefetch,
    /// The one held is past half of its life.
    Expiring,
    /// A connection waits for it.
    WantedNow,
}

/// Renewals are spread over this share of the life, around its half.
const SPREAD: f64 = 0.1;
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// When a certificate is renewed: half of its life after `issued`, moved by up to 5% of it either
/// way. `jitter` is a random number in 0..1.
#[must_use]
pub fn renew_at(issued: Instant, life: Duration, jitter: f64) -> Instant {
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.5
    };
    issued + life.mul_f64(0.5 + SPREAD * (jitter - 0.5))
}

/// The fetches of all certificates of one proxy, keyed by identity.
#[derive(Debug, Clone)]
pub struct Rotation<K> {
    entries: BTreeMap<K, Entry>,
    concurrency: usize,
    fetching: usize,
    arrivals: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    state: State,
    backoff: Backoff,
    expires_at: Option<Instant>,
    retry_at: Option<Instant>,
    arrival: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be fetched, when `retry_at` allows.
    Queued(Priority),
    /// Being fetched.
    Fetching(Priority),
    /// Held; to be renewed then.
    Fresh(Instant),
}

impl<K: Ord + Clone> Rotation<K> {
    /// At most `concurrency` fetches at once.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            concurrency: concurrency.max(1),
            fetching: 0,
            arrivals: 0,
        }
    }

    /// Asks for a certificate; a higher priority than before moves it forward. One that is held
    /// and fresh is not fetched again.
    pub fn want(&mut self, key: K, priority: Priority) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            state: State::Queued(priority),
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            expires_at: None,
            retry_at: None,
            arrival,
        });
        if let State::Queued(known) | State::Fetching(known) = &mut entry.state {
            *known = priority.max(*known);
        }
    }

    /// The certificate is not needed any more.
    pub fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.fetching -= usize::from(matches!(entry.state, State::Fetching(_)));
        }
    }

    /// What to fetch now, the most urgent first; call again until it says `None`.
    pub fn poll(&mut self, now: Instant) -> Option<(K, Priority)> {
        if self.fetching >= self.concurrency {
            return None;
        }
        let (key, priority) = self
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((key, entry, entry.due(now)?)))
            .max_by_key(|(_, entry, priority)| (*priority, std::cmp::Reverse(entry.arrival)))
            .map(|(key, _, priority)| (key.clone(), priority))?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::Fetching(priority);
        self.fetching += 1;
        Some((key, priority))
    }

    /// When to poll again, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.fetching >= self.concurrency {
            return None;
        }
        let wake = |entry: &Entry| match entry.state {
            State::Queued(_) => entry.retry_at,
            State::Fetching(_) => None,
            State::Fresh(renew_at) => Some(renew_at),
        };
        self.entries.values().filter_map(wake).min()
    }

    /// A fetch succeeded. `life` is the certificate's whole life, of which `left` remains at
    /// `now`; `jitter` a random number in 0..1.
    pub fn fetched(&mut self, key: &K, life: Duration, left: Duration, jitter: f64, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        self.fetching -= usize::from(matches!(entry.state, State::Fetching(_)));
        let used = life.saturating_sub(left);
        let renew_in = renew_at(now, life, jitter)
            .saturating_duration_since(now)
            .saturating_sub(used);
        // A certificate that arrives past its half must not make a busy loop.
        let renew_in = renew_in.max((left / 10).min(Duration::from_secs(60)));
        entry.state = State::Fresh(now + renew_in.max(Duration::from_millis(100)));
        entry.expires_at = Some(now + left);
        entry.retry_at = None;
        entry.backoff.reset();
    }

    /// A fetch failed: when it is tried again. `jitter` is a random number in 0..1.
    pub fn failed(&mut self, key: &K, jitter: f64, now: Instant) -> Option<Instant> {
        let entry = self.entries.get_mut(key)?;
        if let State::Fetching(priority) = entry.state {
            self.fetching -= 1;
            entry.state = State::Queued(priority);
        }
        let retry_at = now + entry.backoff.next(jitter);
        // A renewal is tried at least a few times before the old one is worthless.
        let sooner = entry
            .expires_at
            .filter(|expires_at| *expires_at > now)
            .map(|expires_at| now + (expires_at - now) / 4);
        let retry_at = sooner.map_or(retry_at, |sooner| sooner.min(retry_at));
        let retry_at = retry_at.max(now + Duration::from_millis(100));
        entry.retry_at = Some(retry_at);
        Some(retry_at)
    }

    /// Whether the certificate that is held still counts at `now`.
    #[must_use]
    pub fn valid(&self, key: &K, now: Instant) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.expires_at.is_some_and(|expires_at| now < expires_at))
    }

    /// Failures of this certificate since the last success.
    #[must_use]
    pub fn failures(&self, key: &K) -> u32 {
        self.entries
            .get(key)
            .map_or(0, |entry| entry.backoff.failures())
    }
}

impl Entry {
    /// How urgent a fetch is at `now`, if it is time for one.
    fn due(&self, now: Instant) -> Option<Priority> {
        match self.state {
            State::Queued(priority) => {
                let ready = self.retry_at.is_none_or(|retry_at| retry_at <= now);
                ready.then_some(priority)
            }
            State::Fetching(_) => None,
            State::Fresh(renew_at) => (renew_at <= now).then(|| {
                let expired = self.expires_at.is_some_and(|expires_at| expires_at <= now);
                if expired {
                    Priority::WantedNow
                } else {
                    Priority::Expiring
                }
            }),
        }
    }
}
