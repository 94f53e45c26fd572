//! Tokens that are found, and tokens that are refused.

use super::*;

#[test]
fn tokens_are_taken_apart_strictly() {
    let rs = json!({"alg": "RS256", "kid": "r1"});
    let with = |key: &str, value: Value| {
        let mut header = rs.clone();
        header[key] = value;
        signed(header, good_claims(), "r1")
    };
    let by = |alg: &str, kid: &str, signer: &str| {
        signed(json!({"alg": alg, "kid": kid}), good_claims(), signer)
    };
    let algorithm = "the token's algorithm is not accepted";
    let shape = "the token is not of the form HEADER.PAYLOAD.SIGNATURE";
    let no_key = "no key of issuer fits the token";
    let wrong = "the token's signature is wrong";
    let header = "the token's header is not a JSON object with one alg";
    let critical = "the token has critical header parameters";
    let twice = b64(r#"{"alg":"RS256","alg":"none","kid":"r1"}"#);
    let rest = format!(
        "{}.{}",
        b64(good_claims().to_string()),
        b64(signature("r1"))
    );
    let cases = [
        ("good", good(), "issuer/alice"),
        ("RSA-PSS", by("PS384", "r1", "r1"), "issuer/alice"),
        ("ECDSA", by("ES256", "e1", "e1"), "issuer/alice"),
        ("Ed25519", by("EdDSA", "d1", "d1"), "issuer/alice"),
        (
            "no kid: every key that fits",
            signed(json!({"alg": "ES256"}), good_claims(), "e1"),
            "issuer/alice",
        ),
        ("alg none", by("none", "r1", "r1"), algorithm),
        ("alg None", by("None", "r1", "r1"), algorithm),
        (
            "alg none without a signature",
            {
                let token = by("none", "r1", "r1");
                let (front, _) = token.rsplit_once('.').expect("a token");
                format!("{front}.")
            },
            algorithm,
        ),
        (
            "no signature",
            {
                let token = good();
                let (front, _) = token.rsplit_once('.').expect("a token");
                format!("{front}.")
            },
            wrong,
        ),
        (
            "a MAC with the public key",
            by("HS256", "r1", "r1"),
            algorithm,
        ),
        ("EC algorithm, RSA key", by("ES256", "r1", "r1"), no_key),
        ("RSA algorithm, EC key", by("RS256", "e1", "e1"), no_key),
        ("the other curve", by("ES384", "e1", "e1"), no_key),
        ("another's signature", by("RS256", "r1", "e1"), wrong),
        ("unknown kid", by("RS256", "r2", "r2"), no_key),
        (
            "kid that is a path",
            by("RS256", "../../dev/null", "r1"),
            no_key,
        ),
        (
            "kid that is SQL",
            by("RS256", "r1' OR '1'='1", "r1"),
            no_key,
        ),
        ("kid that is a number", with("kid", json!(1)), header),
        ("alg twice", format!("{twice}.{rest}"), header),
        (
            "no alg",
            signed(json!({"kid": "r1"}), good_claims(), "r1"),
            header,
        ),
        ("crit", with("crit", json!(["exp"])), critical),
        ("empty crit", with("crit", json!([])), critical),
        ("b64", with("b64", json!(false)), critical),
        (
            "a key in the header is not looked at",
            with("jwk", ec("r1")),
            "issuer/alice",
        ),
        (
            "a URL in the header is not looked at",
            with("jku", json!("http://evil")),
            "issuer/alice",
        ),
        (
            "nested",
            with("cty", json!("JWT")),
            "the token holds another token",
        ),
        (
            "encrypted",
            with("enc", json!("A128GCM")),
            "the token is encrypted",
        ),
        ("five parts", format!("{}.a.b", good()), shape),
        ("two parts", "a.b".into(), shape),
        ("empty", String::new(), shape),
        (
            "padded",
            format!("{}=", good()),
            "the token's signature is not base64url",
        ),
        (
            "not base64",
            "!.a.b".into(),
            "the token's header is not base64url",
        ),
        (
            "payload is a list",
            signed(rs.clone(), json!([]), "r1"),
            "the token's payload is not a JSON object",
        ),
        (
            "long",
            "a".repeat(17 << 10),
            "the token is longer than 16 KiB",
        ),
        (
            "another issuer",
            signed(rs.clone(), json!({"iss": "Issuer", "aud": "api"}), "r1"),
            "no rule accepts the token's issuer",
        ),
        (
            "no issuer",
            signed(rs.clone(), json!({"aud": "api"}), "r1"),
            "no rule accepts the token's issuer",
        ),
    ];
    for (case, token, wanted) in cases {
        let found = judge(vec![rule()], &bearer(&token), None);
        assert_eq!(outcome(found), wanted, "{case}");
    }
}

#[test]
fn tokens_are_found_where_rules_say() {
    let good = &good();
    let more = "the request has more than one token";
    let shape = "the token is not of the form HEADER.PAYLOAD.SIGNATURE";
    let auth = |value: String| [("authorization", value)];
    let custom = || {
        vec![
            from_header("x-jwt", ""),
            TokenSource::Cookie("session".into()),
        ]
    };
    let encoded = format!("access%5Ftoken={}", good.replace('.', "%2E"));
    type Row<'a> = (
        &'a str,
        Vec<TokenSource>,
        Vec<(&'static str, String)>,
        Option<String>,
        &'a str,
    );
    let rows: Vec<Row<'_>> = vec![
        ("nowhere", vec![], vec![], None, "none"),
        (
            "bearer",
            vec![],
            auth(format!("Bearer {good}")).into(),
            None,
            "issuer/alice",
        ),
        (
            "scheme in any case",
            vec![],
            auth(format!("bEARER  {good} ")).into(),
            None,
            "issuer/alice",
        ),
        (
            "another scheme",
            vec![],
            auth("Basic abc".into()).into(),
            None,
            "none",
        ),
        (
            "a scheme that only begins so",
            vec![],
            auth("BearerX abc".into()).into(),
            None,
            "none",
        ),
        (
            "nothing after the scheme",
            vec![],
            auth("Bearer".into()).into(),
            None,
            shape,
        ),
        (
            "two in a line",
            vec![],
            auth(format!("Bearer {good}, Bearer {good}")).into(),
            None,
            shape,
        ),
        (
            "authorization twice",
            vec![],
            vec![
                ("authorization", format!("Bearer {good}")),
                ("authorization", format!("Bearer {good}")),
            ],
            None,
            more,
        ),
        (
            "authorization twice, one of another scheme",
            vec![],
            vec![
                ("authorization", "Basic abc".into()),
                ("authorization", format!("Bearer {good}")),
            ],
            None,
            more,
        ),
        (
            "query",
            vec![],
            vec![],
            Some(format!("a=b&access_token={good}")),
            "issuer/alice",
        ),
        (
            "query, percent-encoded",
            vec![],
            vec![],
            Some(encoded),
            "issuer/alice",
        ),
        (
            "query twice",
            vec![],
            vec![],
            Some(format!("access_token={good}&access_token={good}")),
            more,
        ),
        (
            "the same in two places",
            vec![],
            auth(format!("Bearer {good}")).into(),
            Some(format!("access_token={good}")),
            "issuer/alice",
        ),
        (
            "two tokens",
            vec![],
            auth(format!("Bearer {good}")).into(),
            Some("access_token=other".into()),
            more,
        ),
        (
            "header of the rule",
            custom(),
            vec![("x-jwt", good.clone())],
            None,
            "issuer/alice",
        ),
        (
            "its places alone",
            custom(),
            auth(format!("Bearer {good}")).into(),
            None,
            "none",
        ),
        (
            "cookie",
            custom(),
            vec![("cookie", format!("a=b; session={good}; c"))],
            None,
            "issuer/alice",
        ),
        (
            "cookie crumbs",
            custom(),
            vec![
                ("cookie", "a=b".into()),
                ("cookie", format!("session={good}")),
            ],
            None,
            "issuer/alice",
        ),
        (
            "cookie twice",
            custom(),
            vec![("cookie", format!("session={good}; session=x"))],
            None,
            more,
        ),
    ];
    for (case, sources, sent, query, wanted) in rows {
        let rule = JwtRule { sources, ..rule() };
        let sent: Vec<_> = sent
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let found = judge(vec![rule], &headers(&sent), query.as_deref());
        assert_eq!(outcome(found), wanted, "{case}");
    }
}

#[test]
fn one_rule_has_to_accept() {
    let other = || JwtRule {
        issuer: "other".into(),
        ..rule()
    };
    let audience = || JwtRule {
        audiences: vec!["web".into()],
        ..rule()
    };
    let elsewhere = JwtRule {
        sources: vec![from_header("x-jwt", "")],
        ..rule()
    };
    let cases = [
        ("the second", vec![other(), rule()], "issuer/alice"),
        (
            "the second of its issuer",
            vec![audience(), rule()],
            "issuer/alice",
        ),
        (
            "none of its issuer",
            vec![other()],
            "no rule accepts the token's issuer",
        ),
        (
            "none of its audience",
            vec![audience()],
            "the token is for another audience",
        ),
        (
            "none that looks there",
            vec![elsewhere, other()],
            "no rule accepts the token's issuer",
        ),
        ("no rules", vec![], "none"),
    ];
    for (case, rules, wanted) in cases {
        assert_eq!(
            outcome(judge(rules, &bearer(&good()), None)),
            wanted,
            "{case}"
        );
    }
}

#[test]
fn without_keys_no_token_is_good() {
    let headers = bearer(&good());
    let request = TokenRequest {
        headers: &headers,
        query: None,
    };
    let none = Known(Err("connection refused".into()));
    let found = authenticate(
        &[authentication(vec![rule()])],
        &request,
        &none,
        &Fake,
        now(),
    );
    let rejection = found.expect_err("no keys");
    assert_eq!(rejection.refusal.status, 401);
    assert_eq!(
        rejection.refusal.reason,
        "the keys of issuer are not available: connection refused"
    );
    assert_eq!(rejection.stale, Some(Box::new(rule().keys)));
    assert_eq!(Rejection::CHALLENGE, "Bearer error=\"invalid_token\"");
    // Who has no token is not concerned.
    let empty = HeaderMap::new();
    let request = TokenRequest {
        headers: &empty,
        query: None,
    };
    let found = authenticate(
        &[authentication(vec![rule()])],
        &request,
        &none,
        &Fake,
        now(),
    );
    assert_eq!(found, Ok(None));
}

#[test]
fn a_missing_key_asks_for_newer_ones_and_a_wrong_signature_does_not() {
    let token = |kid: &str, signer: &str| {
        signed(json!({"alg": "RS256", "kid": kid}), good_claims(), signer)
    };
    for (kid, signer, stale) in [("r9", "r9", true), ("r1", "r9", false)] {
        let found = judge(vec![rule()], &bearer(&token(kid, signer)), None);
        let rejection = found.expect_err("refused");
        assert_eq!(rejection.stale.is_some(), stale, "{kid}");
    }
}

#[test]
fn what_is_not_understood_refuses_every_token() {
    let broken = RequestAuthentication {
        undecodable: Some("jwtRules[0]: no issuer".into()),
        ..authentication(vec![])
    };
    let all = [authentication(vec![rule()]), broken];
    let judge = |headers: &HeaderMap| {
        let request = TokenRequest {
            headers,
            query: None,
        };
        outcome(authenticate(&all, &request, &known(), &Fake, now()))
    };
    assert_eq!(
        judge(&bearer(&good())),
        "request authentication ns/jwt cannot be understood (jwtRules[0]: no issuer); \
         correct or remove it"
    );
    assert_eq!(judge(&HeaderMap::new()), "none");
}
