//! Priorities, renewals, waits after failures, and clocks that are set.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn id(name: &str) -> Identity {
    Identity::new("cluster.local", "ns", name).expect("valid")
}

/// A rotation, and an arbitrary origin of time.
#[allow(clippy::disallowed_methods)]
fn start(concurrency: usize) -> (Rotation, Instant) {
    (Rotation::new(concurrency), Instant::now())
}

fn drain(rotation: &mut Rotation, now: Instant) -> Vec<Identity> {
    std::iter::from_fn(|| rotation.poll(now)).collect()
}

#[test]
fn wanted_now_before_renewal_before_prefetch_then_by_age() {
    let (mut r, t) = start(10);
    r.want(&id("old"), Priority::Prefetch, t);
    assert_eq!(r.poll(t), Some(id("old")));
    r.issued(&id("old"), HOUR, t, 0.5);
    let later = t + HOUR;
    r.want(&id("ahead-2"), Priority::Prefetch, t + HOUR / 4);
    r.want(&id("ahead-1"), Priority::Prefetch, t);
    r.want(&id("now"), Priority::Now, later);
    let order = ["now", "old", "ahead-1", "ahead-2"].map(id);
    assert_eq!(drain(&mut r, later), order);
    assert_eq!(r.poll_timeout(), None);
}

#[test]
fn wanting_now_raises_what_was_to_be_fetched_ahead() {
    let (mut r, t) = start(1);
    r.want(&id("a"), Priority::Prefetch, t);
    r.want(&id("b"), Priority::Prefetch, t);
    r.want(&id("b"), Priority::Now, t);
    r.want(&id("b"), Priority::Prefetch, t);
    assert_eq!(drain(&mut r, t), [id("b")]);
    assert_eq!(r.poll_timeout(), None, "the only slot is taken");
    r.issued(&id("b"), HOUR, t, 0.5);
    assert_eq!(drain(&mut r, t), [id("a")]);
}

#[test]
fn renews_around_half_of_what_is_left() {
    for (jitter, minutes) in [(0.0, 27), (0.5, 30), (1.0, 33)] {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        let due = r.issued(&id("a"), HOUR, t, jitter).expect("wanted");
        assert_eq!(
            (due - t).as_secs_f64().round() as u64,
            minutes * 60,
            "{jitter}"
        );
        assert_eq!(r.poll_timeout(), Some(due));
        assert_eq!(r.poll(due - Duration::from_secs(1)), None);
        assert_eq!(r.poll(due), Some(id("a")));
    }
}

#[test]
fn callers_do_not_shorten_a_backoff() {
    let (mut r, t) = start(1);
    r.want(&id("a"), Priority::Now, t);
    r.poll(t);
    let retry = r.failed(&id("a"), t, 1.0).expect("wanted");
    assert_eq!(retry, t + FIRST_RETRY);
    r.want(&id("a"), Priority::Now, t);
    assert_eq!(r.poll(t), None);
    assert_eq!(r.poll(retry), Some(id("a")));
}

#[test]
fn waits_are_bounded_by_need() {
    let second = Duration::from_secs(1);
    let cases = [
        ("no certificate", None, 15.0),
        ("a day left", Some(24 * HOUR), 150.0),
        ("ten seconds left", Some(10 * second), 2.5),
        ("next to nothing left", Some(second / 10), 0.2),
    ];
    for (name, life, wait) in cases {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        if let Some(life) = life {
            // Issued for twice as long, polled at half of it: `life` is left.
            let due = r.issued(&id("a"), 2 * life, t, 0.5).expect("wanted");
            assert_eq!(r.poll(due), Some(id("a")));
        }
        let now = t + life.unwrap_or_default();
        for _ in 0..30 {
            let due = r.failed(&id("a"), now, 1.0).expect("wanted");
            assert!((due - now).as_secs_f64() <= wait + 1e-6, "{name}");
            r.poll(due);
        }
        let due = r.failed(&id("a"), now, 1.0).expect("wanted");
        assert!(
            ((due - now).as_secs_f64() - wait).abs() < 1e-6,
            "{name}: {:?}",
            due - now
        );
    }
}

#[test]
fn an_expired_certificate_wanted_now_is_due_at_once() {
    let (mut r, t) = start(1);
    r.want(&id("a"), Priority::Now, t);
    r.poll(t);
    r.issued(&id("a"), HOUR, t, 0.5);
    // The wall clock jumped: the caller found it expired although its half life is far.
    r.want(&id("a"), Priority::Now, t);
    assert_eq!(r.poll(t), Some(id("a")));
}

#[test]
fn all_are_renewed_soon_when_what_they_come_with_is_out_of_date() {
    let (mut r, t) = start(10);
    let second = Duration::from_secs(1);
    for name in ["near", "far"] {
        r.want(&id(name), Priority::Now, t);
        assert_eq!(r.poll(t), Some(id(name)));
    }
    r.issued(&id("near"), 4 * second, t, 0.5);
    r.issued(&id("far"), HOUR, t, 0.5);
    for name in ["signing", "failing", "new"] {
        r.want(&id(name), Priority::Now, t);
    }
    let taken: Vec<_> = (0..3).filter_map(|_| r.poll(t)).collect();
    let retry = r.failed(&id("failing"), t, 1.0).expect("wanted");
    r.failed(&id("new"), t, 1.0);
    assert_eq!(taken.len(), 3);
    r.renew_all(t, 10 * second, || 0.5);
    // One that is near is not put off; what fails is repeated by its own backoff.
    assert_eq!(retry, t + FIRST_RETRY);
    assert_eq!(drain(&mut r, retry).len(), 2);
    assert_eq!(r.poll_timeout(), Some(t + 2 * second));
    assert_eq!(drain(&mut r, t + 2 * second), [id("near")]);
    assert_eq!(r.poll_timeout(), Some(t + 5 * second));
    assert_eq!(drain(&mut r, t + 5 * second), [id("far")]);
    // What was being signed is signed once more, and once.
    let late = t + 7 * second;
    assert_eq!(r.issued(&id("signing"), HOUR, late, 0.5), Some(late));
    assert_eq!(r.poll(late), Some(id("signing")));
    let then = r.issued(&id("signing"), HOUR, late, 0.5);
    assert_eq!(then, Some(late + HOUR / 2));
    // So is what failed before and is asked for again.
    let again = r.failed(&id("signing"), late, 1.0);
    assert_eq!(again, None, "nobody asks for it now");
    let asked = late + HOUR / 2;
    assert_eq!(r.poll(asked), Some(id("signing")));
    let retry = r.failed(&id("signing"), asked, 1.0).expect("wanted");
    assert!(drain(&mut r, retry).contains(&id("signing")));
    r.renew_all(retry, 10 * second, || 0.5);
    let soon = r.issued(&id("signing"), HOUR, retry, 0.5);
    assert_eq!(soon, Some(retry + 5 * second));
}

#[test]
fn a_clock_that_is_set_brings_renewals_nearer_and_puts_none_off() {
    let life = 24 * HOUR;
    let forward = |hours| Jump::Forward(hours * HOUR);
    let backward = |hours| Jump::Backward(hours * HOUR);
    // Renewed after twelve hours; the clock is set after one.
    let cases = [
        ("not set", None, 12),
        ("an hour", Some(forward(1)), 11),
        ("past half life", Some(forward(12)), 1),
        ("past its end", Some(forward(100)), 1),
        ("back", Some(backward(1)), 12),
        ("far back", Some(backward(100)), 12),
    ];
    for (case, jump, hours) in cases {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        r.issued(&id("a"), life, t, 0.5);
        let now = t + HOUR;
        if let Some(jump) = jump {
            r.clock_set(jump, now);
        }
        let due = t + hours * HOUR;
        assert_eq!(
            r.poll(due - Duration::from_secs(1)).is_some(),
            hours == 1,
            "{case}"
        );
        if hours > 1 {
            assert_eq!(r.poll(due), Some(id("a")), "{case}");
        }
    }
}

#[test]
fn what_failed_is_tried_at_once_when_the_clock_is_set() {
    for jump in [Jump::Forward(HOUR), Jump::Backward(HOUR)] {
        let (mut r, t) = start(1);
        r.want(&id("a"), Priority::Now, t);
        r.poll(t);
        r.failed(&id("a"), t, 1.0);
        assert_eq!(r.poll(t), None);
        r.clock_set(jump, t);
        assert_eq!(r.poll(t), Some(id("a")), "{jump}");
    }
}

#[test]
fn how_long_a_certificate_lasts_is_not_asked_of_the_wall_clock() {
    let (mut r, t) = start(1);
    assert!(!r.outlasts(&id("a"), Duration::ZERO, t), "there is none");
    r.want(&id("a"), Priority::Now, t);
    r.poll(t);
    assert!(!r.outlasts(&id("a"), Duration::ZERO, t), "not yet");
    r.issued(&id("a"), 4 * HOUR, t, 0.5);
    assert!(r.outlasts(&id("a"), 3 * HOUR, t));
    assert!(!r.outlasts(&id("a"), 4 * HOUR, t));
    assert!(!r.outlasts(&id("a"), 3 * HOUR, t + HOUR));
    r.clock_set(Jump::Backward(10 * HOUR), t);
    assert!(
        !r.outlasts(&id("a"), 4 * HOUR, t),
        "nobody has made it last longer"
    );
    r.clock_set(Jump::Forward(2 * HOUR), t);
    assert!(!r.outlasts(&id("a"), 3 * HOUR, t));
}

#[test]
fn what_is_forgotten_is_not_renewed_and_frees_its_slot() {
    let (mut r, t) = start(1);
    r.want(&id("a"), Priority::Now, t);
    r.poll(t);
    r.forget(&id("a"));
    r.want(&id("b"), Priority::Now, t);
    assert_eq!(r.poll(t), None, "a is still being signed");
    assert_eq!(r.issued(&id("a"), HOUR, t, 0.5), None);
    assert_eq!(r.poll(t), Some(id("b")));
    r.issued(&id("b"), HOUR, t, 0.5);
    r.forget(&id("b"));
    assert_eq!(r.poll_timeout(), None);
    assert_eq!(
        r.failed(&id("b"), t, 0.5),
        None,
        "an answer nobody waits for"
    );
}

#[test]
fn wanted_again_while_being_signed_it_is_signed_once() {
    let (mut r, t) = start(2);
    r.want(&id("a"), Priority::Now, t);
    r.poll(t);
    r.forget(&id("a"));
    r.want(&id("a"), Priority::Now, t);
    assert_eq!(r.poll(t), None);
    assert!(r.issued(&id("a"), HOUR, t, 0.5).is_some());
}
