use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::model::traffic::RetryBudget;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A moment to count from.
fn start() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's zero")]
    Instant::now()
}

fn generous(now: Instant) -> Budget {
    let limit = RetryBudget {
        min_per_second: u32::MAX,
        ..RetryBudget::default()
    };
    Budget::new(limit, now)
}

fn route(attempts: u32, codes: &[u16], backoff: Duration) -> Retry {
    Retry {
        attempts,
        codes: codes.to_vec(),
        backoff,
    }
}

fn status(status: u16) -> Outcome {
    Outcome::Response { status, grpc: None }
}

fn grpc(code: u8) -> Outcome {
    Outcome::Response {
        status: 200,
        grpc: Some(code),
    }
}

/// The longest wait of each draw.
fn longest(bound: u32) -> u32 {
    bound - 1
}

#[test]
fn what_is_tried_again() {
    let all = [
        Outcome::NotConnected,
        Outcome::Unsent,
        Outcome::Lost,
        Outcome::Malformed,
        Outcome::TimedOut,
        status(200),
        status(429),
        status(500),
        status(503),
        grpc(0),
        grpc(8),
        grpc(14),
    ];
    let codes = route(1, &[429, 503], MS(0));
    let failures = route(1, &[], MS(0));
    let none = route(0, &[503], MS(0));
    let cases: [(&str, Option<&Retry>, &[Outcome]); 4] = [
        ("the default", None, &all[..2]),
        (
            "codes of a route",
            Some(&codes),
            &[
                all[0], all[1], all[2], all[3], all[4], all[6], all[8], all[10], all[11],
            ],
        ),
        ("a route without codes", Some(&failures), &all[..5]),
        ("a route with 0 attempts", Some(&none), &[]),
    ];
    let now = start();
    for (case, retry, expected) in cases {
        let again = all.into_iter().filter(|outcome| {
            let mut attempts = Attempts::new(retry, Limits::default(), now);
            attempts.begin(&"a".into(), now);
            let verdict = attempts.on_result(outcome, true, now, &mut generous(now), &mut longest);
            matches!(verdict, Verdict::Retry { .. })
        });
        assert_eq!(again.collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn what_stands_has_its_flag() {
    let now = start();
    let codes = route(1, &[503], MS(0));
    struct Case {
        name: &'static str,
        retry: Option<Retry>,
        outcome: Outcome,
        made: u32,
        replayable: bool,
        response_began: bool,
        flag: &'static str,
    }
    let base = Case {
        name: "",
        retry: Some(codes),
        outcome: status(503),
        made: 1,
        replayable: true,
        response_began: false,
        flag: "-",
    };
    let case = |name, flag| Case {
        name,
        flag,
        retry: base.retry.clone(),
        ..base
    };
    let cases = [
        Case {
            outcome: status(200),
            ..case("a response", "-")
        },
        Case {
            made: 2,
            ..case("the last attempt, a response", "URX")
        },
        Case {
            made: 2,
            outcome: Outcome::NotConnected,
            ..case("the last attempt, no connection", "URX")
        },
        Case {
            made: 2,
            outcome: status(200),
            ..case("the last attempt, a good one", "-")
        },
        Case {
            replayable: false,
            outcome: Outcome::Lost,
            ..case("a body that is gone", "UC")
        },
        Case {
            response_began: true,
            outcome: Outcome::Lost,
            ..case("the response had begun", "UC")
        },
        Case {
            retry: None,
            outcome: Outcome::Lost,
            ..case("lost, by default", "UC")
        },
        Case {
            retry: None,
            outcome: Outcome::TimedOut,
            ..case("late, by default", "UT")
        },
        Case {
            retry: None,
            outcome: Outcome::Malformed,
            ..case("malformed, by default", "UPE")
        },
        Case {
            retry: None,
            outcome: Outcome::NotConnected,
            made: 3,
            ..case("two more by default", "URX")
        },
        Case {
            retry: Some(route(0, &[503], MS(0))),
            outcome: Outcome::NotConnected,
            ..case("no retry was wanted", "UF")
        },
    ];
    for case in cases {
        let mut attempts = Attempts::new(case.retry.as_ref(), Limits::default(), now);
        for _ in 0..case.made {
            attempts.begin(&"a".into(), now);
        }
        if case.response_began {
            attempts.response_began();
            assert!(!attempts.another_is_possible());
        }
        let verdict = attempts.on_result(
            &case.outcome,
            case.replayable,
            now,
            &mut generous(now),
            &mut longest,
        );
        let Verdict::Finish(flag) = verdict else {
            panic!("{}: {verdict:?}", case.name);
        };
        assert_eq!(flag.as_str(), case.flag, "{}", case.name);
    }
}

#[test]
fn waits_grow_to_ten_times_and_are_drawn_from_all_of_it() {
    let now = start();
    let waits = |retry: Option<&Retry>, picker: &mut dyn FnMut(u32) -> u32, count: usize| {
        let mut attempts = Attempts::new(retry, Limits::default(), now);
        let mut waits = Vec::new();
        for _ in 0..count {
            attempts.begin(&"a".into(), now);
            let mut picker = |bound| picker(bound);
            let outcome = Outcome::NotConnected;
            match attempts.on_result(&outcome, true, now, &mut generous(now), &mut picker) {
                Verdict::Retry { at } => waits.push(at - now),
                Verdict::Finish(flag) => panic!("{flag}"),
            }
        }
        waits
    };
    let plain = route(100, &[], MS(0));
    let spaced = route(100, &[], MS(100));
    let mut shortest = |_| 0;
    let mut longest = longest;
    assert_eq!(waits(None, &mut longest, 2), [MS(25), MS(50)]);
    assert_eq!(waits(None, &mut shortest, 2), [MS(0), MS(0)]);
    let grown = waits(Some(&plain), &mut longest, 40);
    assert_eq!(grown[..6], [25, 50, 100, 200, 250, 250].map(MS));
    assert_eq!(grown[39], MS(250));
    assert_eq!(waits(Some(&spaced), &mut shortest, 2), [MS(100), MS(100)]);
    assert_eq!(waits(Some(&spaced), &mut longest, 2), [MS(200), MS(300)]);
}

#[test]
fn deadlines() {
    let now = start();
    let retry = route(9, &[], MS(100));
    let limits = |request, attempt| Limits { request, attempt };
    let uid = "a".into();
    let mut attempts = Attempts::new(Some(&retry), limits(Some(MS(1000)), Some(MS(300))), now);
    assert_eq!(attempts.deadline(), Some(now + MS(1000)));
    let first = attempts.begin(&uid, now);
    assert_eq!(first.deadline, Some(now + MS(300)), "of the attempt");
    let second = attempts.begin(&uid, now + MS(800));
    assert_eq!(second.deadline, Some(now + MS(1000)), "of the request");
    assert_eq!((first.number, second.number), (1, 2));
    let mut decide = |at| {
        let outcome = Outcome::TimedOut;
        attempts.on_result(&outcome, true, at, &mut generous(now), &mut |_| 0)
    };
    assert_eq!(decide(now + MS(899)), Verdict::Retry { at: now + MS(999) });
    let finish = Verdict::Finish(Flag::UpstreamTimeout);
    assert_eq!(decide(now + MS(900)), finish, "the wait would outlast it");
    let mut endless = Attempts::new(None, limits(None, None), now);
    assert_eq!(endless.begin(&uid, now).deadline, None);
    let forever = limits(Some(Duration::MAX), Some(Duration::MAX));
    let mut far = Attempts::new(None, forever, now);
    assert_eq!(far.begin(&uid, now).deadline, None);
}

#[test]
fn each_endpoint_is_remembered_once() {
    let now = start();
    let mut attempts = Attempts::new(None, Limits::default(), now);
    for uid in ["a", "b", "a"] {
        attempts.begin(&uid.into(), now);
    }
    assert_eq!(attempts.tried(), ["a".into(), "b".into()]);
    assert_eq!(attempts.made(), 3);
    assert!(!attempts.another_is_possible());
}

#[test]
fn a_spent_budget_ends_it() {
    let now = start();
    let limit = RetryBudget {
        min_per_second: 0,
        ..RetryBudget::default()
    };
    let mut budget = Budget::new(limit, now);
    let retry = route(1, &[500], MS(0));
    for outcome in [
        Outcome::NotConnected,
        Outcome::TimedOut,
        status(500),
        grpc(13),
    ] {
        let mut attempts = Attempts::new(Some(&retry), Limits::default(), now);
        attempts.begin(&"a".into(), now);
        let verdict = attempts.on_result(&outcome, true, now, &mut budget, &mut longest);
        assert_eq!(verdict, Verdict::Finish(Flag::UpstreamOverflow));
        let refusal = outcome.refusal(Flag::UpstreamOverflow, "");
        let refusal = refusal.expect("no response passes");
        let told = (refusal.status, refusal.flag.as_str());
        assert_eq!(told, (503, "UO"), "{outcome:?}");
    }
}

#[test]
fn the_budget_is_a_share_of_a_sliding_window_or_some_a_second() {
    let now = start();
    let limit = |percent, min_per_second| RetryBudget {
        percent,
        interval: MS(10_000),
        min_per_second,
    };
    let granted = |budget: &mut Budget, at, wanted: usize| {
        (0..wanted).filter(|_| budget.try_retry(at)).count()
    };

    let mut budget = Budget::new(limit(20, 0), now);
    for n in 0..100 {
        budget.on_request(now + MS(n * 50));
    }
    assert_eq!(
        granted(&mut budget, now + MS(5_000), 100),
        20,
        "20 % of 100"
    );
    assert_eq!(granted(&mut budget, now + MS(9_000), 100), 0, "spent");
    // The first second's 20 requests have left the window; the 20 retries have not.
    for _ in 0..20 {
        budget.on_request(now + MS(10_000));
    }
    assert_eq!(granted(&mut budget, now + MS(10_900), 100), 0);
    // At 15 s the retries and all requests but the last 20 have left.
    assert_eq!(granted(&mut budget, now + MS(15_900), 100), 4);
    assert_eq!(
        granted(&mut budget, now + MS(60_000), 100),
        0,
        "all is past"
    );

    let mut budget = Budget::new(limit(20, 10), now);
    assert_eq!(granted(&mut budget, now, 100), 10, "the least of a second");
    assert_eq!(granted(&mut budget, now + MS(999), 100), 0);
    assert_eq!(granted(&mut budget, now + MS(1_000), 100), 10);

    let mut budget = Budget::new(limit(0, 0), now);
    budget.on_request(now);
    assert_eq!(granted(&mut budget, now, 1), 0);
    budget.reconfigure(&limit(100, 0), now);
    assert_eq!(granted(&mut budget, now, 2), 1, "what was seen is kept");
}

#[test]
fn grpc_statuses_of_a_head() {
    let mut headers = HeaderMap::new();
    assert_eq!(Outcome::response(200, &headers).status(), Some(200));
    headers.insert("grpc-status", "14".parse().expect("a value"));
    assert_eq!(Outcome::response(200, &headers).status(), Some(503));
    assert_eq!(Outcome::response(502, &headers).status(), Some(502));
    headers.insert("grpc-status", "x".parse().expect("a value"));
    assert_eq!(Outcome::response(200, &headers).status(), Some(200));
}

#[test]
fn a_body_is_kept_up_to_its_bound() {
    let piece = Bytes::from(vec![b'x'; 10]);
    let mut replay = Replay::new(20);
    assert!(replay.is_whole());
    replay.push(&piece);
    replay.push(&Bytes::new());
    replay.push(&piece);
    assert!(replay.is_whole());
    assert_eq!(replay.pieces(), [piece.clone(), piece.clone()]);
    assert_eq!(replay.pieces()[0].as_ptr(), piece.as_ptr());
    replay.push(&Bytes::from_static(b"x"));
    assert!(!replay.is_whole());
    assert!(replay.pieces().is_empty());
    replay.push(&Bytes::from_static(b"x"));
    assert!(replay.pieces().is_empty(), "nothing is kept any more");
}
