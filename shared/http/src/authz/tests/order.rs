//! Which policy decides.

use super::*;

fn shop() -> Vec<Rule> {
    vec![from(in_namespace("shop"))]
}

fn other() -> Vec<Rule> {
    vec![from(in_namespace("other"))]
}

fn deny(key: &str, rules: Vec<Rule>) -> Policy {
    policy(key, Action::Deny, rules)
}

fn allow(key: &str, rules: Vec<Rule>) -> Policy {
    policy(key, Action::Allow, rules)
}

fn custom(key: &str, authorizer: &str, rules: Vec<Rule>) -> Policy {
    policy(key, Action::Custom(name(authorizer)), rules)
}

fn audit(key: &str, rules: Vec<Rule>) -> Policy {
    policy(key, Action::Audit, rules)
}

fn dry(policy: Policy) -> Policy {
    Policy {
        dry_run: true,
        ..policy
    }
}

fn broken(policy: Policy) -> Policy {
    Policy {
        undecodable: Some("rules[0]: what is this".into()),
        ..policy
    }
}

#[test]
fn who_decides() {
    let everything = || vec![Rule::default()];
    let cases = [
        ("nothing", vec![], "allowed: no policy refuses it"),
        (
            "a rule of ALLOW",
            vec![allow("ns/a", vec![other()[0].clone(), shop()[0].clone()])],
            "allowed by policy ns/a, rule 1",
        ),
        (
            "no rule of ALLOW",
            vec![allow("ns/a", other())],
            "denied: no rule of the ALLOW policy ns/a matches",
        ),
        (
            "ALLOW without rules",
            vec![allow("ns/a", vec![])],
            "denied: no rule of the ALLOW policy ns/a matches",
        ),
        (
            "two ALLOW",
            vec![allow("ns/a", other()), allow("ns/b", vec![])],
            "denied: no rule of 2 ALLOW policies matches (the first is ns/a)",
        ),
        (
            "the second ALLOW",
            vec![allow("ns/a", other()), allow("ns/b", shop())],
            "allowed by policy ns/b, rule 0",
        ),
        (
            "the empty rule",
            vec![allow("ns/a", everything())],
            "allowed by policy ns/a, rule 0",
        ),
        (
            "DENY before ALLOW",
            vec![allow("ns/a", shop()), deny("ns/d", everything())],
            "denied by policy ns/d, rule 0",
        ),
        (
            "DENY that does not match",
            vec![deny("ns/d", other())],
            "allowed: no policy refuses it",
        ),
        (
            "DENY without rules",
            vec![deny("ns/d", vec![])],
            "allowed: no policy refuses it",
        ),
        (
            "not understood",
            vec![allow("ns/a", shop()), broken(allow("ns/x", vec![]))],
            "denied: policy ns/x cannot be understood (rules[0]: what is this); \
             correct or remove it",
        ),
        (
            "AUDIT does not decide",
            vec![audit("ns/u", shop()), allow("ns/a", other())],
            "denied: no rule of the ALLOW policy ns/a matches",
        ),
        (
            "dry runs do not decide",
            vec![
                dry(deny("ns/d", shop())),
                dry(broken(allow("ns/x", vec![]))),
            ],
            "allowed: no policy refuses it",
        ),
    ];
    let request = request();
    for (case, policies, reason) in cases {
        for verdict in [
            authorize(&policies, &request.http()),
            authorize_asked(&policies, &request.http()),
        ] {
            assert_eq!(verdict.to_string(), reason, "{case}");
            assert_eq!(verdict.allowed(), reason.starts_with("allowed"), "{case}");
        }
    }
}

#[test]
fn custom_policies_ask_and_the_rest_follows() {
    let request = request();
    let facts = request.http();
    let ask = |authorizer, policy| Ask {
        authorizer: name(authorizer),
        policy: name(policy),
        rule: 0,
    };
    let cases = [
        (
            "one",
            vec![custom("ns/c", "ext/a", shop()), allow("ns/a", shop())],
            vec![ask("ext/a", "ns/c")],
            true,
        ),
        (
            "several, each once",
            vec![
                custom("ns/c", "ext/a", shop()),
                custom("ns/d", "ext/b", shop()),
                custom("ns/e", "ext/a", shop()),
            ],
            vec![ask("ext/a", "ns/c"), ask("ext/b", "ns/d")],
            true,
        ),
        (
            "before DENY",
            vec![deny("ns/d", shop()), custom("ns/c", "ext/a", shop())],
            vec![ask("ext/a", "ns/c")],
            false,
        ),
        (
            "before ALLOW",
            vec![allow("ns/a", other()), custom("ns/c", "ext/a", shop())],
            vec![ask("ext/a", "ns/c")],
            false,
        ),
    ];
    for (case, policies, asks, then) in cases {
        let verdict = authorize(&policies, &facts);
        assert_eq!(verdict.decision, Decision::Ask(asks), "{case}");
        assert_eq!(authorize_asked(&policies, &facts).allowed(), then, "{case}");
    }
    let nobody: [(&str, Vec<Policy>, Decision); 4] = [
        (
            "no match",
            vec![custom("ns/c", "ext/a", other())],
            Decision::Allow,
        ),
        (
            "no rules",
            vec![custom("ns/c", "ext/a", vec![])],
            Decision::Allow,
        ),
        (
            "dry run",
            vec![dry(custom("ns/c", "ext/a", shop()))],
            Decision::Allow,
        ),
        (
            "no answer could save it",
            vec![
                custom("ns/c", "ext/a", shop()),
                broken(deny("ns/x", vec![])),
            ],
            Decision::Deny,
        ),
    ];
    for (case, policies, decision) in nobody {
        assert_eq!(authorize(&policies, &facts).decision, decision, "{case}");
    }
}

#[test]
fn headers_that_an_authorizer_set_are_judged() {
    let policies = [
        custom("ns/c", "ext/a", shop()),
        allow("ns/a", vec![when(header("x-user", any(text("alice"))))]),
    ];
    let mut request = request();
    assert!(!authorize_asked(&policies, &request.http()).allowed());
    request.headers.extend(headers(&[("x-user", "alice")]));
    assert!(authorize_asked(&policies, &request.http()).allowed());
}

#[test]
fn refusals_name_what_denies() {
    let ask = Ask {
        authorizer: name("ext/a"),
        policy: name("ns/c"),
        rule: 0,
    };
    let unknown = ask.unknown().refusal();
    assert_eq!((unknown.status, unknown.flag.as_str()), (403, "UAEX"));
    assert_eq!(
        unknown.reason,
        "denied: policy ns/c names the authorizer ext/a, which is not known; \
         check that it is configured"
    );
    let request = request();
    let verdict = authorize(&[deny("ns/d", shop())], &request.http());
    let refusal = verdict.reason.refusal();
    assert_eq!((refusal.status, refusal.grpc_status()), (403, 7));
    assert_eq!(verdict.reason.decided_by(), Some((&name("ns/d"), Some(0))));
}

#[test]
fn dry_runs_and_audits_are_reported() {
    let hit = |policy: &str, rule, action| Hit {
        policy: name(policy),
        rule,
        action,
    };
    let cases = [
        ("none", vec![], vec![], None),
        (
            "would deny",
            vec![dry(deny("ns/d", shop()))],
            vec![hit("ns/d", Some(0), Action::Deny)],
            Some(false),
        ),
        (
            "would not deny",
            vec![dry(deny("ns/d", other()))],
            vec![],
            Some(true),
        ),
        (
            "would allow",
            vec![allow("ns/a", other()), dry(allow("ns/b", shop()))],
            vec![hit("ns/b", Some(0), Action::Allow)],
            Some(true),
        ),
        (
            "would be the first ALLOW, and not match",
            vec![dry(allow("ns/b", other()))],
            vec![],
            Some(false),
        ),
        (
            "would ask",
            vec![dry(custom("ns/c", "ext/a", shop()))],
            vec![hit("ns/c", Some(0), Action::Custom(name("ext/a")))],
            None,
        ),
        (
            "would deny what it is attached to",
            vec![dry(broken(allow("ns/x", vec![])))],
            vec![hit("ns/x", None, Action::Deny)],
            Some(false),
        ),
    ];
    let request = request();
    for (case, policies, hits, enforced) in cases {
        let verdict = authorize(&policies, &request.http());
        assert_eq!(verdict.dry_run, hits, "{case}");
        assert_eq!(verdict.enforced, enforced, "{case}");
    }
    let audits = [audit("ns/u", shop()), audit("ns/v", other())];
    let verdict = authorize(&audits, &request.http());
    assert_eq!(verdict.audit, [hit("ns/u", Some(0), Action::Audit)]);
    assert!(verdict.allowed());
}
