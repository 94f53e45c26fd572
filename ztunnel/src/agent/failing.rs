//! What is told of pods that are not captured as they should be, where users look: what goes on, and not too much of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// A failure to capture is told when it has gone on for this long: a sandbox that is being made anew looks like one for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of one pod no more than one complaint of a kind is told in this time, and of each kind no more than [`MANY`] of all pods
/// of the node: who can make many of one keeps no other from being told.
const WINDOW: Duration = Duration::from_secs(300);
const MANY: usize = 20;

/// What is complained of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// The pod should be in the mesh and cannot be captured.
    NotCaptured,
    /// Annotations of the pod do not read: it is captured as without them.
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
            Self::InvalidAnnotation => "the pod is captured as if it did not say so",
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
    /// By uid and kind.
    pods: BTreeMap<(String, Complaint), Failed>,
    /// When something of a kind was told, of whichever pod.
    told: BTreeMap<Complaint, VecDeque<Instant>>,
}

#[derive(Debug)]
struct Failed {
    /// `None`: it has ended.
    since: Option<Instant>,
    told: Option<(Instant, String)>,
}

impl Failing {
    /// Forgets all pods but these.
    pub(super) fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.pods.retain(|(uid, _), _| there(uid));
    }

    /// There is nothing to complain of any more.
    pub(super) fn ends(&mut self, uid: &str, complaint: Complaint) {
        // What was told is remembered: whoever begins again and again is not told of each time.
        if let Some(failed) = self.pods.get_mut(&(uid.to_owned(), complaint)) {
            failed.since = None;
        }
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
        let told_of_all = self.told.entry(complaint).or_default();
        while told_of_all.front().is_some_and(is_old) {
            told_of_all.pop_front();
        }
        let fresh = || Failed {
            since: None,
            told: None,
        };
        let failed = self.pods.entry((uid.to_owned(), complaint));
        let failed = failed.or_insert_with(fresh);
        let begins_again = failed.since.is_none();
        let since = *failed.since.get_or_insert(now);
        if begins_again && failed.told.as_ref().is_some_and(|(when, _)| is_old(when)) {
            failed.told = None;
        }
        let told = |(when, what): &(Instant, String)| what == why || now < *when + WINDOW;
        let is_told = failed.told.as_ref().is_some_and(told);
        if now < since + complaint.patience() || is_told || told_of_all.len() >= MANY {
            return false;
        }
        failed.told = Some((now, why.to_owned()));
        told_of_all.push_back(now);
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
        // It is mended, and wrong again: at once that is no news, later it is.
        for (second, news) in [(302, false), (700, true), (701, false)] {
            failing.ends("u", bad);
            let now = start + Duration::from_secs(second);
            assert_eq!(failing.is_news("u", bad, "b", now), news, "{second}");
        }
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
        let now = start + Duration::from_secs(701);
        let other = Complaint::InvalidAnnotation;
        assert!(failing.is_news("0", other, "a", now), "another kind");
    }
}
