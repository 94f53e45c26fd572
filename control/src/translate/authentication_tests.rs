//! RequestAuthentication: keys, where tokens are, what goes to the backend, what fails closed.

use std::sync::Arc;

use ambit_http::model::{KeySource, RequestAuthentication, Resource, TokenSource};

use crate::index::Index;
use crate::translate::testing::{SERVICES, conditions, index, notices, problems, resource, status};

fn of(spec: &str) -> Index {
    index(&format!(
        "{SERVICES}---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: jwt, namespace: shop}}\nspec: {{{spec}}}\n"
    ))
}

fn web(rules: &str) -> (Arc<RequestAuthentication>, Vec<String>) {
    let index = of(&format!(
        "targetRefs: [{{kind: Service, group: '', name: web}}], jwtRules: [{rules}]"
    ));
    let found = match resource(&index, "authentication/shop/jwt") {
        Some(Resource::Authentication(found)) => found,
        other => panic!("{other:?}"),
    };
    (found, problems(&index, "RequestAuthentication shop/jwt"))
}

#[test]
fn where_the_keys_are() {
    let inline = "{\"keys\": []}";
    let cases = [
        (
            format!("jwks: '{inline}'"),
            Some(KeySource::Inline(inline.into())),
        ),
        (
            "jwksUri: https://issuer.example.com/keys".to_owned(),
            Some(KeySource::Url("https://issuer.example.com/keys".into())),
        ),
        (
            "jwksUri: http://issuer.example.com/keys".to_owned(),
            Some(KeySource::Url("http://issuer.example.com/keys".into())),
        ),
        (
            "jwksUri: https://web.shop/keys".to_owned(),
            Some(KeySource::Url("https://web.shop/keys".into())),
        ),
        ("jwksUri: http://web.shop:99/keys".to_owned(), None),
        ("jwksUri: ftp://web.shop/keys".to_owned(), None),
        ("jwksUri: /keys".to_owned(), None),
        ("jwks: '{}'".to_owned(), None),
        ("jwks: 'no'".to_owned(), None),
        (format!("jwks: '{inline}', jwksUri: https://a/b"), None),
        ("audiences: [a]".to_owned(), None),
    ];
    for (keys, expected) in cases {
        let (found, problems) = web(&format!("{{issuer: i, {keys}}}"));
        assert_eq!(
            found.rules.first().map(|rule| rule.keys.clone()),
            expected,
            "{keys}"
        );
        assert_eq!(
            problems.len(),
            usize::from(expected.is_none()),
            "{keys}: {problems:?}"
        );
        assert_eq!(found.undecodable.is_some(), expected.is_none(), "{keys}");
    }
    for host in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        let (found, _) = web(&format!("{{issuer: i, jwksUri: 'http://{host}/keys?x=1'}}"));
        let KeySource::Service {
            path,
            host: as_written,
            ..
        } = &found.rules[0].keys
        else {
            panic!("{host}");
        };
        assert_eq!((&**path, &**as_written), ("/keys?x=1", host));
    }
}

#[test]
fn where_tokens_are() {
    let sources = |fields: &str| {
        let (found, problems) = web(&format!("{{issuer: i, jwksUri: https://a/b, {fields}}}"));
        (
            found
                .rules
                .first()
                .map(|rule| rule.sources.clone())
                .unwrap_or_default(),
            problems.len(),
        )
    };
    let bearer = TokenSource::Header {
        name: http::header::AUTHORIZATION,
        prefix: "Bearer ".into(),
    };
    let default = vec![bearer, TokenSource::Query("access_token".into())];
    assert_eq!(sources("audiences: [a]"), (default, 0));
    let (found, _) = sources(
        "fromHeaders: [{name: X-Token, prefix: 'jwt '}], fromParams: [t], fromCookies: [c]",
    );
    assert_eq!(found.len(), 3);
    for wrong in [
        "fromHeaders: [{name: 'a b'}]",
        "fromParams: ['']",
        "fromCookies: ['']",
        "outputPayloadToHeader: 'a b'",
        "outputPayloadToHeader: X-Forwarded-Client-Cert",
        "outputClaimToHeaders: [{header: content-length, claim: a}]",
        "outputClaimToHeaders: [{header: x, claim: 'a..b'}]",
        "outputClaimToHeaders: [{header: 'x y', claim: a}]",
    ] {
        assert_eq!(sources(wrong), (Vec::new(), 1), "{wrong}");
    }
}

#[test]
fn what_goes_to_the_backend() {
    let (found, _) = web(
        "{issuer: i, jwksUri: https://a/b, forwardOriginalToken: true, outputPayloadToHeader: X-Payload, outputClaimToHeaders: [{header: x-role, claim: realm.role}]}",
    );
    let rule = &found.rules[0];
    assert!(rule.forward);
    assert_eq!(
        rule.payload_header.as_ref().map(http::HeaderName::as_str),
        Some("x-payload")
    );
    assert_eq!(rule.claim_headers[0].1, ["realm".into(), "role".into()]);
}

#[test]
fn a_bad_rule_accepts_nothing_and_the_others_stay() {
    let (found, problems) = web("{jwksUri: https://a/b}, {issuer: i, jwksUri: https://a/b}");
    assert_eq!((found.rules.len(), problems.len()), (1, 1));
    assert_eq!(found.undecodable, None);
    let (_, problems) = web("{issuer: i, jwksUri: https://a/b, presence: REQUIRED}");
    assert_eq!(problems.len(), 1, "it is not enforced");
}

#[test]
fn without_targets_it_has_no_effect() {
    let index =
        of("selector: {matchLabels: {a: b}}, jwtRules: [{issuer: i, jwksUri: https://a/b}]");
    assert_eq!(resource(&index, "authentication/shop/jwt"), None);
    assert_eq!(notices(&index, "RequestAuthentication shop/jwt").len(), 1);
    let status = status(&index, "RequestAuthentication shop/jwt").expect("a status");
    let found = &status["conditions"];
    assert_eq!(conditions(found), ["WaypointAccepted=False/NoTarget"]);
    let message = found[0]["message"].as_str().unwrap_or_default();
    let remedy = "name a Service or Gateway in spec.targetRefs";
    assert!(message.contains(remedy), "{message}");
}

#[test]
fn its_status_says_whether_waypoints_take_it() {
    for (service, accepted) in [("gone", "TargetNotFound"), ("web", "AncestorNotBound")] {
        let index = of(&format!(
            "targetRefs: [{{kind: Service, group: '', name: {service}}}]"
        ));
        let status = status(&index, "RequestAuthentication shop/jwt").expect("a status");
        assert_eq!(
            conditions(&status["conditions"]),
            [format!("WaypointAccepted=False/{accepted}")]
        );
    }
}
