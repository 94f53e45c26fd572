//! The end of a connection whose certificates expire: from then on it takes nothing new, and after
//! a grace it is closed, for nobody has renewed the proof of who is at its other end.

use std::time::{Duration, SystemTime};

/// When a connection is to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    /// The end of its certificates' validity.
    pub(super) at: SystemTime,
    /// How long streams may go on after it.
    pub(super) grace: Duration,
}

impl Expiry {
    /// Returns when nothing new may begin.
    pub(super) async fn passed(self) {
        until(self.at).await;
    }

    /// Returns when nothing may go on.
    pub(super) async fn over(self) {
        until(self.at + self.grace).await;
    }
}

/// Waits for a moment of the wall clock, which may be set while we wait.
async fn until(at: SystemTime) {
    while let Ok(left) = at.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left).await;
    }
}
