//! Token buckets of the proxy: may this request go on, and if not, when.
//!
//! A bucket is one instant, the time until which its tokens are spent (the generic cell rate algorithm), so
//! it survives any change of the limit. Buckets belong to the key of the object, not to a version of the
//! configuration.
//!
//! The number of client buckets is bounded. Only a full bucket is ever dropped, which is the same as a new one:
//! nobody gets tokens by making others come and go. While all of them are in use, further clients
//! share one.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use hashbrown::HashMap;

use crate::model::route::{RateLimit, RateLimitScope};
use crate::refusal::{Flag, Refusal};

/// Client buckets of one limit.
pub const MOST_CLIENTS: usize = 10_000;

/// Longer limits than a century count as one: the clock ends somewhere.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The buckets of every limit of this proxy.
#[derive(Debug, Default)]
pub struct RateLimiter {
    limits: HashMap<NamespacedName, Buckets>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// A token was taken.
    Granted {
        /// What is left, for `ratelimit-remaining`.
        remaining: u32,
    },
    /// There was none.
    Refused {
        /// Until there is one.
        wait: Duration,
    },
}

impl Permit {
    /// `Ok` when granted, else 429.
    ///
    /// # Errors
    /// The refusal, and the seconds of its `retry-after`, at least 1.
    pub fn into_result(self, limit: &RateLimit) -> Result<u32, (Refusal, u64)> {
        match self {
            Self::Granted { remaining } => Ok(remaining),
            Self::Refused { wait } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let reason = format!("rate limit {} is reached", limit.key);
                Err((Refusal::new(429, Flag::RateLimited, reason), seconds.max(1)))
            }
        }
    }
}

impl RateLimiter {
    /// Takes a token. Clients without an identity share a bucket.
    pub fn take(&mut self, limit: &RateLimit, client: Option<&Identity>, now: Instant) -> Permit {
        let buckets = match self.limits.get_mut(&limit.key) {
            Some(buckets) => buckets,
            None => self
                .limits
                .entry(limit.key.clone())
                .or_insert_with(|| Buckets::new(now)),
        };
        let client = match limit.per {
            RateLimitScope::Route => None,
            RateLimitScope::Client => client,
        };
        buckets.of(client, now).take(limit, now)
    }

    /// Forgets limits whose object is gone.
    pub fn retain(&mut self, mut there: impl FnMut(&NamespacedName) -> bool) {
        self.limits.retain(|key, _| there(key));
    }
}

/// The buckets of one limit.
#[derive(Debug)]
struct Buckets {
    shared: Bucket,
    clients: HashMap<Identity, Bucket>,
    /// No bucket is full before.
    next_sweep: Instant,
}

impl Buckets {
    fn new(now: Instant) -> Self {
        Self {
            shared: Bucket { spent: now },
            clients: HashMap::new(),
            next_sweep: now,
        }
    }

    fn of(&mut self, client: Option<&Identity>, now: Instant) -> &mut Bucket {
        let Some(client) = client else {
            return &mut self.shared;
        };
        if !self.clients.contains_key(client) {
            if self.clients.len() >= MOST_CLIENTS {
                self.sweep(now);
            }
            if self.clients.len() >= MOST_CLIENTS {
                return &mut self.shared;
            }
        }
        let new = || Bucket { spent: now };
        self.clients.entry(client.clone()).or_insert_with(new)
    }

    /// Drops the buckets that are full. Costs a look at all of them, so it waits for the first that can be.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.clients.retain(|_, bucket| bucket.spent > now);
        let first = self.clients.values().map(|bucket| bucket.spent).min();
        self.next_sweep = first.unwrap_or(now);
    }
}

/// Tokens as time.
#[derive(Debug)]
struct Bucket {
    /// At this time the bucket is full again.
    spent: Instant,
}

impl Bucket {
    fn take(&mut self, limit: &RateLimit, now: Instant) -> Permit {
        let each = limit.interval.min(LONGEST) / limit.requests.max(1);
        let each = each.max(Duration::from_nanos(1));
        let all = each.saturating_mul(limit.burst.max(1));
        let room = now + all.min(LONGEST);
        // What a former, slower limit spent counts at most as an empty bucket.
        self.spent = self.spent.clamp(now, room);
        let after = self.spent + each;
        if after > room {
            return Permit::Refused { wait: after - room };
        }
        self.spent = after;
        let left = (room - after).as_nanos() / each.as_nanos();
        Permit::Granted {
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
        }
    }
}
