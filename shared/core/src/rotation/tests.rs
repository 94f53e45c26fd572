use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn renewal_is_about_half_way() {
    let start = Instant::now();
    for (jitter, minutes) in [(0.0, 27), (0.5, 30), (1.0, 33)] {
        let at = renew_at(start, HOUR, jitter);
        assert_eq!((at - start).as_secs() / 60, minutes, "jitter {jitter}");
    }
}

#[test]
fn the_most_urgent_comes_first_and_then_the_oldest() {
    let now = Instant::now();
    let mut rotation = Rotation::new(8);
    rotation.want("later", Priority::Prefetch);
    rotation.want("first", Priority::WantedNow);
    rotation.want("second", Priority::WantedNow);
    rotation.want("promoted", Priority::Prefetch);
    rotation.want("promoted", Priority::WantedNow);
    let order: Vec<_> = std::iter::from_fn(|| rotation.poll(now)).collect();
    let expected = [
        ("first", Priority::WantedNow),
        ("second", Priority::WantedNow),
        ("promoted", Priority::WantedNow),
        ("later", Priority::Prefetch),
    ];
    assert_eq!(order, expected);
}

#[test]
fn concurrency_is_bounded() {
    let now = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.want("a", Priority::Prefetch);
    rotation.want("b", Priority::WantedNow);
    assert_eq!(rotation.poll(now), Some(("b", Priority::WantedNow)));
    assert_eq!(rotation.poll(now), None);
    assert_eq!(rotation.poll_timeout(), None);
    rotation.fetched(&"b", HOUR, HOUR, 0.5, now);
    assert_eq!(rotation.poll(now), Some(("a", Priority::Prefetch)));
    rotation.forget(&"a");
    rotation.want("c", Priority::Prefetch);
    assert_eq!(rotation.poll(now), Some(("c", Priority::Prefetch)));
}

#[test]
fn a_fresh_certificate_rests_until_half_life() {
    let start = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.want("a", Priority::WantedNow);
    rotation.poll(start);
    rotation.fetched(&"a", HOUR, HOUR, 0.5, start);
    rotation.want("a", Priority::WantedNow);
    assert_eq!(rotation.poll(start), None, "it is fresh");
    assert_eq!(rotation.poll_timeout(), Some(start + HOUR / 2));
    assert!(rotation.valid(&"a", start));
    let half = start + HOUR / 2;
    assert_eq!(rotation.poll(half), Some(("a", Priority::Expiring)));
    assert!(rotation.valid(&"a", half), "it counts while it is renewed");
    assert!(!rotation.valid(&"a", start + HOUR));
}

#[test]
fn an_expired_certificate_is_urgent() {
    let start = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.want("a", Priority::Prefetch);
    rotation.poll(start);
    rotation.fetched(&"a", secs(10), secs(10), 0.5, start);
    assert_eq!(
        rotation.poll(start + secs(11)),
        Some(("a", Priority::WantedNow))
    );
}

#[test]
fn failures_wait_longer_and_longer_but_never_past_expiry() {
    let start = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.want("a", Priority::WantedNow);
    let mut waits = Vec::new();
    let mut now = start;
    for _ in 0..9 {
        assert!(rotation.poll(now).is_some());
        assert_eq!(rotation.poll(now), None);
        let retry_at = rotation.failed(&"a", 1.0, now).expect("known");
        assert_eq!(rotation.poll_timeout(), Some(retry_at));
        waits.push((retry_at - now).as_millis());
        now = retry_at;
    }
    assert_eq!(
        waits,
        [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
    );
    assert_eq!(rotation.failures(&"a"), 9);

    rotation.poll(now);
    rotation.fetched(&"a", secs(8), secs(8), 0.5, now);
    let half = now + secs(4);
    rotation.poll(half);
    let retry_at = rotation.failed(&"a", 1.0, half).expect("known");
    assert!(retry_at - half <= secs(1), "a quarter of what is left");
}

#[test]
fn a_certificate_that_arrives_old_makes_no_busy_loop() {
    let now = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.want("a", Priority::WantedNow);
    rotation.poll(now);
    rotation.fetched(&"a", HOUR, secs(100), 0.5, now);
    assert_eq!(rotation.poll(now), None);
    assert_eq!(rotation.poll_timeout(), Some(now + secs(10)));
}

#[test]
fn forgotten_keys_are_ignored() {
    let now = Instant::now();
    let mut rotation = Rotation::new(1);
    rotation.fetched(&"a", HOUR, HOUR, 0.5, now);
    assert_eq!(rotation.failed(&"a", 0.5, now), None);
    assert!(!rotation.valid(&"a", now));
}
