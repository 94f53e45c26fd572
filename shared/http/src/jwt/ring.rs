//! When a key set is fetched, and how long what was fetched serves.
//!
//! Fetched at once, then every [`REFRESH`]. A failure is tried again after a growing wait; meanwhile the last
//! good keys serve, up to [`LONGEST_SERVICE`]: an issuer that is away must not take everybody
//! down, and one that withdrew its keys must not be believed for ever. A token whose key is missing brings
//! the next fetch forward, once a [`BETWEEN_MISSES`], so that forged tokens cannot make us a flood.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::backoff::Backoff;

use super::Jwks;

/// Between two fetches that succeed.
pub const REFRESH: Duration = Duration::from_secs(300);
/// How long keys serve after they were fetched.
pub const LONGEST_SERVICE: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches for missing keys.
pub const BETWEEN_MISSES: Duration = Duration::from_secs(10);
/// After the first failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// After many.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What is to be done about a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Fetch it, then say [`KeyRing::fetched`] or [`KeyRing::failed`].
    Fetch,
    /// Somebody does.
    Fetching,
    /// Nothing until then, unless [`KeyRing::missing`] says otherwise.
    Wait(Instant),
}

/// The keys of one source.
#[derive(Debug)]
pub struct KeyRing {
    keys: Option<(Arc<Jwks>, Instant)>,
    error: Option<String>,
    fetching: bool,
    next: Instant,
    miss: Option<Instant>,
    backoff: Backoff,
}

impl KeyRing {
    /// Empty, to be fetched at once.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            keys: None,
            error: None,
            fetching: false,
            next: now,
            miss: None,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
        }
    }

    /// What is to be done now. [`Next::Fetch`] is answered once until the fetch has ended.
    pub fn next(&mut self, now: Instant) -> Next {
        if self.fetching {
            return Next::Fetching;
        }
        if now < self.next {
            return Next::Wait(self.next);
        }
        self.fetching = true;
        Next::Fetch
    }

    /// The fetch has brought this set.
    pub fn fetched(&mut self, keys: Arc<Jwks>, now: Instant) {
        self.fetching = false;
        self.keys = Some((keys, now));
        self.error = None;
        self.backoff.reset();
        self.next = now + REFRESH;
    }

    /// The fetch has failed. `jitter` is a number in `0.0..1.0`.
    pub fn failed(&mut self, error: impl Into<String>, now: Instant, jitter: f64) {
        self.fetching = false;
        self.error = Some(error.into());
        self.next = now + self.backoff.next(jitter);
    }

    /// A token came whose key is not in the set. Whether it is worth waiting for a fetch: one is under way, or
    /// [`KeyRing::next`] now answers [`Next::Fetch`].
    pub fn missing(&mut self, now: Instant) -> bool {
        if self.fetching || now >= self.next {
            return true;
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        // After a failure the backoff alone decides.
        let failing = self.error.is_some();
        if failing || self.miss.is_some_and(|miss| since(miss) < BETWEEN_MISSES) {
            return false;
        }
        self.miss = Some(now);
        self.next = now;
        true
    }

    /// The keys that serve.
    ///
    /// # Errors
    /// Why there are none.
    pub fn keys(&self, now: Instant) -> Result<Arc<Jwks>, String> {
        let error = self
            .error
            .as_deref()
            .unwrap_or("they have not been fetched yet");
        match &self.keys {
            Some((keys, fetched)) if now.saturating_duration_since(*fetched) < LONGEST_SERVICE => {
                Ok(keys.clone())
            }
            Some(_) => Err(format!("the last ones are too old: {error}")),
            None => Err(error.into()),
        }
    }
}
