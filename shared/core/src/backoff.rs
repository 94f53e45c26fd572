//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter above the first delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Delays grow from `first`, doubling up to `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max: max.max(first),
            failures: 0,
        }
    }

    /// Counts a failure and says how long to wait: between half of the current step and all of
    /// it. `jitter` is a fresh random number in 0..1.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let doublings = self.failures.min(30);
        self.failures = self.failures.saturating_add(1);
        let step = self.first.saturating_mul(1 << doublings).min(self.max);
        let jitter = if jitter.is_finite() {
            jitter.clamp(0.0, 1.0)
        } else {
            1.0
        };
        step.mul_f64(0.5 + jitter / 2.0)
    }

    /// The attempt succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let steps: Vec<u64> = (0..6).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 8, 10, 10]);
        backoff.reset();
        assert_eq!(backoff.next(1.0), Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for (jitter, millis) in [
            (0.0, 500),
            (0.5, 750),
            (1.0, 1000),
            (7.0, 1000),
            (-1.0, 500),
        ] {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
            assert_eq!(
                backoff.next(jitter),
                Duration::from_millis(millis),
                "{jitter}"
            );
        }
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(backoff.next(f64::NAN), Duration::from_secs(1));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
        for _ in 0..1000 {
            assert!(backoff.next(1.0) <= Duration::from_secs(15));
        }
    }
}
