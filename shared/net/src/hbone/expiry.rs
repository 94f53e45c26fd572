//! The end of a connection whose certificates expire: from then on it takes nothing new, and after
//! a grace it is closed, for nobody has renewed the proof of who is at its other end.
//!
//! How long that is, is known when it begins. A wall clock that is set meanwhile makes it neither shorter nor longer.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

/// When a connection is to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    /// The end of its certificates' validity.
    at: Instant,
    /// How long streams may go on after it.
    grace: Duration,
}

impl Expiry {
    /// Of certificates that are valid until `not_after`, when it is `now`.
    pub(super) fn new(not_after: SystemTime, now: SystemTime, grace: Duration) -> Self {
        let left = not_after.duration_since(now).unwrap_or_default();
        Self {
            at: Instant::now() + left,
            grace,
        }
    }

    /// Returns when nothing new may begin.
    pub(super) async fn passed(self) {
        sleep_until(self.at).await;
    }

    /// Returns when nothing may go on.
    pub(super) async fn over(self) {
        sleep_until(self.at + self.grace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_by_the_time_that_passes() {
        let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        for (not_after, hours) in [(now + 12 * HOUR, 12), (now, 0), (now - HOUR, 0)] {
            let began = Instant::now();
            let expiry = Expiry::new(not_after, now, HOUR);
            expiry.passed().await;
            assert_eq!(began.elapsed().as_secs() / 3600, hours);
            expiry.over().await;
            assert_eq!(began.elapsed().as_secs() / 3600, hours + 1);
        }
    }
}
