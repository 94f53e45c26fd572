//! What answers mean, how long they are kept, and what an API server that fails leads to.

use super::*;
use crate::cluster::fake::Fake;
use serde_json::{Value, json};

fn status(user: &str, audiences: &[&str]) -> Value {
    let extra = json!({POD_NAME: ["p"], POD_UID: ["u"], NODE_NAME: ["n"]});
    json!({"authenticated": true, "user": {"username": user, "extra": extra}, "audiences": audiences})
}

#[test]
fn answers() {
    let rows = [
        (status("system:serviceaccount:a:b", &["istio-ca"]), "ok"),
        (
            status("system:serviceaccount:a:b", &["x", "istio-ca"]),
            "ok",
        ),
        (
            status("system:serviceaccount:a:b", &["other"]),
            "the token does not hold: it is not for istio-ca",
        ),
        (
            status("system:serviceaccount:a:b", &[]),
            "the token does not hold: it is not for istio-ca",
        ),
        (
            status("admin", &["istio-ca"]),
            "the token is not that of a service account: its user is not system:serviceaccount:NAMESPACE:NAME",
        ),
        (
            json!({"authenticated": false, "error": "expired"}),
            "the token does not hold: expired",
        ),
        (json!({}), "the token does not hold: the API server says so"),
    ];
    for (status, expected) in rows {
        let read = serde_json::from_value(status.clone()).expect("a status");
        match judge(&read, &["istio-ca".to_owned()]) {
            Ok(caller) => {
                assert_eq!(expected, "ok", "{status}");
                let pod = caller.pod.as_ref().map(|pod| (&*pod.name, &*pod.uid));
                assert_eq!((pod, caller.node.as_deref()), (Some(("p", "u")), Some("n")));
                assert_eq!(caller.account(), "a/b");
            }
            Err(error) => assert_eq!(error.to_string(), expected, "{status}"),
        }
    }
}

fn token(claims: &Value) -> String {
    format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn an_answer_is_kept_no_longer_than_the_token_lives_and_a_minute_passes() {
    let now = Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        monotonic: Instant::now(),
    };
    let caller = Caller {
        namespace: "a".into(),
        service_account: "b".into(),
        pod: None,
        node: None,
        entry: None,
    };
    let ends = |seconds: u64| token(&json!({"exp": seconds}));
    let never = [
        ends(1_000_000),
        ends(5),
        token(&json!({})),
        ends(u64::MAX),
        "opaque".to_owned(),
    ];
    for token in never {
        assert!(Kept::new(&token, &caller, now).is_none(), "{token}");
    }
    // A token that ends in ten seconds, and one that does not end soon: seconds that passed, and by which the clock was set.
    let (short, long) = (ends(1_000_010), ends(9_999_999));
    for (token, passed, set, holds) in [
        (&short, 9, 0, true),
        (&short, 10, 0, false),
        (&short, 1, 9, false),
        (&long, 59, 0, true),
        (&long, 60, 0, false),
        (&long, 59, 100_000, true),
        (&long, 59, -100_000, true),
        (&long, 60, -100_000, false),
    ] {
        let kept = Kept::new(token, &caller, now).expect("it is kept");
        let after = Duration::from_secs(passed);
        let set_by = Duration::from_secs(i64::unsigned_abs(set));
        let wall = now.wall + after;
        let then = Now {
            wall: if set < 0 {
                wall - set_by
            } else {
                wall + set_by
            },
            monotonic: now.monotonic + after,
        };
        assert_eq!(kept.holds(then), holds, "{token} {passed} {set}");
    }
}

#[tokio::test]
async fn the_api_server_is_asked_once_and_its_failure_is_no_refusal() {
    let fake = Fake::start().await;
    let reviews = Reviews::new(fake.cluster(), vec!["istio-ca".to_owned()]);
    let lives = token(&json!({"exp": 99_999_999_999_u64}));
    let account = status("system:serviceaccount:a:b", &["istio-ca"]);
    fake.review(&lives, account);
    for code in [500, 429, 403] {
        fake.fail("tokenreviews", code, None);
        let error = reviews.verify(&lives).await.expect_err("fails");
        assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
        let status = tonic::Status::from(error);
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
    let before = fake.requests("tokenreviews").len();
    for _ in 0..3 {
        let caller = reviews.verify(&lives).await.expect("holds");
        assert_eq!(caller.account(), "a/b");
    }
    assert_eq!(fake.requests("tokenreviews").len(), before + 1);
    // What does not hold is asked about each time: it may be a matter of moments.
    for _ in 0..2 {
        let error = reviews.verify("unknown").await.expect_err("unknown");
        assert_eq!(
            tonic::Status::from(error).code(),
            tonic::Code::Unauthenticated
        );
    }
    assert_eq!(fake.requests("tokenreviews").len(), before + 3);
}
