//! The end of a client's connection in order: what it has asked is answered, then it comes back over another one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A client that has said nothing for this long is hardly about to. The end of a connection that is in use could cross
/// a request on its way, which nobody would answer.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// Says that what can end should: the process drains, or the HBONE connection around it is of age, or has a
/// certificate that expired.
#[derive(Debug, Clone)]
pub(crate) struct Ending(watch::Receiver<bool>);

impl Ending {
    /// When `signal` becomes true; also when its sender is gone.
    pub(crate) fn new(signal: watch::Receiver<bool>) -> Self {
        Self(signal)
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it has begun.
    pub(crate) async fn begun(&self) {
        let _ = self.0.clone().wait_for(|begun| *begun).await;
    }

    /// Returns when it has begun and a client that has said nothing since `last` is not waited for any more.
    pub(crate) async fn begun_in_silence(&self, last: Instant) {
        self.begun().await;
        sleep_until(last + QUIET).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_has_some_time_to_say_what_it_is_about_to() {
        for (silent, waited) in [
            (Duration::ZERO, QUIET),
            (QUIET / 4, QUIET - QUIET / 4),
            (QUIET * 2, Duration::ZERO),
        ] {
            let (end, ending) = watch::channel(false);
            let ending = Ending::new(ending);
            let last = Instant::now();
            tokio::time::advance(silent).await;
            assert!(!ending.has_begun());
            end.send_replace(true);
            assert!(ending.has_begun());
            let began = Instant::now();
            ending.begun_in_silence(last).await;
            assert_eq!(began.elapsed(), waited, "silent for {silent:?}");
        }
    }
}
