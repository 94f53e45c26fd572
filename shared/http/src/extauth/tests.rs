use std::time::Duration;

use super::*;
use crate::model::route::BackendRef;

fn authorizer(kind: AuthorizerKind) -> Authorizer {
    Authorizer {
        key: "ns/ext".parse().expect("a name"),
        kind,
        backend: BackendRef::Service {
            service: "ns/ext.example".parse().expect("a name"),
            port: 80,
        },
        timeout: Duration::from_secs(1),
        fail_open: false,
        status_on_error: 0,
        request_headers: Vec::new(),
        upstream_headers: Vec::new(),
        body_limit: 0,
    }
}

fn grpc() -> Authorizer {
    authorizer(AuthorizerKind::Grpc)
}

fn http() -> Authorizer {
    let path_prefix = "/check/".into();
    authorizer(AuthorizerKind::Http { path_prefix })
}

fn names(names: &[&'static str]) -> Vec<HeaderName> {
    names
        .iter()
        .map(|name| HeaderName::from_static(name))
        .collect()
}

fn pairs(pairs: &[(&'static str, &'static str)]) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    pairs.iter().map(pair).collect()
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(list) {
        headers.append(name, value);
    }
    headers
}

fn reply(status: u16, list: &[(&'static str, &'static str)]) -> Reply {
    Reply {
        status,
        headers: headers(list),
        body: Bytes::from_static(b"why"),
    }
}

#[test]
fn an_authorizer_sees_its_list() {
    let sent = headers(&[
        ("host", "a"),
        ("content-length", "3"),
        ("x-forwarded-for", "10.0.0.7"),
        ("authorization", "Bearer t"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-b", "3"),
    ]);
    let check = Check {
        source: None,
        source_address: "10.0.0.7:1".parse().expect("an address"),
        destination: "10.1.0.1:80".parse().expect("an address"),
        method: &Method::GET,
        host: "a",
        path: "/x?y=1",
        headers: &sent,
        body: Bytes::new(),
    };
    let listing = |authorizer: Authorizer, list: &[&'static str]| Authorizer {
        request_headers: names(list),
        ..authorizer
    };
    let cases = [
        ("all", grpc(), vec!["10.0.0.7", "Bearer t", "1", "2", "3"]),
        ("its list", listing(grpc(), &["x-a"]), vec!["1", "2"]),
        (
            "and the token over HTTP",
            listing(http(), &["x-b", "host"]),
            vec!["Bearer t", "3"],
        ),
    ];
    for (case, authorizer, wanted) in cases {
        let found: Vec<_> = check
            .headers_for(&authorizer)
            .map(|(_, value)| value)
            .collect();
        assert_eq!(found, wanted, "{case}");
    }
    assert_eq!(check.path_below("/check/"), "/check/x?y=1");
    assert_eq!(check.path_below(""), "/x?y=1");
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let limited = Authorizer {
        body_limit: 10,
        ..grpc()
    };
    assert_eq!(body_fits(&limited, 10), Ok(()));
    assert_eq!(
        body_fits(&limited, 11).map_err(|refusal| refusal.status),
        Err(413)
    );
    assert_eq!(body_fits(&grpc(), 1 << 40), Ok(()), "no body is asked for");
}

#[test]
fn who_allows_changes_what_it_may() {
    let changes = Changes {
        set: pairs(&[
            ("x-user", "alice"),
            ("x-forwarded-client-cert", "URI=spiffe://evil"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-ambit-caller", "spiffe://evil"),
            ("host", "evil"),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("x_role", "admin"),
        ]),
        append: pairs(&[("x-group", "a"), ("x-group", "b"), ("connection", "x")]),
        remove: names(&["cookie", "host", "x-request-id"]),
        response: pairs(&[("set-cookie", "a=b"), ("content-length", "0")]),
    };
    let Outcome::Allow(found) = decide(&grpc(), Answer::Ok(changes.clone())) else {
        panic!("allowed");
    };
    let wanted = Changes {
        set: pairs(&[("x-user", "alice")]),
        append: pairs(&[("x-group", "a"), ("x-group", "b")]),
        remove: names(&["cookie"]),
        response: pairs(&[("set-cookie", "a=b")]),
    };
    assert_eq!(found, wanted);
    let mut request = headers(&[
        ("x-user", "forged"),
        ("x-user", "twice"),
        ("x-group", "0"),
        ("cookie", "c"),
    ]);
    found.apply(&mut request);
    let wanted = headers(&[
        ("x-user", "alice"),
        ("x-group", "0"),
        ("x-group", "a"),
        ("x-group", "b"),
    ]);
    assert_eq!(request, wanted);
    let listing = Authorizer {
        upstream_headers: names(&["x-group", "host"]),
        ..grpc()
    };
    let Outcome::Allow(found) = decide(&listing, Answer::Ok(changes)) else {
        panic!("allowed");
    };
    assert_eq!(found.set, []);
    assert_eq!(found.append, pairs(&[("x-group", "a"), ("x-group", "b")]));
}

#[test]
fn answers_over_http() {
    let sent = [
        ("x-user", "alice"),
        ("content-type", "text/html"),
        ("date", "today"),
        ("host", "evil"),
    ];
    let Outcome::Allow(found) = decide(&http(), Answer::Http(reply(200, &sent))) else {
        panic!("allowed");
    };
    assert_eq!(found.set, pairs(&[("x-user", "alice")]));
    let rows = [
        (401, 401, "denied by authorizer ns/ext with 401"),
        (302, 302, "denied by authorizer ns/ext with 302"),
        (201, 403, "denied by authorizer ns/ext with 403"),
        (101, 403, "denied by authorizer ns/ext with 403"),
        (
            503,
            403,
            "authorizer ns/ext has not answered: it answered 503",
        ),
    ];
    for (status, wanted, reason) in rows {
        let sent = [("location", "/login"), ("transfer-encoding", "chunked")];
        let outcome = decide(&http(), Answer::Http(reply(status, &sent)));
        let Outcome::Deny {
            refusal,
            headers: left,
            body,
        } = outcome
        else {
            panic!("{status} denies");
        };
        assert_eq!(
            refusal,
            Refusal::new(wanted, Flag::ExternalAuthDenied, reason)
        );
        if status < 500 {
            assert_eq!(left, headers(&[("location", "/login")]), "{status}");
            assert_eq!(body, "why", "{status}");
        } else {
            assert!(
                left.is_empty() && body.is_empty(),
                "what failed says nothing"
            );
        }
    }
}

#[test]
fn no_answer_is_a_no() {
    let failing = |status_on_error, fail_open| Authorizer {
        status_on_error,
        fail_open,
        ..grpc()
    };
    let failed = || Answer::Failed("timed out".into());
    for (status_on_error, wanted) in [(0, 403), (503, 503), (200, 403)] {
        let Outcome::Deny { refusal, .. } = decide(&failing(status_on_error, false), failed())
        else {
            panic!("fails closed");
        };
        assert_eq!(refusal.status, wanted);
        assert_eq!(
            refusal.reason,
            "authorizer ns/ext has not answered: timed out"
        );
    }
    let open = decide(&failing(503, true), failed());
    assert_eq!(open, Outcome::Allow(Changes::default()));
    let speaking = Authorizer {
        upstream_headers: names(&["x-user", "x-request-id"]),
        ..failing(503, true)
    };
    let Outcome::Allow(silent) = decide(&speaking, failed()) else {
        panic!("fails open");
    };
    assert!(
        silent.remove.contains(&names(&["x-user"])[0]),
        "nobody said who it is"
    );
    let denied = decide(&failing(503, true), Answer::Denied(reply(403, &[])));
    assert!(matches!(denied, Outcome::Deny { .. }), "an answer counts");
}
