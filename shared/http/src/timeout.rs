//! How long a request may take.

use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::model::route::Timeouts;

/// The moments at which a request and its attempts are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// From the request's head to the end of the response, all attempts and waits together.
    pub request: Option<Duration>,
    /// Of one attempt.
    pub attempt: Option<Duration>,
}

impl Limits {
    /// What the rule says, and what a gRPC client says of its own deadline: the shorter. A route's
    /// timeout of 0 is none (Gateway API); a client's deadline of 0 has passed.
    #[must_use]
    pub fn new(rule: &Timeouts, grpc: Option<Duration>) -> Self {
        let set = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        Self {
            request: shorter(set(rule.request), grpc),
            attempt: set(rule.backend_request),
        }
    }
}

/// The shorter of two limits, where `None` is none.
#[must_use]
pub fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// The earlier of two moments, where `None` is never.
#[must_use]
pub fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// `grpc-timeout`: one to eight digits and a unit (gRPC over HTTP/2). `None` when it is absent or
/// anything else: it binds the client, and a client that cannot say it gets no less.
#[must_use]
pub fn grpc(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let amount = digits.iter().try_fold(0u64, |amount, digit| {
        digit
            .is_ascii_digit()
            .then(|| amount * 10 + u64::from(digit - b'0'))
    })?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn grpc_timeouts() {
        for (text, expected) in [
            ("99999999H", Some(S(99_999_999 * 3600))),
            ("1M", Some(S(60))),
            ("2S", Some(S(2))),
            ("3m", Some(Duration::from_millis(3))),
            ("4u", Some(Duration::from_micros(4))),
            ("5n", Some(Duration::from_nanos(5))),
            ("0S", Some(S(0))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a value"));
            assert_eq!(grpc(&headers), expected, "{text}");
        }
        assert_eq!(grpc(&HeaderMap::new()), None);
    }

    #[test]
    fn the_shorter_holds_and_a_rule_of_0_is_none() {
        let rule = |request, backend_request| Timeouts {
            request,
            backend_request,
        };
        for (case, rule, grpc, request, attempt) in [
            ("nothing", rule(None, None), None, None, None),
            (
                "the rule",
                rule(Some(S(2)), Some(S(1))),
                None,
                Some(S(2)),
                Some(S(1)),
            ),
            (
                "the client",
                rule(Some(S(2)), None),
                Some(S(1)),
                Some(S(1)),
                None,
            ),
            (
                "the rule is shorter",
                rule(Some(S(2)), None),
                Some(S(3)),
                Some(S(2)),
                None,
            ),
            (
                "0 in the rule",
                rule(Some(S(0)), Some(S(0))),
                Some(S(3)),
                Some(S(3)),
                None,
            ),
            (
                "0 from the client",
                rule(None, None),
                Some(S(0)),
                Some(S(0)),
                None,
            ),
        ] {
            let expected = Limits { request, attempt };
            assert_eq!(Limits::new(&rule, grpc), expected, "{case}");
        }
    }
}
