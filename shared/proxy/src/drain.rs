//! Ending in order: what has begun may finish within a time, then it is cut.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How far an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Cut,
}

/// Ends what holds its [`Drained`] halves.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    started: watch::Sender<bool>,
    done: mpsc::Receiver<Infallible>,
}

/// Held by everything that is to end. Clones share it; the last one dropped is the end.
#[derive(Debug, Clone)]
pub struct Drained {
    phase: watch::Receiver<Phase>,
    started: watch::Receiver<bool>,
    _alive: mpsc::Sender<Infallible>,
}

impl Drain {
    /// A drain and the first of its halves.
    #[must_use]
    pub fn new() -> (Self, Drained) {
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let (started, started_seen) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        let drain = Self {
            phase,
            started,
            done,
        };
        let drained = Drained {
            phase: phase_seen,
            started: started_seen,
            _alive: alive,
        };
        (drain, drained)
    }

    /// Asks everything to end and waits for it. What has not ended within `grace` is cut.
    pub async fn run(mut self, grace: Duration) {
        self.phase.send_replace(Phase::Draining);
        self.started.send_replace(true);
        if tokio::time::timeout(grace, self.done.recv()).await.is_err() {
            self.phase.send_replace(Phase::Cut);
            self.done.recv().await;
        }
    }
}

impl Drained {
    /// Returns when nothing new should begin. A drain that was dropped has begun and is over.
    pub async fn begun(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Returns when what still goes on should stop.
    pub async fn cut(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::Cut).await;
    }

    /// Becomes true when nothing new should begin.
    #[must_use]
    pub fn signal(&self) -> watch::Receiver<bool> {
        self.started.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn ends_at_once_when_nothing_goes_on() {
        let (drain, drained) = Drain::new();
        drop(drained);
        let start = tokio::time::Instant::now();
        drain.run(GRACE).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn lets_work_finish_within_the_grace_period() {
        let (drain, mut drained) = Drain::new();
        let work = tokio::spawn(async move {
            drained.begun().await;
            assert!(*drained.signal().borrow());
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let start = tokio::time::Instant::now();
        drain.run(GRACE).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        work.await.expect("it finished");
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_does_not_finish() {
        let (drain, mut drained) = Drain::new();
        let work = tokio::spawn(async move { drained.cut().await });
        let start = tokio::time::Instant::now();
        drain.run(GRACE).await;
        assert_eq!(start.elapsed(), GRACE);
        work.await.expect("it was cut");
    }
}
