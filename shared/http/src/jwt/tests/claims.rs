//! Times and audiences.

use super::*;

#[test]
fn times_and_audiences() {
    let with = |changes: Value| {
        let mut claims = good_claims();
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    };
    let good = "issuer/alice";
    let expired = "the token has expired";
    let early = "the token is not valid yet";
    let audience = "the token is for another audience";
    let cases = [
        ("expires now", with(json!({"exp": NOW})), good),
        (
            "expired within the skew",
            with(json!({"exp": NOW - 60})),
            good,
        ),
        ("expired", with(json!({"exp": NOW - 61})), expired),
        ("expired long ago", with(json!({"exp": -1})), expired),
        (
            "expires after a fraction",
            with(json!({"exp": NOW as f64 + 0.5})),
            good,
        ),
        (
            "never expires",
            json!({"iss": "issuer", "sub": "alice", "aud": "api"}),
            good,
        ),
        (
            "expires never, in words",
            with(json!({"exp": "never"})),
            "the token's exp is not a number",
        ),
        (
            "expires at no time",
            with(json!({"exp": null})),
            "the token's exp is not a number",
        ),
        (
            "begins within the skew",
            with(json!({"nbf": NOW + 60})),
            good,
        ),
        ("begins later", with(json!({"nbf": NOW + 61})), early),
        (
            "begins at no time",
            with(json!({"nbf": []})),
            "the token's nbf is not a number",
        ),
        (
            "one of its audiences",
            with(json!({"aud": ["x", "api"]})),
            good,
        ),
        (
            "other audiences",
            with(json!({"aud": ["x", "API"]})),
            audience,
        ),
        (
            "an audience that begins so",
            with(json!({"aud": "api2"})),
            audience,
        ),
        ("audiences of numbers", with(json!({"aud": [1]})), audience),
        (
            "no audience",
            json!({"iss": "issuer", "sub": "alice"}),
            audience,
        ),
    ];
    for (case, claims, wanted) in cases {
        let token = signed(json!({"alg": "RS256", "kid": "r1"}), claims, "r1");
        let found = judge(vec![rule()], &bearer(&token), None);
        assert_eq!(outcome(found), wanted, "{case}");
    }
    let any = JwtRule {
        audiences: Vec::new(),
        ..rule()
    };
    let token = signed(
        json!({"alg": "RS256", "kid": "r1"}),
        json!({"iss": "issuer", "sub": "alice"}),
        "r1",
    );
    assert_eq!(outcome(judge(vec![any], &bearer(&token), None)), good);
}
