//! Patience with peers that are silent.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

/// Whoever sends or takes nothing for that long is given up.
pub(super) const STALLED: Duration = Duration::from_secs(300);

/// What comes of `work`; `None` when nothing does for too long. Most of it is done at once: only what waits needs
/// a timer.
pub(super) async fn unless_stalled<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let now = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    });
    match now.await {
        Some(done) => Some(done),
        None => timeout(STALLED, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_too_long_is_given_up() {
        assert_eq!(unless_stalled(async { 1 }).await, Some(1));
        let late = |after| async move {
            tokio::time::sleep(after).await;
            2
        };
        assert_eq!(unless_stalled(late(STALLED / 2)).await, Some(2));
        assert_eq!(unless_stalled(late(STALLED * 2)).await, None);
    }
}
