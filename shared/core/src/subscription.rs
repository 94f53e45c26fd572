//! Delta xDS, the client's side of the book: what is held, what to ask for, what to answer.
//!
//! Wildcard subscriptions only. Events go in ([`Subscription::opened`], [`Subscription::pushed`]),
//! requests come out; sending them, and applying what was pushed, is the driver's.
//!
//! A resource that was rejected stays on the list of what we hold, with an empty version: on the
//! next stream the server then sends it again, whatever its version, or says that it is gone. If it
//! were not listed, a rejected policy that is deleted meanwhile would deny for ever.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Longest text of a refusal; a push of a hundred thousand bad resources must not become a
/// request of megabytes.
const MAX_ERROR: usize = 4096;
/// Longest reason in it, in characters, so that one cannot hide the names of the others.
const MAX_REASON: usize = 300;

/// The subscriptions of one client.
#[derive(Debug, Clone)]
pub struct Subscription {
    types: Vec<Type>,
}

#[derive(Debug, Clone)]
struct Type {
    url: Arc<str>,
    /// Name and version of everything held; the version of what was rejected is empty.
    held: HashMap<String, String>,
    answered: bool,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub type_url: Arc<str>,
    /// What is held, name and version, sorted; only in the first request on a stream.
    pub initial_versions: Vec<(String, String)>,
    /// The push that it answers; empty in the first request on a stream.
    pub nonce: String,
    /// What was wrong with that push, with names; None acknowledges.
    pub error: Option<String>,
}

/// One push, without its bodies.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// The type of all resources in it.
    pub type_url: &'a str,
    /// What an answer refers to.
    pub nonce: &'a str,
    /// Name and version of new and changed resources.
    pub resources: &'a [(String, String)],
    /// Names of resources that are gone.
    pub removed: &'a [String],
    /// Names of resources that were not applied, with the reason.
    pub rejected: &'a [(String, String)],
    /// No other piece of the same state follows.
    pub complete: bool,
}

impl Subscription {
    /// Wildcard subscriptions to `types`, nothing held yet.
    #[must_use]
    pub fn new(types: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let types = types.into_iter().map(|url| Type {
            url: url.into(),
            held: HashMap::new(),
            answered: false,
        });
        Self {
            types: types.collect(),
        }
    }

    /// Whether `type_url` is subscribed to.
    #[must_use]
    pub fn has(&self, type_url: &str) -> bool {
        self.types.iter().any(|t| *t.url == *type_url)
    }

    /// A stream was opened: the first request of every type.
    #[must_use]
    pub fn opened(&self) -> Vec<Request> {
        self.types.iter().map(Type::first_request).collect()
    }

    /// A push was applied but for what was rejected: the answer.
    #[must_use]
    pub fn pushed(&mut self, pushed: &Pushed<'_>) -> Request {
        let Some(subscribed) = self.types.iter_mut().find(|t| *t.url == *pushed.type_url) else {
            return Request {
                type_url: pushed.type_url.into(),
                initial_versions: Vec::new(),
                nonce: pushed.nonce.to_owned(),
                error: Some(format!("not subscribed to {}", pushed.type_url)),
            };
        };
        subscribed.record(pushed);
        Request {
            type_url: Arc::clone(&subscribed.url),
            initial_versions: Vec::new(),
            nonce: pushed.nonce.to_owned(),
            error: explain(pushed),
        }
    }

    /// Whether every type was answered once, by one push or by all pieces of one; what was rejected is an answer too.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.types.iter().all(|t| t.answered)
    }
}

impl Type {
    fn first_request(&self) -> Request {
        let mut initial_versions: Vec<_> = self
            .held
            .iter()
            .map(|(name, version)| (name.clone(), version.clone()))
            .collect();
        initial_versions.sort_unstable();
        Request {
            type_url: Arc::clone(&self.url),
            initial_versions,
            nonce: String::new(),
            error: None,
        }
    }

    fn record(&mut self, pushed: &Pushed<'_>) {
        self.answered |= pushed.complete;
        let rejected: HashSet<&str> = pushed.rejected.iter().map(|(name, _)| &**name).collect();
        // What has no name is refused by whoever took the push: there is nothing to hold.
        for name in pushed.removed.iter().filter(|name| !name.is_empty()) {
            if rejected.contains(name.as_str()) {
                self.held.insert(name.clone(), String::new());
            } else {
                self.held.remove(name);
            }
        }
        for (name, version) in pushed.resources.iter().filter(|(name, _)| !name.is_empty()) {
            let accepted = !rejected.contains(name.as_str());
            let version = if accepted {
                version.clone()
            } else {
                String::new()
            };
            self.held.insert(name.clone(), version);
        }
    }
}

/// The refusal of a push: every name with its reason, as far as the text's bound allows.
fn explain(pushed: &Pushed<'_>) -> Option<String> {
    if pushed.rejected.is_empty() {
        return None;
    }
    let total = pushed.resources.len() + pushed.removed.len();
    let mut text = format!("{} of {total} rejected", pushed.rejected.len());
    for (index, (name, reason)) in pushed.rejected.iter().enumerate() {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let part = format!("; {name}: {reason}");
        if text.len() + part.len() > MAX_ERROR {
            text.push_str(&format!("; and {} more", pushed.rejected.len() - index));
            break;
        }
        text.push_str(&part);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_history_leaves_in_force_what_there_is(
            steps in proptest::collection::vec(proptest::arbitrary::any::<[u8; testing::STEP]>(), 0..60),
        ) {
            testing::live(steps.as_flattened());
        }
    }

    const A: &str = "type.example/A";
    const B: &str = "type.example/B";

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    fn push(
        subscription: &mut Subscription,
        type_url: &str,
        resources: &[(&str, &str)],
        removed: &[&str],
        rejected: &[(&str, &str)],
    ) -> Request {
        let removed: Vec<String> = removed.iter().map(|&name| name.to_owned()).collect();
        subscription.pushed(&Pushed {
            type_url,
            nonce: "n1",
            resources: &pairs(resources),
            removed: &removed,
            rejected: &pairs(rejected),
            complete: true,
        })
    }

    fn held(subscription: &Subscription) -> Vec<(String, String)> {
        subscription.opened().swap_remove(0).initial_versions
    }

    #[test]
    fn begins_with_one_empty_request_a_type() {
        let requests = Subscription::new([A, B]).opened();
        let first = |url: &str| Request {
            type_url: url.into(),
            initial_versions: Vec::new(),
            nonce: String::new(),
            error: None,
        };
        assert_eq!(requests, [first(A), first(B)]);
    }

    #[test]
    fn a_new_stream_lists_what_is_held() {
        let mut s = Subscription::new([A, B]);
        let ack = push(&mut s, A, &[("y", "1"), ("x", "1")], &[], &[]);
        assert_eq!(
            (ack.nonce.as_str(), ack.error, ack.initial_versions.len()),
            ("n1", None, 0)
        );
        let _ = push(&mut s, A, &[("x", "2"), ("z", "1")], &["y"], &[]);
        assert_eq!(held(&s), pairs(&[("x", "2"), ("z", "1")]));
        assert_eq!(s.opened()[1].initial_versions, []);
    }

    #[test]
    fn a_rejected_resource_is_named_and_held_without_version() {
        let mut s = Subscription::new([A]);
        let _ = push(&mut s, A, &[("x", "1")], &[], &[]);
        let nack = push(
            &mut s,
            A,
            &[("x", "2"), ("y", "1"), ("z", "1")],
            &[],
            &[("x", "port 70000"), ("z", "empty")],
        );
        assert_eq!(
            nack.error.as_deref(),
            Some("2 of 3 rejected; x: port 70000; z: empty")
        );
        assert_eq!(held(&s), pairs(&[("x", ""), ("y", "1"), ("z", "")]));
        let _ = push(&mut s, A, &[("x", "3")], &["z"], &[]);
        assert_eq!(held(&s), pairs(&[("x", "3"), ("y", "1")]));
    }

    #[test]
    fn what_has_no_name_is_never_held() {
        let mut s = Subscription::new([A]);
        let nameless = [("", "it has no name")];
        let nack = push(&mut s, A, &[("", "1"), ("x", "1")], &[""], &nameless);
        assert_eq!(
            nack.error.as_deref(),
            Some("1 of 3 rejected; : it has no name")
        );
        assert_eq!(held(&s), pairs(&[("x", "1")]));
    }

    #[test]
    fn a_piece_is_not_the_whole() {
        let mut s = Subscription::new([A]);
        for (complete, name) in [(false, "x"), (false, "y"), (true, "z"), (false, "x")] {
            let before = s.synced();
            let _ = s.pushed(&Pushed {
                type_url: A,
                nonce: "n1",
                resources: &pairs(&[(name, "1")]),
                removed: &[],
                rejected: &[],
                complete,
            });
            assert_eq!(s.synced(), complete || before, "{name}");
        }
        assert_eq!(held(&s), pairs(&[("x", "1"), ("y", "1"), ("z", "1")]));
    }

    #[test]
    fn every_type_answered_once_is_synced_rejected_or_not() {
        let mut s = Subscription::new([A, B]);
        assert!(!s.synced());
        let _ = push(&mut s, A, &[("x", "1")], &[], &[("x", "bad")]);
        assert!(!s.synced());
        let _ = push(&mut s, B, &[], &[], &[]);
        assert!(s.synced());
    }

    #[test]
    fn a_type_never_asked_for_is_refused() {
        let mut s = Subscription::new([A]);
        let nack = push(&mut s, B, &[("x", "1")], &[], &[]);
        assert_eq!((&*nack.type_url, nack.nonce.as_str()), (B, "n1"));
        assert_eq!(
            nack.error.as_deref(),
            Some("not subscribed to type.example/B")
        );
        assert!(!s.synced());
    }

    #[test]
    fn the_text_of_a_refusal_is_bounded() {
        let mut s = Subscription::new([A]);
        let names: Vec<String> = (0..10_000).map(|i| format!("ns/policy-{i}")).collect();
        let bad: Vec<(&str, &str)> = names.iter().map(|n| (&**n, "bad")).collect();
        let error = push(&mut s, A, &bad, &[], &bad).error.expect("rejected");
        assert!(
            error.starts_with("10000 of 10000 rejected; ns/policy-0: bad;"),
            "{error}"
        );
        assert!(
            error.len() < MAX_ERROR + 32 && error.contains("; and "),
            "{}",
            error.len()
        );
    }
}
