//! RateLimit and FaultInjection: fields, and what is told of a wrong one.

use ambit_http::model::route::RateLimitScope;

use super::*;
use crate::translate::testing::{conditions, index, problems, status};

fn spec<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).expect("a spec")
}

#[test]
fn rate_limits() {
    let read = |text: &str| rate_limit(NamespacedName::new("shop", "r"), &spec(text)).ok();
    let found = read("{requests: 10}").expect("a limit");
    assert_eq!(
        (found.requests, found.interval, found.burst),
        (10, Duration::from_secs(1), 10)
    );
    assert_eq!(found.per, RateLimitScope::Route);
    let found = read("{requests: 10, interval: 1m, burst: 20, per: Client}").expect("a limit");
    assert_eq!((found.interval, found.burst), (Duration::from_secs(60), 20));
    assert_eq!(found.per, RateLimitScope::Client);
    for wrong in [
        "{}",
        "{requests: 0}",
        "{requests: -1}",
        "{requests: 1, interval: 0s}",
        "{requests: 1, interval: x}",
        "{requests: 2, burst: 1}",
        "{requests: 1, per: Planet}",
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn faults() {
    let read = |text: &str| fault(&spec(text)).ok();
    let found =
        read("{delay: {duration: 5ms, percent: 12.5}, abort: {status: 503}}").expect("a fault");
    assert_eq!(found.delay, Some((Duration::from_millis(5), 125_000)));
    assert_eq!(found.abort, Some((503, 1_000_000)));
    for wrong in [
        "{}",
        "{delay: {duration: x}}",
        "{delay: {duration: 1s, percent: 101}}",
        "{abort: {status: 100}}",
        "{abort: {status: 500, percent: -1}}",
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn authors_are_told_whether_an_object_is_good() {
    for (kind, spec, expected) in [
        ("RateLimit", "requests: 10", "Accepted=True/Accepted"),
        (
            "RateLimit",
            "requests: 0",
            "Accepted=False/UnsupportedValue",
        ),
        (
            "FaultInjection",
            "abort: {status: 503}",
            "Accepted=True/Accepted",
        ),
        ("FaultInjection", "", "Accepted=False/UnsupportedValue"),
    ] {
        let index = index(&format!(
            "apiVersion: ambit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: it, namespace: shop}}\nspec: {{{spec}}}\n"
        ));
        let object = format!("{kind} shop/it");
        let status = status(&index, &object).expect("a status");
        assert_eq!(
            conditions(&status["conditions"]),
            [expected],
            "{kind} {spec}"
        );
        let problems = problems(&index, &object).len();
        assert_eq!(
            problems,
            usize::from(expected.contains("False")),
            "{kind} {spec}"
        );
    }
}
