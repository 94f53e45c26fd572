//! Rotation by the driver, in virtual time: a second here takes no second.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::id;
use crate::ca::testing::{Step, TestSigner, clock};
use crate::ca::{CaError, CertificateStore, Settings, Standing};
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn many_callers_cause_one_signature() {
    let t = Test::start(HOUR, 8);
    t.signer.then(Step::Take(SECOND));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let web = t.store.want(&id("web"));
        callers.spawn(async move { (web.get().await.expect("signed"), web) });
    }
    let all = callers.join_all().await;
    let first = &all[0].0;
    assert!(all.iter().all(|(got, _)| Arc::ptr_eq(got, first)));
    assert_eq!(first.identity(), &id("web"));
    all[0].1.get().await.expect("signed");
    assert_eq!(t.signer.asked(), [id("web")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_waits_for_goes_before_prefetches() {
    let t = Test::start(HOUR, 1);
    let mut held = Vec::new();
    for name in ["a", "b", "c"] {
        t.signer.then(Step::Take(SECOND));
        held.push(t.store.want(&id(name)));
        pass(Duration::from_millis(1)).await;
    }
    t.store.want(&id("now")).get().await.expect("signed");
    pass(5 * SECOND).await;
    assert_eq!(t.signer.asked(), ["a", "now", "b", "c"].map(id));
}

#[tokio::test(start_paused = true)]
async fn signatures_at_the_same_time_are_bounded() {
    let t = Test::start(HOUR, 3);
    let mut held = Vec::new();
    for number in 0..20 {
        t.signer.then(Step::Take(SECOND));
        held.push(t.store.want(&id(&format!("sa-{number}"))));
    }
    pass(10 * SECOND).await;
    assert_eq!((t.signer.most(), t.signer.asked().len()), (3, 20));
    assert!(held.iter().all(|wanted| wanted.current().is_some()));
}

#[tokio::test(start_paused = true)]
async fn renews_around_half_life_and_says_so() {
    let t = Test::start(HOUR, 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    let mut renewals = t.store.renewals();
    let start = Instant::now();
    renewals.changed().await.expect("running");
    let half = start.elapsed().as_secs_f64() / HOUR.as_secs_f64();
    assert!((0.44..0.56).contains(&half), "{half}");
    let second = web.get().await.expect("signed");
    assert!(second.not_after() > first.not_after());
    assert_eq!(*renewals.borrow(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_roots_are_others_all_are_renewed_within_seconds_and_none_is_taken_away() {
    let t = Test::start(HOUR, 8);
    let all = ["a", "b", "c"].map(|name| t.store.want(&id(name)));
    let mut before = Vec::new();
    for wanted in &all {
        before.push(wanted.get().await.expect("signed"));
    }
    t.store.renew_all();
    assert!(all.iter().all(|wanted| wanted.current().is_some()));
    pass(6 * SECOND).await;
    for (wanted, before) in all.iter().zip(before) {
        let now = wanted.get().await.expect("signed");
        assert_ne!(now.serial(), before.serial());
    }
    pass(60 * SECOND).await;
    assert_eq!(t.signer.asked().len(), 6, "once each");
}

#[tokio::test(start_paused = true)]
async fn ten_second_certificates_never_leave_a_gap() {
    let t = Test::start(10 * SECOND, 8);
    let all = ["a", "b", "c"].map(|name| t.store.want(&id(name)));
    for _ in 0..1800 {
        for wanted in &all {
            let certified = wanted.get().await.expect("there is always one");
            assert!(certified.not_after() > (t.clock)());
        }
        pass(Duration::from_millis(100)).await;
    }
    let signatures = t.signer.asked().len();
    assert!(
        (90..=150).contains(&signatures),
        "{signatures} in three minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn keeps_the_old_one_until_it_expires_and_never_longer() {
    let t = Test::start(100 * SECOND, 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    let issued = Instant::now();
    t.signer.broken(true);
    sleep_until(issued + 99 * SECOND).await;
    let still = web.get().await.expect("not expired");
    assert!(Arc::ptr_eq(&first, &still));
    assert!(t.signer.asked().len() > 3, "tried again and again");
    assert_eq!(t.standing(), (Standing::Valid, true));
    sleep_until(issued + 100 * SECOND).await;
    assert!(web.current().is_none());
    let error = web.get().await.expect_err("expired");
    assert!(error.to_string().ends_with("broken"), "{error}");
    assert_eq!(t.standing(), (Standing::Expired, true));
    t.signer.broken(false);
    pass(30 * SECOND).await;
    assert_eq!(t.standing(), (Standing::Valid, false));
    assert!(web.get().await.expect("renewed").not_after() > first.not_after());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_waited_out() {
    let t = Test::start(HOUR, 8);
    let web = t.store.want(&id("web"));
    t.signer.then(Step::Fail("restarting"));
    t.signer.then(Step::Fail("restarting"));
    web.get().await.expect("the third attempt succeeds");
}

#[tokio::test(start_paused = true)]
async fn a_caller_gets_the_last_error_in_bounded_time() {
    let t = Test::start(HOUR, 8);
    let web = t.store.want(&id("web"));
    t.signer.broken(true);
    let start = Instant::now();
    let error = web.get().await.expect_err("broken");
    assert!(error.to_string().ends_with("broken"), "{error}");
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
    let attempts = t.signer.asked().len();
    assert!((2..10).contains(&attempts), "{attempts} attempts");
    pass(60 * SECOND).await;
    let start = Instant::now();
    for _ in 0..100 {
        web.get().await.expect_err("broken");
    }
    assert!(
        t.signer.asked().len() - attempts < 60,
        "callers do not shorten the backoff"
    );
    assert!(start.elapsed() <= 500 * SECOND);
    assert_eq!(t.standing(), (Standing::Failed, true));
}

#[tokio::test(start_paused = true)]
async fn a_silent_authority_does_not_hang_callers() {
    let t = Test::start(HOUR, 8);
    let web = t.store.want(&id("web"));
    t.signer.then(Step::Hang);
    let start = Instant::now();
    let error = web.get().await.expect_err("silence");
    assert!(matches!(error, CaError::NotYet { .. }), "{error}");
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert_eq!(t.standing(), (Standing::Pending, false));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_is_renewed_no_more() {
    let t = Test::start(HOUR, 8);
    let pod = t.store.want(&id("web"));
    pod.get().await.expect("signed");
    // A connection that drains while its pod is gone.
    let draining = pod.clone();
    drop(pod);
    pass(HOUR).await;
    draining.get().await.expect("it goes on while it is held");
    let renewed = t.signer.asked().len();
    assert!(renewed > 1, "{renewed}");
    drop(draining);
    assert!(t.store.snapshot().is_empty());
    pass(10 * HOUR).await;
    assert_eq!(t.signer.asked().len(), renewed);

    t.signer.then(Step::Take(SECOND));
    drop(t.store.want(&id("late")));
    pass(SECOND / 2).await;
    let again = t.store.want(&id("late"));
    pass(HOUR / 4).await;
    assert!(again.current().is_some(), "wanted anew, signed anew");
    drop(again);
    t.signer.then(Step::Take(SECOND));
    let gone = t.store.want(&id("gone"));
    pass(SECOND / 2).await;
    drop(gone);
    pass(HOUR).await;
    assert!(t.store.snapshot().is_empty(), "a late answer is dropped");
}

#[tokio::test(start_paused = true)]
async fn without_its_driver_callers_fail_at_once() {
    let mut t = Test::start(HOUR, 8);
    let web = t.store.want(&id("web"));
    web.get().await.expect("signed");
    t.signer.then(Step::Hang);
    let other = t.store.want(&id("other"));
    let waiting = tokio::spawn(async move { other.get().await });
    pass(SECOND / 2).await;
    t.driver.shutdown().await;
    for result in [
        waiting.await.expect("no panic"),
        t.store.want(&id("new")).get().await,
    ] {
        assert!(matches!(result, Err(CaError::Stopped)));
    }
    web.get().await.expect("what is there is still good");
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_is_noticed_by_the_next_caller() {
    let jump: Arc<parking_lot::Mutex<Duration>> = Arc::default();
    let steady = clock();
    let ahead = Arc::clone(&jump);
    let t = Test::with(Arc::new(move || steady() + *ahead.lock()), HOUR, 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    *jump.lock() = 2 * HOUR;
    let second = web.get().await.expect("signed anew");
    assert!(second.not_after() > first.not_after());
    assert_eq!(t.signer.asked().len(), 2);
}

/// A wall clock that can be set, and what is added to it.
fn settable() -> (Clock, Arc<parking_lot::Mutex<i64>>) {
    let set: Arc<parking_lot::Mutex<i64>> = Arc::default();
    let (steady, by) = (clock(), Arc::clone(&set));
    let clock: Clock = Arc::new(move || {
        let seconds = *by.lock();
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            steady() - by
        } else {
            steady() + by
        }
    });
    (clock, set)
}

const HOURS: i64 = 3600;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_has_certificates_renewed_that_nobody_asks_for() {
    let (clock, set) = settable();
    let t = Test::with(clock, 24 * HOUR, 8);
    let web = t.store.want(&id("web"));
    web.get().await.expect("signed");
    pass(HOUR).await;
    for (hours, signed, case) in [
        (6, 1, "half life is not over"),
        (18, 2, "it is, and once more of the new one"),
    ] {
        *set.lock() = hours * HOURS;
        pass(10 * SECOND).await;
        assert_eq!(t.signer.asked().len(), signed, "{case}");
        assert!(web.current().is_some(), "{case}");
    }
    *set.lock() = 0;
    pass(10 * SECOND).await;
    assert_eq!(t.signer.asked().len(), 3, "back again, it is not good yet");
    let current = web.current().expect("signed anew");
    assert!(current.not_before() <= (t.clock)());
    *set.lock() = -HOURS / 100;
    pass(HOUR).await;
    assert_eq!(t.signer.asked().len(), 3, "a little further back");
}

/// The authority's clock is ahead for a while: what it signs then is good for nobody yet.
#[tokio::test(start_paused = true)]
async fn a_certificate_of_the_future_does_not_replace_one_of_now() {
    let (theirs, ahead) = settable();
    let t = Test::of(TestSigner::new(theirs, 24 * HOUR), clock(), 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    *ahead.lock() = HOURS;
    pass(14 * HOUR).await;
    let kept = web.get().await.expect("the first one");
    assert!(Arc::ptr_eq(&first, &kept));
    let error = t.store.snapshot()[0].last_error.clone().expect("an error");
    assert!(error.contains("compare the clocks"), "{error}");
    *ahead.lock() = 0;
    pass(HOUR / 10).await;
    let second = web.get().await.expect("signed");
    assert_ne!(second.serial(), first.serial());
    assert_eq!(t.standing(), (Standing::Valid, false));
}

/// Who signs need not date back, and no two clocks are the same.
#[tokio::test(start_paused = true)]
async fn a_certificate_of_the_next_minute_is_one_of_now() {
    let (theirs, ahead) = settable();
    *ahead.lock() = 2;
    let t = Test::of(TestSigner::new(theirs, 24 * HOUR), clock(), 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    assert!(first.not_before() > (t.clock)(), "it is of the future");
    pass(14 * HOUR).await;
    let second = web.get().await.expect("signed");
    assert_ne!(second.serial(), first.serial());
    assert_eq!(t.standing(), (Standing::Valid, false));
    assert_eq!(t.signer.asked().len(), 2);
}

/// This clock is behind for good: the last moment to change is before the old certificate has ended for everybody else.
#[tokio::test(start_paused = true)]
async fn a_certificate_of_the_future_is_better_than_none() {
    let (ours, behind) = settable();
    let t = Test::of(TestSigner::new(clock(), 24 * HOUR), ours, 8);
    let web = t.store.want(&id("web"));
    let first = web.get().await.expect("signed");
    *behind.lock() = -2 * HOURS;
    pass(20 * HOUR).await;
    assert_eq!(web.get().await.expect("signed").serial(), first.serial());
    pass(3 * HOUR).await;
    let second = web.get().await.expect("signed");
    assert_ne!(second.serial(), first.serial());

    let (ours, behind) = settable();
    *behind.lock() = -2 * HOURS;
    let t = Test::of(TestSigner::new(clock(), 24 * HOUR), ours, 8);
    let new = t.store.want(&id("new"));
    new.get().await.expect("there is no other");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_expired_on_arrival_is_not_served() {
    let t = Test::start(Duration::ZERO, 8);
    let web = t.store.want(&id("web"));
    let error = web.get().await.expect_err("expired");
    assert!(matches!(error, CaError::Expired { .. }), "{error}");
    assert!(web.current().is_none());
}

/// A store with its driver running and a signer to play with.
struct Test {
    store: CertificateStore,
    signer: TestSigner,
    clock: Clock,
    driver: JoinSet<()>,
}

impl Test {
    fn start(lifetime: Duration, concurrency: usize) -> Self {
        Self::with(clock(), lifetime, concurrency)
    }

    fn with(clock: Clock, lifetime: Duration, concurrency: usize) -> Self {
        let signer = TestSigner::new(Arc::clone(&clock), lifetime);
        Self::of(signer, clock, concurrency)
    }

    fn of(signer: TestSigner, clock: Clock, concurrency: usize) -> Self {
        let settings = Settings {
            concurrency,
            clock: Arc::clone(&clock),
            ..Settings::default()
        };
        let (store, running) = CertificateStore::new(signer.clone(), settings);
        let mut driver = JoinSet::new();
        driver.spawn(async move { match running.run().await {} });
        Self {
            store,
            signer,
            clock,
            driver,
        }
    }

    /// Standing of the only identity, and whether its last attempt failed.
    fn standing(&self) -> (Standing, bool) {
        let entries = self.store.snapshot();
        assert_eq!(entries.len(), 1);
        (entries[0].standing, entries[0].last_error.is_some())
    }
}

/// Lets virtual time pass, and everything happen that is due within it.
async fn pass(time: Duration) {
    sleep(time).await;
}
