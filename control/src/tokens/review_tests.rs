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
fn an_answer_is_kept_no_longer_than_the_token_lives() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let rows = [
        (token(&json!({"exp": 1010})), Some(10)),
        (token(&json!({"exp": 9999})), Some(60)),
        (token(&json!({"exp": 1000})), None),
        (token(&json!({"exp": 5})), None),
        (token(&json!({})), None),
        (token(&json!({"exp": u64::MAX})), None),
        ("opaque".to_owned(), None),
    ];
    for (token, seconds) in rows {
        let until = seconds.map(|seconds| now + Duration::from_secs(seconds));
        assert_eq!(kept_until(&token, now), until, "{token}");
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
