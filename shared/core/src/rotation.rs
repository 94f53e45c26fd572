//! When to sign which certificate.
//!
//! What is wanted now goes first, then what is to be renewed, then what is fetched ahead of need.
//! A certificate is renewed after half of the life that it had left when it was issued, so that
//! an authority that dates certificates back does not cause a storm. A failed attempt is repeated
//! with backoff; callers do not shorten it, however many they are.
//!
//! Time is monotonic and passed in. Whether a certificate may still be used is the wall clock's
//! to say, not this module's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
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
    pub fn renew_all(&mut self, now: Instant, within: Duration, mut jitter: impl FnMut() -> f64) {
        for item in self.items.values_mut().filter(|item| !item.failing) {
            let by = now + within.mul_f64(jitter().clamp(0.0, 1.0));
            match item.due {
                Some(due) if item.expires.is_some() => item.due = Some(due.min(by)),
                // The first one is still to be asked for.
                Some(_) => {}
                None => item.renew_by = Some(by),
            }
        }
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
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(name: &str) -> Identity {
        Identity::new("cluster.local", "ns", name).expect("valid")
    }

    /// A rotation, and an arbitrary origin of time.
    #[allow(clippy::disallowed_methods)]
    fn start(concurrency: usize) -> (Rotation, Instant) {
        (Rotation::new(concurrency), Instant::now())
    }

    fn drain(rotation: &mut Rotation, now: Instant) -> Vec<Identity> {
        std::iter::from_fn(|| rotation.poll(now)).collect()
    }

    #[test]
    fn wanted_now_before_renewal_before_prefetch_then_by_age() {
        let (mut r, t) = start(10);
        r.want(&id("old"), Priority::Prefetch, t);
        assert_eq!(r.poll(t), Some(id("old")));
        r.issued(&id("old"), HOUR, t, 0.5);
        let later = t + HOUR;
        r.want(&id("ahead-2"), Priority::Prefetch, t + HOUR / 4);
        r.want(&id("ahead-1"), Priority::Prefetch, t);
        r.want(&id("now"), Priority::Now, later);
        let order = ["now", "old", "ahead-1", "ahead-2"].map(id);
        assert_eq!(drain(&mut r, later), order);
        assert_eq!(r.poll_timeout(), None);
    }

    #[test]
    fn wanting_now_raises_what_was_to_be_fetched_ahead() {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Prefetch, t);
        r.want(&id("b"), Priority::Prefetch, t);
        r.want(&id("b"), Priority::Now, t);
        r.want(&id("b"), Priority::Prefetch, t);
        assert_eq!(drain(&mut r, t), [id("b")]);
        assert_eq!(r.poll_timeout(), None, "the only slot is taken");
        r.issued(&id("b"), HOUR, t, 0.5);
        assert_eq!(drain(&mut r, t), [id("a")]);
    }

    #[test]
    fn renews_around_half_of_what_is_left() {
        for (jitter, minutes) in [(0.0, 27), (0.5, 30), (1.0, 33)] {
            let (mut r, t) = start(1);
            r.want(&id("a"), Priority::Now, t);
            r.poll(t);
            let due = r.issued(&id("a"), HOUR, t, jitter).expect("wanted");
            assert_eq!(
                (due - t).as_secs_f64().round() as u64,
                minutes * 60,
                "{jitter}"
            );
            assert_eq!(r.poll_timeout(), Some(due));
            assert_eq!(r.poll(due - Duration::from_secs(1)), None);
            assert_eq!(r.poll(due), Some(id("a")));
        }
    }

    #[test]
    fn callers_do_not_shorten_a_backoff() {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        let retry = r.failed(&id("a"), t, 1.0).expect("wanted");
        assert_eq!(retry, t + FIRST_RETRY);
        r.want(&id("a"), Priority::Now, t);
        assert_eq!(r.poll(t), None);
        assert_eq!(r.poll(retry), Some(id("a")));
    }

    #[test]
    fn waits_are_bounded_by_need() {
        let second = Duration::from_secs(1);
        let cases = [
            ("no certificate", None, 15.0),
            ("a day left", Some(24 * HOUR), 150.0),
            ("ten seconds left", Some(10 * second), 2.5),
            ("next to nothing left", Some(second / 10), 0.2),
        ];
        for (name, life, wait) in cases {
            let (mut r, t) = start(1);
            r.want(&id("a"), Priority::Now, t);
            r.poll(t);
            if let Some(life) = life {
                // Issued for twice as long, polled at half of it: `life` is left.
                let due = r.issued(&id("a"), 2 * life, t, 0.5).expect("wanted");
                assert_eq!(r.poll(due), Some(id("a")));
            }
            let now = t + life.unwrap_or_default();
            for _ in 0..30 {
                let due = r.failed(&id("a"), now, 1.0).expect("wanted");
                assert!((due - now).as_secs_f64() <= wait + 1e-6, "{name}");
                r.poll(due);
            }
            let due = r.failed(&id("a"), now, 1.0).expect("wanted");
            assert!(
                ((due - now).as_secs_f64() - wait).abs() < 1e-6,
                "{name}: {:?}",
                due - now
            );
        }
    }

    #[test]
    fn an_expired_certificate_wanted_now_is_due_at_once() {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        r.issued(&id("a"), HOUR, t, 0.5);
        // The wall clock jumped: the caller found it expired although its half life is far.
        r.want(&id("a"), Priority::Now, t);
        assert_eq!(r.poll(t), Some(id("a")));
    }

    #[test]
    fn all_are_renewed_soon_when_what_they_come_with_is_out_of_date() {
        let (mut r, t) = start(10);
        let second = Duration::from_secs(1);
        for name in ["near", "far"] {
            r.want(&id(name), Priority::Now, t);
            assert_eq!(r.poll(t), Some(id(name)));
        }
        r.issued(&id("near"), 4 * second, t, 0.5);
        r.issued(&id("far"), HOUR, t, 0.5);
        for name in ["signing", "failing", "new"] {
            r.want(&id(name), Priority::Now, t);
        }
        let taken: Vec<_> = (0..3).filter_map(|_| r.poll(t)).collect();
        let retry = r.failed(&id("failing"), t, 1.0).expect("wanted");
        r.failed(&id("new"), t, 1.0);
        assert_eq!(taken.len(), 3);
        r.renew_all(t, 10 * second, || 0.5);
        // One that is near is not put off; what fails is repeated by its own backoff.
        assert_eq!(retry, t + FIRST_RETRY);
        assert_eq!(drain(&mut r, retry).len(), 2);
        assert_eq!(r.poll_timeout(), Some(t + 2 * second));
        assert_eq!(drain(&mut r, t + 2 * second), [id("near")]);
        assert_eq!(r.poll_timeout(), Some(t + 5 * second));
        assert_eq!(drain(&mut r, t + 5 * second), [id("far")]);
        // What was being signed is signed once more, and once.
        let late = t + 7 * second;
        assert_eq!(r.issued(&id("signing"), HOUR, late, 0.5), Some(late));
        assert_eq!(r.poll(late), Some(id("signing")));
        let then = r.issued(&id("signing"), HOUR, late, 0.5);
        assert_eq!(then, Some(late + HOUR / 2));
    }

    #[test]
    fn what_is_forgotten_is_not_renewed_and_frees_its_slot() {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        r.forget(&id("a"));
        r.want(&id("b"), Priority::Now, t);
        assert_eq!(r.poll(t), None, "a is still being signed");
        assert_eq!(r.issued(&id("a"), HOUR, t, 0.5), None);
        assert_eq!(r.poll(t), Some(id("b")));
        r.issued(&id("b"), HOUR, t, 0.5);
        r.forget(&id("b"));
        assert_eq!(r.poll_timeout(), None);
        assert_eq!(
            r.failed(&id("b"), t, 0.5),
            None,
            "an answer nobody waits for"
        );
    }

    #[test]
    fn wanted_again_while_being_signed_it_is_signed_once() {
        let (mut r, t) = start(2);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        r.forget(&id("a"));
        r.want(&id("a"), Priority::Now, t);
        assert_eq!(r.poll(t), None);
        assert!(r.issued(&id("a"), HOUR, t, 0.5).is_some());
    }
}
