//! How long a connection waits for what its client says next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::ending::Ending;

/// A client may be silent this long between requests, and take this long for a head.
const IDLE: Duration = Duration::from_secs(3600);
const HEAD: Duration = Duration::from_secs(60);
/// A client that has said nothing for this long is hardly about to. The end of a connection that is in use could cross
/// a request on its way, which nobody would answer.
const QUIET: Duration = Duration::from_secs(2);

/// Of one connection, for all of its requests. Most come long before any time is up, so the timer is set again only
/// when it goes off or would go off too late.
pub(crate) struct Waiting {
    timer: Pin<Box<Sleep>>,
    until: Instant,
    /// The end of the last request.
    last: Instant,
    head_begun: bool,
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    ends: bool,
}

impl Waiting {
    pub(crate) fn new(ending: &Ending) -> Self {
        let now = Instant::now();
        let ending = ending.clone();
        Self {
            timer: Box::pin(sleep_until(now + IDLE)),
            until: now + IDLE,
            last: now,
            head_begun: false,
            ending: Box::pin(async move { ending.begun().await }),
            ends: false,
        }
    }

    /// The wait for a request begins.
    pub(crate) fn begin(&mut self) {
        self.last = Instant::now();
        self.head_begun = false;
        self.until = self.last + if self.ends { QUIET } else { IDLE };
    }

    /// Some bytes of its head have come: from now on it has the time of a head, and the end of the connection waits for it.
    pub(crate) fn head_begins(&mut self) {
        if !std::mem::replace(&mut self.head_begun, true) {
            self.until = Instant::now() + HEAD;
        }
    }

    /// Ready when there is nothing to wait for any more: the time is up, or the connection is to end and its client has been
    /// [`QUIET`].
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ends && self.ending.as_mut().poll(cx).is_ready() {
            self.ends = true;
            if !self.head_begun {
                self.until = self.last + QUIET;
            }
        }
        loop {
            if self.until < self.timer.deadline() {
                self.timer.as_mut().reset(self.until);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::watch;
    use tokio::time::advance;

    use super::*;

    async fn over(waiting: &mut Waiting) -> Duration {
        let since = Instant::now();
        poll_fn(|cx| waiting.poll_over(cx)).await;
        since.elapsed()
    }

    fn pending(waiting: &mut Waiting) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(waiting.poll_over(&mut cx).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn every_request_has_its_time() {
        let (_end, ending) = watch::channel(false);
        let mut waiting = Waiting::new(&Ending::new(ending));
        for _ in 0..3 {
            waiting.begin();
            pending(&mut waiting);
            advance(IDLE - Duration::from_secs(1)).await;
            pending(&mut waiting);
        }
        assert_eq!(over(&mut waiting).await, Duration::from_secs(1), "silent");
        waiting.begin();
        pending(&mut waiting);
        waiting.head_begins();
        advance(HEAD / 2).await;
        waiting.head_begins();
        assert_eq!(over(&mut waiting).await, HEAD / 2, "slow with a head");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_some_time_to_say_what_it_is_about_to() {
        for (silent, waited) in [
            (Duration::ZERO, QUIET),
            (QUIET / 4, QUIET - QUIET / 4),
            (QUIET * 2, Duration::ZERO),
        ] {
            let (end, ending) = watch::channel(false);
            let ending = Ending::new(ending);
            let mut waiting = Waiting::new(&ending);
            waiting.begin();
            pending(&mut waiting);
            advance(silent).await;
            pending(&mut waiting);
            assert!(!ending.has_begun());
            end.send_replace(true);
            assert!(ending.has_begun());
            assert_eq!(over(&mut waiting).await, waited, "silent for {silent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_is_waited_for() {
        let (end, ending) = watch::channel(false);
        let mut waiting = Waiting::new(&Ending::new(ending));
        waiting.begin();
        waiting.head_begins();
        pending(&mut waiting);
        end.send_replace(true);
        assert_eq!(over(&mut waiting).await, HEAD);
    }
}
