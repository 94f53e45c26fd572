//! When to sign which certificate.
//!
//! What is wanted now goes first, then what is to be renewed, then what is fetched ahead of need.
//! A certificate is renewed after half of the life that it had left when it was issued, so that
//! an authority that dates certificates back does not cause a storm. A failed attempt is repeated
//! with backoff; callers do not shorten it, however many they are.
//!
//! Time is monotonic and passed in. Whether a certificate may still be used is the wall clock's
//! to say, not this module's; that it was set is told here, and what is planned is planned anew.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::clock::Jump;
use crate::identity::Identity;

/// The first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// The longest wait while there is a certificate to live on.
const LONGEST_RETRY: Duration = Duration::from_secs(150);
/// The longest wait while there is none.
const URGENT_RETRY: Duration = Duration::from_secs(15);
/// Renewals fall within half life, plus or minus this part of the life.
const SPREAD: f64 = 0.05;

/// How much an identity is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before it is needed.
    Prefetch,
    /// It has one that is to be renewed.
    Renewal,
    /// A connection waits for it.
    Now,
}

/// The certificates of one node and what is next to be done for them.
#[derive(Debug)]
pub struct Rotation {
    concurrency: usize,
    signing: usize,
    items: HashMap<Identity, Item>,
}

#[derive(Debug)]
struct Item {
    priority: Priority,
    /// When it is due; None while it is being signed.
    due: Option<Instant>,
    expires: Option<Instant>,
    backoff: Backoff,
    failing: bool,
    /// When what is being signed is to be renewed at the latest, where that is known before it is there.
    renew_by: Option<Instant>,
    /// Forgotten while being signed.
    forgotten: bool,
}

impl Rotation {
    /// Nothing wanted; at most `concurrency` (at least one) signed at a time.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency: concurrency.max(1),
            signing: 0,
            items: HashMap::new(),
        }
    }

    /// Wants a certificate of `identity`. The first time, and with [`Priority::Now`], it is due at
    /// once, unless the last attempt failed: then it waits for its turn.
    pub fn want(&mut self, identity: &Identity, priority: Priority, now: Instant) {
        let item = self
            .items
            .entry(identity.clone())
            .or_insert_with(|| Item::new(priority, now));
        item.forgotten = false;
        item.priority = item.priority.max(priority);
        if priority == Priority::Now && !item.failing {
            item.due = item.due.map(|due| due.min(now));
        }
    }

    /// Has every certificate renewed within `within`, for what they come with is out of date. What is being signed now may be
    /// as well, and is signed once more. What fails is repeated as it would be. `jitter` gives numbers in `0.0..1.0`.
    pub fn renew_all(&mut self, now: Instant, within: Duration, jitter: impl FnMut() -> f64) {
        self.renew(|_| true, now, within, jitter);
    }

    /// The same of `which`.
    pub fn renew(
        &mut self,
        which: impl Fn(&Identity) -> bool,
        now: Instant,
        within: Duration,
        mut jitter: impl FnMut() -> f64,
    ) {
        let items = self.items.iter_mut();
        for (_, item) in items.filter(|(identity, _)| which(identity)) {
            let by = now + within.mul_f64(jitter().clamp(0.0, 1.0));
            match item.due {
                None => item.renew_by = Some(by),
                Some(due) if item.expires.is_some() && !item.failing => {
                    item.due = Some(due.min(by))
                }
                // The first one, or the next attempt, is still to be asked for.
                Some(_) => {}
            }
        }
    }

    /// The wall clock was set. What it brought nearer to its end is renewed as much earlier; what it put off is renewed as
    /// planned, for others have clocks of their own. What failed may have failed by the clock, and is tried at once.
    pub fn clock_set(&mut self, jump: Jump, now: Instant) {
        for item in self.items.values_mut() {
            if item.failing {
                item.due = item.due.map(|due| due.min(now));
            }
            let Jump::Forward(by) = jump else { continue };
            let earlier = |at: Instant| at.checked_sub(by).unwrap_or(now);
            if let Some(expires) = item.expires {
                item.expires = Some(earlier(expires));
                item.due = item.due.map(earlier);
            }
        }
    }

    /// Whether the certificate of `identity` that is there is good for more than `ahead`, by a clock that only goes on.
    #[must_use]
    pub fn outlasts(&self, identity: &Identity, ahead: Duration, now: Instant) -> bool {
        let expires = self.items.get(identity).and_then(|item| item.expires);
        expires.is_some_and(|expires| expires > now + ahead)
    }

    /// Gives up `identity`.
    pub fn forget(&mut self, identity: &Identity) {
        match self.items.get_mut(identity) {
            Some(item) if item.due.is_none() => item.forgotten = true,
            _ => drop(self.items.remove(identity)),
        }
    }

    /// What is to be signed now, the most urgent first; call until None. Each is to be answered
    /// by [`Rotation::issued`] or [`Rotation::failed`].
    pub fn poll(&mut self, now: Instant) -> Option<Identity> {
        if self.signing >= self.concurrency {
            return None;
        }
        let due = |item: &Item| item.due.filter(|&due| due <= now);
        let (identity, item) = self
            .items
            .iter_mut()
            .filter_map(|(identity, item)| due(item).map(|at| (identity, item, at)))
            .max_by(|(_, a, a_due), (_, b, b_due)| {
                a.priority.cmp(&b.priority).then(b_due.cmp(a_due))
            })
            .map(|(identity, item, _)| (identity, item))?;
        item.due = None;
        self.signing += 1;
        Some(identity.clone())
    }

    /// When to poll again if nothing happens before; None when only an answer can change
    /// anything.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.signing >= self.concurrency {
            return None;
        }
        self.items.values().filter_map(|item| item.due).min()
    }

    /// A certificate was issued that is good for `remaining`. `jitter` is a number in
    /// `0.0..1.0`. Returns when it will be renewed; None if nobody wants it any more.
    pub fn issued(
        &mut self,
        identity: &Identity,
        remaining: Duration,
        now: Instant,
        jitter: f64,
    ) -> Option<Instant> {
        let item = self.answered(identity)?;
        let part = 0.5 + SPREAD * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
        let half_life = now + remaining.mul_f64(part);
        let due = item
            .renew_by
            .map_or(half_life, |by| by.max(now).min(half_life));
        *item = Item {
            due: Some(due),
            expires: Some(now + remaining),
            ..Item::new(Priority::Renewal, due)
        };
        Some(due)
    }

    /// An attempt failed. `jitter` is a number in `0.0..1.0`. Returns when the next one is due;
    /// None if nobody wants it any more.
    ///
    /// While an old certificate is good, the wait is at most a quarter of what it has left.
    pub fn failed(&mut self, identity: &Identity, now: Instant, jitter: f64) -> Option<Instant> {
        let item = self.answered(identity)?;
        let left = item.expires.map(|at| at.saturating_duration_since(now));
        let bound = match left {
            Some(left) if !left.is_zero() => (left / 4).max(FIRST_RETRY),
            _ => URGENT_RETRY,
        };
        let wait = item
            .backoff
            .next(jitter)
            .min(bound.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)));
        let due = now + wait;
        item.due = Some(due);
        item.failing = true;
        item.renew_by = None;
        Some(due)
    }

    /// The item of an answer; its slot is free again.
    fn answered(&mut self, identity: &Identity) -> Option<&mut Item> {
        let item = self.items.get(identity).filter(|item| item.due.is_none())?;
        self.signing -= 1;
        if item.forgotten {
            self.items.remove(identity);
            return None;
        }
        self.items.get_mut(identity)
    }
}

impl Item {
    fn new(priority: Priority, due: Instant) -> Self {
        Self {
            priority,
            due: Some(due),
            expires: None,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            failing: false,
            renew_by: None,
            forgotten: false,
        }
    }
}

#[cfg(test)]
mod tests;
