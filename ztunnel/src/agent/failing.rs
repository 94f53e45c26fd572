//! What is told of pods that are not captured as they should be, where users look: what goes on, and not too much of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// A failure to capture is told when it has gone on for this long: a sandbox that is being made anew looks like one for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of one pod no more than one complaint of a kind is told in this time, and of all pods of the node no more than [`MANY`].
const WINDOW: Duration = Duration::from_secs(300);
const MANY: usize = 20;

/// What is complained of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// The pod should be in the mesh and cannot be captured.
    NotCaptured,
    /// Annotations of the pod do not read: all of it is captured.
    InvalidAnnotation,
}

impl Complaint {
    /// One word for machines, as the reason of an event.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotCaptured => "NotCaptured",
            Self::InvalidAnnotation => "InvalidAnnotation",
        }
    }

    /// What became of the pod, for a person.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Self::NotCaptured => "the pod cannot join the mesh",
            Self::InvalidAnnotation => "all of the pod's traffic is captured",
        }
    }

    /// An annotation does not mend itself.
    fn patience(self) -> Duration {
        match self {
            Self::NotCaptured => PATIENCE,
            Self::InvalidAnnotation => Duration::ZERO,
        }
    }
}

/// What is wrong with pods, and what was told of it.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// By uid.
    pods: BTreeMap<(String, Complaint), Failed>,
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
        self.pods.retain(|(uid, _), _| there(uid));
    }

    /// There is nothing to complain of any more.
    pub(super) fn ends(&mut self, uid: &str, complaint: Complaint) {
        self.pods.remove(&(uid.to_owned(), complaint));
    }

    /// Whether this is to be told: it has lasted, is not what was told last, and not too much was told.
    pub(super) fn is_news(
        &mut self,
        uid: &str,
        complaint: Complaint,
        why: &str,
        now: Instant,
    ) -> bool {
        let is_old = |told: &Instant| now >= *told + WINDOW;
        while self.told.front().is_some_and(is_old) {
            self.told.pop_front();
        }
        let fresh = || Failed {
            since: now,
            told: None,
        };
        let failed = self.pods.entry((uid.to_owned(), complaint));
        let failed = failed.or_insert_with(fresh);
        let told = |(when, what): &(Instant, String)| what == why || now < *when + WINDOW;
        let is_told = failed.told.as_ref().is_some_and(told);
        if now < failed.since + complaint.patience() || is_told || self.told.len() >= MANY {
            return false;
        }
        failed.told = Some((now, why.to_owned()));
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
            let is_news = failing.is_news("u", Complaint::NotCaptured, reason, now);
            assert_eq!(is_news, news, "{second} {reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_annotation_is_told_of_at_once_and_once() {
        let mut failing = Failing::default();
        let start = Instant::now();
        let bad = Complaint::InvalidAnnotation;
        for (second, why, news) in [
            (0, "a", true),
            (1, "a", false),
            (2, "b", false),
            (301, "b", true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(failing.is_news("u", bad, why, now), news, "{second} {why}");
        }
        failing.ends("u", bad);
        let now = start + Duration::from_secs(302);
        assert!(
            failing.is_news("u", bad, "b", now),
            "it was mended meanwhile"
        );
        failing.retain(|_| false);
        assert!(failing.pods.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_full_of_failures_tells_some_of_them() {
        let mut failing = Failing::default();
        let start = Instant::now();
        let mut told = |second| {
            let now = start + Duration::from_secs(second);
            let pods = (0..100).map(|pod| pod.to_string());
            pods.filter(|pod| failing.is_news(pod, Complaint::NotCaptured, "a", now))
                .count()
        };
        let counts = [0, 10, 11, 309, 310, 700].map(&mut told);
        assert_eq!(counts, [0, MANY, 0, 0, MANY, MANY]);
    }
}
