//! How fast is written.

use std::time::{Duration, Instant};

use ambit_core::backoff::Backoff;

/// At most one write in this time.
pub(super) const PACE: Duration = Duration::from_millis(20);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Waits after failures of one object.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}

/// Never, when there is nothing to wait for.
pub(super) async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
