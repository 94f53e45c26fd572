//! How long to wait after a failure: twice as long each time, up to a bound, never in step with
//! others.

use std::time::Duration;

/// Exponential backoff. The waits are drawn by the caller's `jitter`, a number in `0.0..1.0`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits of about `first`, then twice that, and so on, never more than `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.min(longest);
        Self {
            first,
            longest,
            ceiling: first,
        }
    }

    /// The wait after one more failure: between half of the current step and all of it.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let step = self.ceiling;
        self.ceiling = step.saturating_mul(2).min(self.longest);
        step.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn doubles_up_to_the_bound_and_starts_anew() {
        let mut backoff = Backoff::new(MS(100), MS(500));
        let waits: Vec<_> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [MS(100), MS(200), MS(400), MS(500), MS(500)]);
        backoff.reset();
        assert_eq!(backoff.next(1.0), MS(100));
    }

    #[test]
    fn jitter_draws_from_the_upper_half_of_a_step() {
        for (jitter, wait) in [(0.0, 50), (0.5, 75), (1.0, 100), (-1.0, 50), (9.0, 100)] {
            assert_eq!(
                Backoff::new(MS(100), MS(500)).next(jitter),
                MS(wait),
                "{jitter}"
            );
        }
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        backoff.next(0.0);
        assert!(backoff.next(0.0) >= Duration::MAX / 2 - MS(1));
    }
}
