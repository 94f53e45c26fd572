//! Waits until the wall clock is set: by a person, by NTP, or after a machine was suspended. Nothing that is planned by a clock that
//! only goes on would hear of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::clock::{Clocks, Jump};
use tokio::time::{Instant, sleep_until};

/// The wall clock, which certificates are valid by.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How often both clocks are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at both clocks from time to time.
pub struct Jumps {
    clock: Clock,
    clocks: Clocks,
    next: Instant,
}

impl Jumps {
    /// From now on.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let now = Instant::now();
        Self {
            clocks: Clocks::new(clock(), now.into_std()),
            clock,
            next: now + LOOK,
        }
    }

    /// Waits until the wall clock was set. Whoever gives up waiting and comes back misses nothing.
    pub async fn next(&mut self) -> Jump {
        loop {
            sleep_until(self.next).await;
            let now = Instant::now();
            self.next = now + LOOK;
            if let Some(jump) = self.clocks.look((self.clock)(), now.into_std()) {
                return jump;
            }
        }
    }
}

impl fmt::Debug for Jumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jumps")
            .field("clocks", &self.clocks)
            .finish_non_exhaustive()
    }
}
