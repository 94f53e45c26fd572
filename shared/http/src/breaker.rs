//! Limits of what a service gets at once. There are none but those that were set.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};

use crate::model::traffic::Limits;
use crate::refusal::{Flag, Refusal};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP or tunnelled connections that are open or being opened.
    Connection,
    /// Requests that wait for a connection.
    Pending,
    /// Requests that were sent and have not ended.
    Request,
}

/// The counts of one service. They outlive changes of the limits.
#[derive(Debug, Default)]
pub struct Gate {
    counts: [AtomicU32; 3],
    /// Who waits for a connection to end.
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// Counts one more. Whoever gets it gives it back with [`Gate::release`] exactly once.
    ///
    /// # Errors
    ///
    /// 503 (UO) when `limits` do not let it in; then nothing was counted.
    pub fn acquire(&self, limits: &Limits, kind: Kind) -> Result<(), Refusal> {
        let limit = limit(limits, kind).unwrap_or(u32::MAX);
        let one_more = |count: u32| (count < limit).then(|| count + 1);
        let order = Ordering::Relaxed;
        match self.count(kind).fetch_update(order, order, one_more) {
            Ok(_) => Ok(()),
            Err(count) => Err(Refusal::new(
                503,
                Flag::UpstreamOverflow,
                format!("the service has {count} {}, its limit", kind.as_str()),
            )),
        }
    }

    /// Counts one more connection as soon as `limits` let it in.
    pub async fn connection(&self, limits: &Limits) {
        poll_fn(|context| {
            // Under the lock: what is released after a look in vain wakes us.
            let mut waiting = self.waiting.lock().expect("nobody panics while holding it");
            if self.acquire(limits, Kind::Connection).is_ok() {
                return Poll::Ready(());
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Counts one less.
    pub fn release(&self, kind: Kind) {
        let before = self.count(kind).fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "released more {} than acquired", kind.as_str());
        if kind == Kind::Connection {
            // All of them: whoever was first may have given up.
            let waiting =
                std::mem::take(&mut *self.waiting.lock().expect("nobody panics while holding it"));
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn current(&self, kind: Kind) -> u32 {
        self.count(kind).load(Ordering::Relaxed)
    }

    fn count(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Connection => &self.counts[0],
            Kind::Pending => &self.counts[1],
            Kind::Request => &self.counts[2],
        }
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Pending => "requests waiting for a connection",
            Self::Request => "requests in flight",
        }
    }
}

fn limit(limits: &Limits, kind: Kind) -> Option<u32> {
    match kind {
        Kind::Connection => limits.connections,
        Kind::Pending => limits.pending,
        Kind::Request => limits.requests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 3] = [Kind::Connection, Kind::Pending, Kind::Request];

    #[test]
    fn each_kind_has_its_own_limit() {
        for kind in KINDS {
            let gate = Gate::default();
            let mut limits = Limits::default();
            match kind {
                Kind::Connection => limits.connections = Some(2),
                Kind::Pending => limits.pending = Some(2),
                Kind::Request => limits.requests = Some(2),
            }
            for other in KINDS.into_iter().filter(|other| *other != kind) {
                for _ in 0..10 {
                    assert!(gate.acquire(&limits, other).is_ok(), "{other:?}");
                }
            }
            assert!(gate.acquire(&limits, kind).is_ok());
            assert!(gate.acquire(&limits, kind).is_ok());
            let refusal = gate.acquire(&limits, kind).expect_err("full");
            assert_eq!((refusal.status, refusal.flag.as_str()), (503, "UO"));
            assert_eq!(gate.current(kind), 2, "a refusal is not counted");
            gate.release(kind);
            assert!(gate.acquire(&limits, kind).is_ok(), "{kind:?}");
        }
    }

    #[test]
    fn a_limit_that_shrinks_lets_in_again_once_enough_have_gone() {
        let gate = Gate::default();
        let limits = |requests| Limits {
            requests,
            ..Limits::default()
        };
        for _ in 0..5 {
            assert!(gate.acquire(&limits(None), Kind::Request).is_ok());
        }
        assert!(gate.acquire(&limits(Some(2)), Kind::Request).is_err());
        for _ in 0..4 {
            gate.release(Kind::Request);
        }
        assert!(gate.acquire(&limits(Some(2)), Kind::Request).is_ok());
        assert!(gate.acquire(&limits(Some(0)), Kind::Request).is_err());
    }
}
