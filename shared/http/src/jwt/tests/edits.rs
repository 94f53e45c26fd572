//! What the backend sees.

use super::*;
use crate::path::{CanonicalPath, canonical};

fn path(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn at(query: Option<&str>) -> CanonicalPath {
    let root = canonical("/").expect("a path");
    root.with_query(query).expect("a query")
}

/// Authenticates and edits; gives the headers and the query that leave.
fn edited(rule: JwtRule, mut sent: HeaderMap, query: Option<&str>) -> (HeaderMap, Option<String>) {
    let found = judge(vec![rule], &sent, query).expect("good");
    let found = found.expect("a token");
    let mut path = at(query);
    found.edit(&mut sent, &mut path);
    assert_eq!(path.path(), "/");
    (sent, path.query().map(str::to_owned))
}

#[test]
fn the_token_goes_unless_it_is_forwarded() {
    let good = &good();
    let (left, _) = edited(rule(), bearer(good), None);
    assert!(!left.contains_key(AUTHORIZATION));
    let forward = JwtRule {
        forward: true,
        ..rule()
    };
    let (left, _) = edited(forward.clone(), bearer(good), None);
    assert_eq!(left[AUTHORIZATION], format!("Bearer {good}"));
    let queries = [
        (format!("access_token={good}"), None),
        (format!("a=1&access_token={good}&b=%20"), Some("a=1&b=%20")),
        (format!("access%5Ftoken={good}&&b"), Some("&b")),
    ];
    for (query, left) in queries {
        let (_, found) = edited(rule(), HeaderMap::new(), Some(&query));
        assert_eq!(found.as_deref(), left, "{query}");
        let (_, found) = edited(forward.clone(), HeaderMap::new(), Some(&query));
        assert_eq!(found.as_deref(), Some(&*query), "forwarded");
    }
    let cookies = JwtRule {
        sources: vec![TokenSource::Cookie("session".into())],
        ..rule()
    };
    let sent = headers(&[
        ("cookie", &format!("a=1; session={good}; b=2")),
        ("cookie", "c=3"),
    ]);
    let (left, _) = edited(cookies.clone(), sent, None);
    let left: Vec<_> = left.get_all(COOKIE).iter().collect();
    assert_eq!(left, ["a=1; b=2", "c=3"]);
    let sent = headers(&[("cookie", &format!("session={good}"))]);
    assert!(edited(cookies, sent, None).0.is_empty());
}

#[test]
fn both_places_of_one_token_are_cleared() {
    let good = good();
    let query = format!("access_token={good}");
    let (headers, left) = edited(rule(), bearer(&good), Some(&query));
    assert!(headers.is_empty());
    assert_eq!(left, None);
    // The other place is another rule's.
    let elsewhere = JwtRule {
        issuer: "other".into(),
        sources: vec![TokenSource::Query("access_token".into())],
        ..rule()
    };
    let here = JwtRule {
        sources: vec![from_header("authorization", "Bearer ")],
        ..rule()
    };
    let found = judge(vec![elsewhere, here], &bearer(&good), Some(&query));
    let found = found.expect("good").expect("a token");
    let mut path = at(Some(&query));
    found.edit(&mut bearer(&good), &mut path);
    assert_eq!(path.as_str(), "/");
}

#[test]
fn payload_and_claims_are_the_verified_ones() {
    let name = HeaderName::from_static;
    let rule = JwtRule {
        payload_header: Some(name("x-payload")),
        claim_headers: vec![
            (name("x-sub"), path(&["sub"])),
            (name("x-team"), path(&["org", "team"])),
            (name("x-level"), path(&["level"])),
            (name("x-admin"), path(&["admin"])),
            (name("x-list"), path(&["list"])),
            (name("x-bad"), path(&["bad"])),
            (name("x-gone"), path(&["gone"])),
        ],
        ..rule()
    };
    let mut claims = good_claims();
    claims["org"] = json!({"team": "blue"});
    claims["level"] = json!(3);
    claims["admin"] = json!(true);
    claims["list"] = json!(["x"]);
    claims["bad"] = json!("a\r\nx-admin: true");
    let token = signed(json!({"alg": "RS256", "kid": "r1"}), claims.clone(), "r1");
    let mut sent = bearer(&token);
    for forged in ["x-payload", "x-sub", "x-list", "x-bad", "x-gone"] {
        sent.append(name(forged), HeaderValue::from_static("forged"));
    }
    let all = [authentication(vec![rule.clone()])];
    sanitise(&all, &mut sent);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let (left, _) = edited(rule, sent, None);
    let payload = b64(claims.to_string());
    let wanted = headers(&[
        ("x-payload", &payload),
        ("x-sub", "alice"),
        ("x-team", "blue"),
        ("x-level", "3"),
        ("x-admin", "true"),
    ]);
    assert_eq!(left, wanted);
}

#[test]
fn claims_do_not_say_what_is_ours() {
    let name = HeaderName::from_static;
    let rule = JwtRule {
        payload_header: Some(name("x-forwarded-client-cert")),
        claim_headers: vec![
            (name("host"), path(&["sub"])),
            (name("content-length"), path(&["exp"])),
        ],
        ..rule()
    };
    let ours = headers(&[
        ("x-forwarded-client-cert", "URI=spiffe://td/ns/a/sa/b"),
        ("host", "shop"),
        ("content-length", "3"),
    ]);
    let mut sent = bearer(&good());
    sent.extend(ours.clone());
    sanitise(&[authentication(vec![rule.clone()])], &mut sent);
    let (left, _) = edited(rule, sent, None);
    assert_eq!(left, ours);
}
