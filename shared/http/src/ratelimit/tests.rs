use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A moment to count from.
fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's zero")]
    Instant::now()
}

/// Ten a second, five at once.
fn limit(per: RateLimitScope) -> RateLimit {
    RateLimit {
        key: "ns/limit".parse().expect("a name"),
        requests: 10,
        interval: Duration::from_secs(1),
        burst: 5,
        per,
    }
}

fn client(number: usize) -> Identity {
    Identity::new("td", "ns", format!("c{number}")).expect("valid")
}

fn refused(wait: u64) -> Permit {
    Permit::Refused { wait: MS(wait) }
}

fn granted(remaining: u32) -> Permit {
    Permit::Granted { remaining }
}

#[test]
fn a_bucket_empties_and_fills() {
    let (mut limiter, limit, now) = (
        RateLimiter::default(),
        limit(RateLimitScope::Route),
        start(),
    );
    let mut take = |at| limiter.take(&limit, None, now + MS(at));
    let first: Vec<_> = (0..6).map(|_| take(0)).collect();
    let wanted = [4, 3, 2, 1, 0].map(granted);
    assert_eq!(first, [&wanted[..], &[refused(100)]].concat());
    assert_eq!(take(40), refused(60), "a refusal costs nothing");
    assert_eq!(take(100), granted(0));
    assert_eq!(take(100), refused(100));
    assert_eq!(take(300), granted(1));
    assert_eq!(take(60_000), granted(4), "never more than the burst");
}

#[test]
fn over_time_the_rate_holds() {
    let (mut limiter, limit, now) = (
        RateLimiter::default(),
        limit(RateLimitScope::Route),
        start(),
    );
    let granted = (0..60_000)
        .filter(|at| {
            matches!(
                limiter.take(&limit, None, now + MS(*at)),
                Permit::Granted { .. }
            )
        })
        .count();
    assert_eq!(
        granted,
        5 + 599,
        "a burst, then ten a second for a minute less a moment"
    );
}

#[test]
fn clients_have_their_own() {
    let (mut limiter, limit, now) = (
        RateLimiter::default(),
        limit(RateLimitScope::Client),
        start(),
    );
    for _ in 0..5 {
        limiter.take(&limit, Some(&client(1)), now);
    }
    assert_eq!(limiter.take(&limit, Some(&client(1)), now), refused(100));
    assert_eq!(limiter.take(&limit, Some(&client(2)), now), granted(4));
    assert_eq!(limiter.take(&limit, None, now), granted(4));
    assert_eq!(
        limiter.take(&limit, None, now),
        granted(3),
        "those without identity share one"
    );
}

#[test]
fn state_outlives_a_change_of_the_limit() {
    let (mut limiter, old, now) = (
        RateLimiter::default(),
        limit(RateLimitScope::Route),
        start(),
    );
    for _ in 0..5 {
        limiter.take(&old, None, now);
    }
    let slower = RateLimit {
        requests: 1,
        burst: 1,
        ..old.clone()
    };
    assert_eq!(
        limiter.take(&slower, None, now),
        refused(500),
        "not a fresh bucket"
    );
    let faster = RateLimit {
        requests: 1000,
        burst: 5,
        ..old.clone()
    };
    assert_eq!(
        limiter.take(&faster, None, now),
        refused(1),
        "nor one that is never filled"
    );
    limiter.retain(|key| *key != old.key);
    assert_eq!(
        limiter.take(&old, None, now),
        granted(4),
        "the object was gone"
    );
}

#[test]
fn many_clients_neither_grow_it_nor_refill_anybody() {
    let (mut limiter, limit, now) = (
        RateLimiter::default(),
        limit(RateLimitScope::Client),
        start(),
    );
    let victim = client(0);
    for _ in 0..5 {
        limiter.take(&limit, Some(&victim), now);
    }
    for number in 1..MOST_CLIENTS {
        assert_eq!(limiter.take(&limit, Some(&client(number)), now), granted(4));
    }
    // All buckets are in use: the others share one.
    let others = MOST_CLIENTS..MOST_CLIENTS + 6;
    let found: Vec<_> = others
        .map(|n| limiter.take(&limit, Some(&client(n)), now))
        .collect();
    assert_eq!(found[..5], [4, 3, 2, 1, 0].map(granted));
    assert_eq!(found[5], refused(100));
    assert_eq!(limiter.take(&limit, Some(&victim), now), refused(100));
    // 100 ms later all but the victim's are full, and make room.
    let later = now + MS(100);
    let newcomer = client(2 * MOST_CLIENTS);
    assert_eq!(limiter.take(&limit, Some(&newcomer), later), granted(4));
    assert_eq!(limiter.take(&limit, Some(&victim), later), granted(0));
    assert_eq!(limiter.limits[&limit.key].clients.len(), 2);
}

#[test]
fn limits_beyond_the_clock_hold() {
    let (mut limiter, now) = (RateLimiter::default(), start());
    let endless = RateLimit {
        requests: 1,
        interval: Duration::MAX,
        burst: u32::MAX,
        ..limit(RateLimitScope::Route)
    };
    assert_eq!(limiter.take(&endless, None, now), granted(0));
    assert!(matches!(
        limiter.take(&endless, None, now),
        Permit::Refused { .. }
    ));
}

#[test]
fn refusals_say_when_to_come_again() {
    let limit = limit(RateLimitScope::Route);
    for (wait, seconds) in [(1, 1), (1000, 1), (1001, 2)] {
        let (refusal, found) = refused(wait).into_result(&limit).expect_err("refused");
        assert_eq!(
            (refusal.status, refusal.flag.as_str(), found),
            (429, "RL", seconds)
        );
    }
    assert_eq!(granted(3).into_result(&limit), Ok(3));
}
