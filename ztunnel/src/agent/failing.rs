//! What is told of pods that cannot be captured, where users look: what goes on failing, and not too much of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// What fails for this long is told. A sandbox that is being made anew looks like a failure for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of one pod no more than one failure is told in this time, and of all pods of the node no more than [`MANY`].
const WINDOW: Duration = Duration::from_secs(300);
const MANY: usize = 20;

/// Pods that could not be captured, and what was told of them.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// By uid.
    pods: BTreeMap<String, Failed>,
    /// When something was told, of whichever pod.
    told: VecDeque<Instant>,
}

#[derive(Debug)]
struct Failed {
    since: Instant,
    told: Option<(Instant, String)>,
}

impl Failing {
    /// Forgets all pods but these.
    pub(super) fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.pods.retain(|uid, _| there(uid));
    }

    /// A pod is captured.
    pub(super) fn ends(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// Whether this failure is to be told: it has lasted, is not the one that was told last, and not too much was told.
    pub(super) fn is_news(&mut self, uid: &str, reason: &str, now: Instant) -> bool {
        let is_old = |told: &Instant| now >= *told + WINDOW;
        while self.told.front().is_some_and(is_old) {
            self.told.pop_front();
        }
        let fresh = || Failed {
            since: now,
            told: None,
        };
        let failed = self.pods.entry(uid.to_owned()).or_insert_with(fresh);
        let told = |(when, what): &(Instant, String)| what == reason || now < *when + WINDOW;
        let is_told = failed.told.as_ref().is_some_and(told);
        if now < failed.since + PATIENCE || is_told || self.told.len() >= MANY {
            return false;
        }
        failed.told = Some((now, reason.to_owned()));
        self.told.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_failing_is_told_once() {
        let mut failing = Failing::default();
        let start = Instant::now();
        let cases = [
            (0, "a", false),
            (9, "a", false),
            (10, "a", true),
            (20, "a", false),
            (21, "b", false),
            (310, "a", false),
            (311, "b", true),
            (312, "a", false),
        ];
        for (second, reason, news) in cases {
            let now = start + Duration::from_secs(second);
            assert_eq!(failing.is_news("u", reason, now), news, "{second} {reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_full_of_failures_tells_some_of_them() {
        let mut failing = Failing::default();
        let start = Instant::now();
        let mut told = |second| {
            let now = start + Duration::from_secs(second);
            let pods = (0..100).map(|pod| pod.to_string());
            pods.filter(|pod| failing.is_news(pod, "a", now)).count()
        };
        let counts = [0, 10, 11, 309, 310, 700].map(&mut told);
        assert_eq!(counts, [0, MANY, 0, 0, MANY, MANY]);
    }
}
