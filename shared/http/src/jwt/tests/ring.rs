//! When keys are fetched.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Any instant: only the distances between instants count.
#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

fn keys() -> Arc<Jwks> {
    Arc::new(set(vec![ed("d1")]).expect("a set"))
}

#[test]
fn fetched_at_once_then_every_while() {
    let start = start();
    let mut ring = KeyRing::new(start);
    assert_eq!(
        ring.keys(start),
        Err("they have not been fetched yet".into())
    );
    assert_eq!(ring.next(start), Next::Fetch);
    assert_eq!(ring.next(start), Next::Fetching);
    ring.fetched(keys(), start + SECOND);
    assert!(ring.keys(start + SECOND).is_ok());
    let due = start + SECOND + REFRESH;
    assert_eq!(ring.next(start + SECOND), Next::Wait(due));
    assert_eq!(ring.next(due), Next::Fetch);
}

#[test]
fn the_last_good_keys_serve_for_a_day() {
    let start = start();
    let mut ring = KeyRing::new(start);
    ring.next(start);
    ring.fetched(keys(), start);
    let mut now = start + REFRESH;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(ring.next(now), Next::Fetch);
        ring.failed("connection refused", now, 1.0);
        let Next::Wait(until) = ring.next(now) else {
            panic!("waits after a failure");
        };
        waits.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    let last = start + LONGEST_SERVICE;
    assert!(ring.keys(last - SECOND).is_ok());
    assert_eq!(
        ring.keys(last),
        Err("the last ones are too old: connection refused".into())
    );
}

#[test]
fn a_missing_key_brings_the_fetch_forward_and_a_flood_does_not() {
    let start = start();
    let mut ring = KeyRing::new(start);
    assert!(ring.missing(start), "never fetched: worth waiting for");
    ring.next(start);
    assert!(ring.missing(start), "a fetch is under way");
    ring.fetched(keys(), start);
    let later = start + SECOND;
    assert!(ring.missing(later));
    assert_eq!(ring.next(later), Next::Fetch);
    ring.fetched(keys(), later);
    assert!(!ring.missing(later + SECOND), "just fetched");
    assert!(matches!(ring.next(later + SECOND), Next::Wait(_)));
    let after = later + BETWEEN_MISSES;
    assert!(ring.missing(after));
    assert_eq!(ring.next(after), Next::Fetch);
    ring.failed("away", after, 1.0);
    assert!(!ring.missing(after), "the backoff decides");
    assert!(ring.missing(after + SECOND), "due");
}
