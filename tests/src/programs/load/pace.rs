//! When requests start.
//!
//! In an open loop request `k` of `W` workers' worker `w` is due at `start + (w + k*W) / rate`. A request that is late
//! because the one before it was still under way counts from the moment it was due, so that a stalled server cannot hide
//! the requests that had to wait (coordinated omission). A request that is late because our own timer fired late counts
//! from its real start, and the lag is recorded beside the latencies.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// The due times of one worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    next: f64,
    step: f64,
}

impl Schedule {
    /// The schedule of worker `worker` out of `workers` that make `rate` requests a second together.
    pub(super) fn new(rate: f64, worker: usize, workers: usize) -> Self {
        Self {
            next: worker as f64 / rate,
            step: workers as f64 / rate,
        }
    }

    /// When the next request is due, counted from the start of the run.
    pub(super) fn next_due(&mut self) -> Duration {
        let due = self.next;
        self.next += self.step;
        Duration::from_secs_f64(due)
    }
}

/// When a request began, for its latency, and how late our timer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Began {
    pub(super) at: Instant,
    pub(super) lag: Duration,
}

/// Waits until requests are due.
pub(super) struct Pace {
    start: Instant,
    open: Option<(Schedule, Timer)>,
}

impl Pace {
    /// An open loop for a schedule, a closed one for none.
    pub(super) fn new(start: Instant, schedule: Option<Schedule>) -> io::Result<Self> {
        let open = match schedule {
            Some(schedule) => Some((schedule, Timer::new()?)),
            None => None,
        };
        Ok(Self { start, open })
    }

    /// Waits for the next request; none when it is due at or after `end`.
    pub(super) async fn next(&mut self, end: Option<Instant>) -> io::Result<Option<Began>> {
        let over = |at: Instant| end.is_some_and(|end| at >= end);
        let Some((schedule, timer)) = &mut self.open else {
            let at = Instant::now();
            return Ok((!over(at)).then_some(Began {
                at,
                lag: Duration::ZERO,
            }));
        };
        let due = self.start + schedule.next_due();
        if over(due) {
            return Ok(None);
        }
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(Some(Began {
                at: due,
                lag: Duration::ZERO,
            }));
        }
        timer.wait(wait).await?;
        let at = Instant::now();
        Ok(Some(Began {
            at,
            lag: at.saturating_duration_since(due),
        }))
    }
}

/// A timer that fires within microseconds; the runtime's own counts in milliseconds.
struct Timer {
    timer: TimerFd,
    /// The same timer, readable once it has fired.
    fired: pipe::Receiver,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Unchecked: a timer is no pipe, but it is read and polled like one.
        let fired = pipe::Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, fired })
    }

    async fn wait(&mut self, duration: Duration) -> io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(duration));
        self.timer.set(once, TimerSetTimeFlags::empty())?;
        let mut expirations = [0; 8];
        self.fired.read_exact(&mut expirations).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_even_schedule() {
        let mut due: Vec<u128> = (0..4)
            .flat_map(|worker| {
                let mut schedule = Schedule::new(1000.0, worker, 4);
                std::iter::repeat_with(move || schedule.next_due().as_micros()).take(3)
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, (0..12).map(|k| k * 1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn late_requests_count_from_when_they_were_due() {
        let start = Instant::now() - Duration::from_millis(95);
        let mut pace = Pace::new(start, Some(Schedule::new(100.0, 0, 1))).expect("a timer");
        for k in 0..10 {
            let began = pace.next(None).await.expect("no error").expect("not over");
            let due = start + Duration::from_millis(10 * k);
            assert_eq!(
                began,
                Began {
                    at: due,
                    lag: Duration::ZERO
                },
                "request {k}"
            );
        }
        let began = pace.next(None).await.expect("no error").expect("not over");
        assert!(
            began.at >= start + Duration::from_millis(100),
            "not before it is due"
        );
        let end = Some(start + Duration::from_millis(105));
        assert_eq!(pace.next(end).await.expect("no error"), None, "over");
    }
}
