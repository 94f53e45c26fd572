//! An endpoint that fails again and again gets a rest; the next one is longer.
//!
//! Counting is lock-free and on every response; ejecting is rare, and done by the one [`Ejector`] of
//! a service, which sees to it that not too many rest at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::balance::Stats;
use crate::model::traffic::Outlier;
use crate::retry::Outcome;

/// No rest is longer, unless the first is.
const LONGEST: Duration = Duration::from_secs(300);

/// What an attempt says of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// It answered: 4xx is the client's fault.
    Good,
    /// 5xx other than these:
    Error,
    /// 502, 503, 504, or no response.
    GatewayError,
}

impl Conduct {
    /// Of an attempt that ended like that. What was not sent to it says nothing: `None`.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Unsent => None,
            Outcome::NotConnected | Outcome::Lost | Outcome::Malformed | Outcome::TimedOut => {
                Some(Self::GatewayError)
            }
            Outcome::Response { .. } => Some(match outcome.status() {
                Some(502..=504) => Self::GatewayError,
                Some(500..=599) => Self::Error,
                _ => Self::Good,
            }),
        }
    }
}

/// Counts what an endpoint did. `true`: by `how`, it is time for a rest ([`Ejector::eject`]).
pub fn count(how: &Outlier, stats: &Stats, conduct: Conduct) -> bool {
    let order = Ordering::Relaxed;
    let reset = |counter: &std::sync::atomic::AtomicU32| {
        // The common case is not a write.
        if counter.load(order) != 0 {
            counter.store(0, order);
        }
    };
    match conduct {
        Conduct::Good => {
            reset(&stats.errors);
            reset(&stats.gateway_errors);
            return false;
        }
        Conduct::Error => {
            reset(&stats.gateway_errors);
            stats.errors.fetch_add(1, order);
        }
        Conduct::GatewayError => {
            stats.gateway_errors.fetch_add(1, order);
            stats.errors.fetch_add(1, order);
        }
    }
    let over = |count: u32, limit: u32| limit > 0 && count >= limit;
    over(stats.errors.load(order), how.consecutive_errors)
        || over(
            stats.gateway_errors.load(order),
            how.consecutive_gateway_errors,
        )
}

/// The endpoints of one service that rest, or did not long ago.
#[derive(Debug)]
pub struct Ejector {
    how: Outlier,
    watched: Vec<Arc<Stats>>,
    swept: Option<Instant>,
}

impl Ejector {
    /// Nobody rests.
    #[must_use]
    pub fn new(how: Outlier) -> Self {
        Self {
            how,
            watched: Vec::new(),
            swept: None,
        }
    }

    /// Other rules for what happens from now on.
    pub fn reconfigure(&mut self, how: Outlier) {
        self.how = how;
    }

    /// Gives an endpoint a rest, and says for how long. `None` when it rests already or too many of
    /// the service's `endpoints` do. One of several may always rest, however small the share; the
    /// last one that does not only where 100 % may.
    pub fn eject(
        &mut self,
        stats: &Arc<Stats>,
        endpoints: usize,
        now: Instant,
    ) -> Option<Duration> {
        self.sweep(now);
        let share = endpoints * usize::from(self.how.max_ejected_percent.min(100)) / 100;
        let most = match self.how.max_ejected_percent {
            0 => 0,
            100.. => endpoints,
            _ => share.max(1).min(endpoints.saturating_sub(1)),
        };
        if stats.rests(now) || self.resting(now) >= most {
            return None;
        }
        stats.errors.store(0, Ordering::Relaxed);
        stats.gateway_errors.store(0, Ordering::Relaxed);
        let times = stats.ejections.fetch_add(1, Ordering::Relaxed) + 1;
        let base = self.how.base_ejection;
        let rest = base.saturating_mul(times).min(LONGEST.max(base));
        let rest_millis = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let until = stats.millis(now).saturating_add(rest_millis);
        stats.rests_until.store(until.max(1), Ordering::Relaxed);
        if !self.watched.iter().any(|known| Arc::ptr_eq(known, stats)) {
            self.watched.push(stats.clone());
        }
        Some(rest)
    }

    /// How many rest.
    #[must_use]
    pub fn resting(&self, now: Instant) -> usize {
        self.watched.iter().filter(|stats| stats.rests(now)).count()
    }

    /// For each interval that an endpoint has not rested, its next rest is shorter again.
    fn sweep(&mut self, now: Instant) {
        let last = *self.swept.get_or_insert(now);
        let interval = self.how.interval.max(Duration::from_millis(1));
        let passed = now.saturating_duration_since(last);
        let rounds = u32::try_from(passed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        if rounds == 0 {
            return;
        }
        self.swept = Some(now);
        self.watched.retain(|stats| {
            let until = stats.rests_until.load(Ordering::Relaxed);
            let rested = stats.millis(now).saturating_sub(until);
            let calm = u128::from(rested) / interval.as_millis().max(1);
            let calm = u32::try_from(calm).unwrap_or(u32::MAX).min(rounds);
            let before = stats.ejections.load(Ordering::Relaxed);
            stats
                .ejections
                .store(before.saturating_sub(calm), Ordering::Relaxed);
            before > calm || stats.rests(now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Registry;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test's zero")]
        Instant::now()
    }

    fn how(errors: u32, gateway: u32, percent: u8) -> Outlier {
        Outlier {
            consecutive_errors: errors,
            consecutive_gateway_errors: gateway,
            base_ejection: S(30),
            interval: S(10),
            max_ejected_percent: percent,
        }
    }

    fn some(count: usize, now: Instant) -> Vec<Arc<Stats>> {
        let mut registry = Registry::new(now);
        let uid = |n: usize| n.to_string().into();
        (0..count).map(|n| registry.stats(&uid(n), None)).collect()
    }

    #[test]
    fn what_counts() {
        let response = |status, grpc| Outcome::Response { status, grpc };
        for (case, outcome, expected) in [
            ("200", response(200, None), Some(Conduct::Good)),
            ("404", response(404, None), Some(Conduct::Good)),
            ("500", response(500, None), Some(Conduct::Error)),
            ("501", response(501, None), Some(Conduct::Error)),
            ("502", response(502, None), Some(Conduct::GatewayError)),
            ("504", response(504, None), Some(Conduct::GatewayError)),
            ("grpc ok", response(200, Some(0)), Some(Conduct::Good)),
            (
                "grpc unavailable",
                response(200, Some(14)),
                Some(Conduct::GatewayError),
            ),
            (
                "grpc internal",
                response(200, Some(13)),
                Some(Conduct::Error),
            ),
            (
                "grpc not found",
                response(200, Some(5)),
                Some(Conduct::Good),
            ),
            (
                "no connection",
                Outcome::NotConnected,
                Some(Conduct::GatewayError),
            ),
            ("lost", Outcome::Lost, Some(Conduct::GatewayError)),
            ("late", Outcome::TimedOut, Some(Conduct::GatewayError)),
            ("unsent", Outcome::Unsent, None),
        ] {
            assert_eq!(Conduct::of(&outcome), expected, "{case}");
        }
    }

    #[test]
    fn failures_in_a_row() {
        use Conduct::{Error as E, GatewayError as W, Good as G};
        let now = start();
        for (case, how, conduct, expected) in [
            ("three errors", how(3, 0, 50), &[E, E, E][..], true),
            ("errors of both kinds", how(3, 0, 50), &[E, W, E], true),
            ("a good one between", how(3, 0, 50), &[E, E, G, E, E], false),
            ("gateway errors", how(0, 2, 50), &[W, W], true),
            ("an error between", how(0, 2, 50), &[W, E, W], false),
            (
                "errors are no gateway errors",
                how(0, 2, 50),
                &[E, E, E],
                false,
            ),
            ("never", how(0, 0, 50), &[W, W, W, W], false),
        ] {
            let stats = &some(1, now)[0];
            let mut over = false;
            for conduct in conduct {
                over = count(&how, stats, *conduct);
            }
            assert_eq!(over, expected, "{case}");
        }
    }

    #[test]
    fn rests_grow_and_shrink_again() {
        let zero = start();
        let stats = &some(1, zero)[0];
        let mut ejector = Ejector::new(how(3, 0, 100));
        let mut now = zero;
        for expected in [30, 60, 90] {
            assert_eq!(ejector.eject(stats, 1, now), Some(S(expected)));
            assert_eq!(ejector.eject(stats, 1, now), None, "it rests already");
            assert!(stats.rests(now + S(expected) - Duration::from_millis(1)));
            now += S(expected);
            assert!(!stats.rests(now));
        }
        // Three times before; after 20 seconds of peace, one.
        now += S(20);
        assert_eq!(ejector.eject(stats, 1, now), Some(S(60)));
        now += S(60 + 1000);
        assert_eq!(ejector.eject(stats, 1, now), Some(S(30)));
        for _ in 0..30 {
            now += S(300);
            let rest = ejector.eject(stats, 1, now).unwrap_or_default();
            assert!(rest <= S(300), "{rest:?}");
        }
    }

    #[test]
    fn not_too_many_rest() {
        let now = start();
        for (case, percent, endpoints, expected) in [
            ("half of ten", 50, 10, 5),
            ("a third of ten", 34, 10, 3),
            ("one may always", 10, 3, 1),
            ("not the last", 99, 1, 0),
            ("not both", 90, 2, 1),
            ("none", 0, 10, 0),
            ("all", 100, 3, 3),
            ("all of one", 100, 1, 1),
            ("no endpoints", 50, 0, 0),
        ] {
            let mut ejector = Ejector::new(how(1, 0, percent));
            let stats = some(endpoints, now);
            let ejected = stats
                .iter()
                .filter(|it| ejector.eject(it, endpoints, now).is_some());
            assert_eq!(ejected.count(), expected, "{case}");
            assert_eq!(ejector.resting(now), expected, "{case}");
            assert_eq!(ejector.resting(now + S(30)), 0, "{case}");
        }
    }
}
