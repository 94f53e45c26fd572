//! Notices that the wall clock was set, by how far it and the monotonic clock went between two looks.
//!
//! A clock that is made to run faster or slower, as NTP does by 0.05 % at most, is not set. That of a machine that was suspended is
//! ahead of what was counted, and counts as set.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// Less is a matter of when somebody looks.
pub const LEAST_JUMP: Duration = Duration::from_secs(1);

/// The wall clock was set by so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// It is later than it was to be.
    Forward(Duration),
    /// It is earlier.
    Backward(Duration),
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clocks {
    /// At this moment.
    #[must_use]
    pub fn new(wall: SystemTime, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// Looks again: by how much the wall clock was set meanwhile, if it was.
    pub fn look(&mut self, wall: SystemTime, monotonic: Instant) -> Option<Jump> {
        let before = std::mem::replace(self, Self { wall, monotonic });
        let passed = monotonic.saturating_duration_since(before.monotonic);
        let expected = before.wall + passed;
        let jump = match wall.duration_since(expected) {
            Ok(ahead) => Jump::Forward(ahead),
            Err(behind) => Jump::Backward(behind.duration()),
        };
        (jump.by() >= LEAST_JUMP).then_some(jump)
    }
}

impl Jump {
    fn by(self) -> Duration {
        match self {
            Self::Forward(by) | Self::Backward(by) => by,
        }
    }
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self {
            Self::Forward(_) => "forward",
            Self::Backward(_) => "backward",
        };
        write!(f, "{:.1} s {way}", self.by().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let millis = Duration::from_millis;
        let (wall, monotonic) = (
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            Instant::now(),
        );
        let hour = millis(3_600_000);
        let cases = [
            ("it runs", 5_000, wall + millis(5_000), None),
            ("it runs a little faster", 5_000, wall + millis(5_003), None),
            ("a late look", 60_000, wall + millis(60_000), None),
            (
                "set by an hour",
                5_000,
                wall + millis(5_000) + hour,
                Some(Jump::Forward(hour)),
            ),
            (
                "set back",
                5_000,
                wall + millis(5_000) - hour,
                Some(Jump::Backward(hour)),
            ),
            ("suspended", 0, wall + hour, Some(Jump::Forward(hour))),
            ("stopped", 5_000, wall, Some(Jump::Backward(millis(5_000)))),
        ];
        for (case, passed, then, jump) in cases {
            let mut clocks = Clocks::new(wall, monotonic);
            let now = monotonic + millis(passed);
            assert_eq!(clocks.look(then, now), jump, "{case}");
            let later = clocks.look(then + millis(5_000), now + millis(5_000));
            assert_eq!(later, None, "{case}: it is told once");
        }
        assert_eq!(Jump::Forward(hour).to_string(), "3600.0 s forward");
    }
}
