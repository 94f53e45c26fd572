use proptest::prelude::*;

use super::*;
use crate::addr::NamespacedName;
use crate::fixtures::{identity, index, ip, key, pod, policy, sock};
use crate::index::Change;
use crate::model::policy::Scope;
use crate::model::{
    Action, AuthorizationPolicy, Clause, Match, Rule, ServiceAccountMatch, StringMatch, Workload,
};
use crate::plan::Transport;

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn suffix(text: &str) -> StringMatch {
    StringMatch::Suffix(text.into())
}

fn account(namespace: &str, service_account: &str) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: service_account.into(),
    }
}

fn facts(source: Option<&Identity>) -> Facts<'_> {
    Facts {
        source,
        source_ip: ip("10.0.0.7"),
        destination: sock("10.0.0.1:8080"),
    }
}

type Set = fn(&mut Match);

#[test]
fn every_field_and_its_negation() {
    let holding: [(&str, Set, Set); 12] = [
        (
            "namespaces",
            |m| m.namespaces = vec![exact("shop")],
            |m| m.not_namespaces = vec![exact("shop")],
        ),
        (
            "second namespace",
            |m| m.namespaces = vec![exact("x"), prefix("sh")],
            |m| m.not_namespaces = vec![exact("x"), prefix("sh")],
        ),
        (
            "principal",
            |m| m.principals = vec![exact("cluster.local/ns/shop/sa/web")],
            |m| m.not_principals = vec![exact("cluster.local/ns/shop/sa/web")],
        ),
        (
            "principal prefix",
            |m| m.principals = vec![prefix("cluster.local/ns/sh")],
            |m| m.not_principals = vec![prefix("cluster.local/ns/sh")],
        ),
        (
            "principal suffix",
            |m| m.principals = vec![suffix("/ns/shop/sa/web")],
            |m| m.not_principals = vec![suffix("/ns/shop/sa/web")],
        ),
        (
            "presence",
            |m| m.principals = vec![StringMatch::Presence],
            |m| m.not_principals = vec![StringMatch::Presence],
        ),
        (
            "source ip",
            |m| m.source_ips = vec!["10.0.0.0/24".parse().expect("a net")],
            |m| m.not_source_ips = vec!["10.0.0.0/24".parse().expect("a net")],
        ),
        (
            "destination ip",
            |m| m.destination_ips = vec!["10.0.0.1/32".parse().expect("a net")],
            |m| m.not_destination_ips = vec!["10.0.0.1/32".parse().expect("a net")],
        ),
        (
            "destination port",
            |m| m.destination_ports = vec![80, 8080],
            |m| m.not_destination_ports = vec![80, 8080],
        ),
        (
            "service account",
            |m| m.service_accounts = vec![account("shop", "web")],
            |m| m.not_service_accounts = vec![account("shop", "web")],
        ),
        (
            "namespace suffix",
            |m| m.namespaces = vec![suffix("op")],
            |m| m.not_namespaces = vec![suffix("op")],
        ),
        (
            "namespace presence",
            |m| m.namespaces = vec![StringMatch::Presence],
            |m| m.not_namespaces = vec![StringMatch::Presence],
        ),
    ];
    let failing: [(&str, Set, Set); 9] = [
        (
            "namespaces",
            |m| m.namespaces = vec![exact("sho"), prefix("hop"), suffix("shopp")],
            |m| m.not_namespaces = vec![exact("sho"), prefix("hop"), suffix("shopp")],
        ),
        (
            "case counts",
            |m| m.namespaces = vec![exact("Shop")],
            |m| m.not_namespaces = vec![exact("Shop")],
        ),
        (
            "principal with a scheme",
            |m| m.principals = vec![exact("spiffe://cluster.local/ns/shop/sa/web")],
            |m| m.not_principals = vec![exact("spiffe://cluster.local/ns/shop/sa/web")],
        ),
        (
            "principal of a longer account",
            |m| m.principals = vec![exact("cluster.local/ns/shop/sa/web2")],
            |m| m.not_principals = vec![exact("cluster.local/ns/shop/sa/web2")],
        ),
        (
            "principal that is only a part",
            |m| m.principals = vec![exact("cluster.local/ns/shop/sa")],
            |m| m.not_principals = vec![exact("cluster.local/ns/shop/sa")],
        ),
        (
            "source ip",
            |m| m.source_ips = vec!["10.0.1.0/24".parse().expect("a net")],
            |m| m.not_source_ips = vec!["10.0.1.0/24".parse().expect("a net")],
        ),
        (
            "other family",
            |m| m.source_ips = vec!["::/0".parse().expect("a net")],
            |m| m.not_source_ips = vec!["::/0".parse().expect("a net")],
        ),
        (
            "destination port",
            |m| m.destination_ports = vec![80],
            |m| m.not_destination_ports = vec![80],
        ),
        (
            "service account of another namespace",
            |m| m.service_accounts = vec![account("other", "web")],
            |m| m.not_service_accounts = vec![account("other", "web")],
        ),
    ];
    let web = identity("shop", "web");
    let check = |case: &str, set: Set, expected: bool| {
        let mut m = Match::default();
        set(&mut m);
        assert_eq!(matches(&m, &facts(Some(&web))), expected, "{case}: {m:?}");
    };
    for (case, any, none) in holding {
        check(case, any, true);
        check(case, none, false);
    }
    for (case, any, none) in failing {
        check(case, any, false);
        check(case, none, true);
    }
}

#[test]
fn without_an_identity_its_fields_fail_and_their_negations_hold() {
    let cases: [(&str, Set, bool); 7] = [
        (
            "namespace",
            |m| m.namespaces = vec![StringMatch::Presence],
            false,
        ),
        ("empty prefix", |m| m.principals = vec![prefix("")], false),
        ("empty exact", |m| m.principals = vec![exact("")], false),
        (
            "strict mode: a DENY on not_principals presence",
            |m| m.not_principals = vec![StringMatch::Presence],
            true,
        ),
        (
            "not namespace",
            |m| m.not_namespaces = vec![exact("shop")],
            true,
        ),
        (
            "account",
            |m| m.service_accounts = vec![account("shop", "web")],
            false,
        ),
        (
            "not account",
            |m| m.not_service_accounts = vec![account("shop", "web")],
            true,
        ),
    ];
    for (case, set, expected) in cases {
        let mut m = Match::default();
        set(&mut m);
        assert_eq!(matches(&m, &facts(None)), expected, "{case}");
    }
}

#[test]
fn mapped_addresses_are_judged_as_ipv4() {
    let m = Match {
        source_ips: vec!["10.0.0.0/24".parse().expect("a net")],
        destination_ips: vec!["10.0.0.1/32".parse().expect("a net")],
        ..Match::default()
    };
    let mapped = Facts {
        source: None,
        source_ip: ip("::ffff:10.0.0.7"),
        destination: sock("[::ffff:10.0.0.1]:80"),
    };
    assert!(matches(&m, &mapped));
}

fn from(namespace: &str) -> Match {
    Match {
        namespaces: vec![exact(namespace)],
        ..Match::default()
    }
}

fn on(port: u16) -> Match {
    Match {
        destination_ports: vec![port],
        ..Match::default()
    }
}

#[test]
fn rules_are_alternatives_clauses_hold_together() {
    let clause = |matches: Vec<Match>| Clause { matches };
    let cases = [
        ("no rules", vec![], None),
        ("a rule without clauses", vec![vec![]], Some(0)),
        ("a clause without matches", vec![vec![vec![]]], None),
        ("an empty match", vec![vec![vec![Match::default()]]], None),
        (
            "the second rule",
            vec![vec![vec![from("x")]], vec![vec![from("shop")]]],
            Some(1),
        ),
        (
            "both clauses",
            vec![vec![vec![from("shop")], vec![on(8080)]]],
            Some(0),
        ),
        (
            "one of two clauses",
            vec![vec![vec![from("shop")], vec![on(80)]]],
            None,
        ),
        (
            "one of two matches",
            vec![vec![vec![from("x"), from("shop")]]],
            Some(0),
        ),
    ];
    let web = identity("shop", "web");
    for (case, rules, expected) in cases {
        let mut made = policy("ns/p", vec![]);
        made.rules = rules
            .into_iter()
            .map(|clauses| Rule {
                clauses: clauses.into_iter().map(clause).collect(),
            })
            .collect();
        assert_eq!(matching_rule(&made, &facts(Some(&web))), expected, "{case}");
    }
}

fn deny(name: &str, m: Match) -> AuthorizationPolicy {
    let mut made = policy(name, vec![m]);
    made.action = Action::Deny;
    made
}

fn dry(mut policy: AuthorizationPolicy) -> AuthorizationPolicy {
    policy.dry_run = true;
    policy
}

fn allow(name: &str, m: Match) -> AuthorizationPolicy {
    policy(name, vec![m])
}

#[test]
fn the_order_of_policies() {
    let shop = || from("shop");
    let other = || from("other");
    let cases: Vec<(&str, Vec<AuthorizationPolicy>, bool, &str)> = vec![
        ("nothing", vec![], true, "allowed: no policy refuses it"),
        (
            "an allow that matches",
            vec![allow("ns/a", other()), allow("ns/b", shop())],
            true,
            "allowed by policy ns/b, rule 0",
        ),
        (
            "an allow that does not",
            vec![allow("ns/a", other())],
            false,
            "denied: no rule of the ALLOW policy ns/a matches",
        ),
        (
            "two that do not",
            vec![allow("ns/b", other()), allow("ns/a", other())],
            false,
            "denied: no rule of 2 ALLOW policies matches (the first is ns/a)",
        ),
        (
            "an allow without rules",
            vec![policy("ns/nothing", vec![])],
            false,
            "denied: no rule of the ALLOW policy ns/nothing matches",
        ),
        (
            "deny wins",
            vec![allow("ns/a", shop()), deny("ns/d", shop())],
            false,
            "denied by policy ns/d, rule 0",
        ),
        (
            "what a PeerAuthentication became says so",
            vec![deny("ns/converted_peer_authentication_web", shop())],
            false,
            "denied: PeerAuthentication ns/web is STRICT, so plain text is refused and the caller has to be in the mesh \
             (policy ns/converted_peer_authentication_web, rule 0)",
        ),
        (
            "what all that are STRICT on every port became says so",
            vec![deny("ns/istio_converted_static_strict", shop())],
            false,
            "denied: a PeerAuthentication of the workload, its namespace or the mesh is STRICT, so plain text is refused \
             and the caller has to be in the mesh (policy ns/istio_converted_static_strict, rule 0)",
        ),
        (
            "a deny that does not match allows",
            vec![deny("ns/d", other())],
            true,
            "allowed: no policy refuses it",
        ),
        (
            "a deny that does not match leaves the allow to decide",
            vec![deny("ns/d", other()), allow("ns/a", other())],
            false,
            "denied: no rule of the ALLOW policy ns/a matches",
        ),
        (
            "of another namespace",
            vec![deny("elsewhere/d", shop())],
            true,
            "allowed: no policy refuses it",
        ),
        (
            "dry run changes nothing",
            vec![dry(deny("ns/d", shop())), dry(allow("ns/a", other()))],
            true,
            "allowed: no policy refuses it",
        ),
    ];
    let web = identity("shop", "web");
    for (case, policies, allowed, reason) in cases {
        let index = index(policies.into_iter().map(Change::from));
        let verdict = authorize(&index, &pod("w", &[]), &facts(Some(&web)));
        assert_eq!(verdict.allowed, allowed, "{case}");
        assert_eq!(verdict.to_string(), reason, "{case}");
        match verdict.into_result(Transport::Tcp) {
            Ok(_) => assert!(allowed, "{case}"),
            Err(refusal) => {
                assert!(!allowed, "{case}");
                assert_eq!((refusal.status, refusal.flag.as_str()), (401, "DENY"));
                assert_eq!(refusal.reason, reason, "{case}");
            }
        }
    }
}

/// A pod in the mesh reads that it has to be there, which its TCP is.
#[test]
fn udp_that_strict_refuses_names_the_annotation_that_is_missing() {
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    let refused = |name: &str, transport| {
        let index = index([deny(name, anonymous.clone()).into()]);
        let verdict = authorize(&index, &pod("w", &[]), &facts(None));
        let refusal = verdict.into_result(transport).expect_err("denied");
        refusal.reason
    };
    let annotation = "annotation ambit.dev/udp is enabled";
    for name in [
        "istio_converted_static_strict",
        "converted_peer_authentication_web",
    ] {
        let of = |transport| refused(&format!("ns/{name}"), transport);
        assert!(of(Transport::Udp).ends_with(annotation), "{name}");
        assert!(!of(Transport::Tcp).contains("udp"), "{name}");
    }
    let other = refused("ns/d", Transport::Udp);
    assert_eq!(other, "denied by policy ns/d, rule 0");
}

#[test]
fn a_global_policy_reaches_every_namespace() {
    let mut everywhere = deny("istio-system/d", from("shop"));
    everywhere.scope = Scope::Global;
    let index = index([everywhere.into()]);
    let web = identity("shop", "web");
    let verdict = authorize(&index, &pod("w", &[]), &facts(Some(&web)));
    assert_eq!(
        verdict.decided_by(),
        Some((&key("istio-system/d"), Some(0)))
    );
}

#[test]
fn what_is_not_known_or_understood_denies() {
    let mut naming = pod("w", &[]);
    naming.authorization_policies = vec![key("ns/missing")];
    let broken = || Change::undecodable_policy(key("ns/bad"), "rules[0]: expected a port");
    let allowed = || Change::from(allow("ns/a", from("shop")));
    let denied = || Change::from(deny("ns/d", from("shop")));
    let cases: Vec<(&str, Vec<Change>, Workload, &str)> = vec![
        (
            "unknown",
            vec![allowed()],
            naming.clone(),
            "denied: policy ns/missing applies but has not been received; check that it exists \
             and that the control plane pushes it",
        ),
        (
            "undecodable",
            vec![allowed(), broken()],
            pod("w", &[]),
            "denied: policy ns/bad cannot be understood (rules[0]: expected a port); \
             correct or remove it",
        ),
        (
            "a plain deny says more",
            vec![broken(), denied()],
            naming,
            "denied by policy ns/d, rule 0",
        ),
    ];
    let web = identity("shop", "web");
    for (case, changes, workload, reason) in cases {
        let verdict = authorize(&index(changes), &workload, &facts(Some(&web)));
        assert!(!verdict.allowed, "{case}");
        assert_eq!(verdict.to_string(), reason, "{case}");
    }
}

#[test]
fn before_the_first_push_nothing_is_authorized() {
    let web = identity("shop", "web");
    let mut index = crate::index::Index::default();
    let verdict = authorize(&index, &pod("w", &[]), &facts(Some(&web)));
    assert_eq!(verdict.reason, Reason::NotSynced);
    assert!(!verdict.allowed);
    index.apply(Change::PoliciesSynced);
    assert!(authorize(&index, &pod("w", &[]), &facts(Some(&web))).allowed);
}

#[test]
fn dry_run_policies_are_reported_with_what_they_would_do() {
    let shop = || from("shop");
    let other = || from("other");
    let hit = |policy: &str, action| DryRunHit {
        policy: key(policy),
        rule: 0,
        action,
    };
    let cases = [
        ("none", vec![], vec![], None),
        (
            "would deny",
            vec![dry(deny("ns/d", shop()))],
            vec![hit("ns/d", Action::Deny)],
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
            vec![hit("ns/b", Action::Allow)],
            Some(true),
        ),
        (
            "would be the first allow, and not match",
            vec![dry(allow("ns/b", other()))],
            vec![],
            Some(false),
        ),
    ];
    let web = identity("shop", "web");
    for (case, policies, hits, enforced) in cases {
        let index = index(policies.into_iter().map(Change::from));
        let verdict = authorize(&index, &pod("w", &[]), &facts(Some(&web)));
        assert_eq!(verdict.dry_run, hits, "{case}");
        assert_eq!(verdict.enforced, enforced, "{case}");
    }
}

/// The semantics written down once more, without regard for cost.
mod naive {
    use super::*;

    fn text(wanted: &StringMatch, found: &str) -> bool {
        match wanted {
            StringMatch::Exact(text) => found == &**text,
            StringMatch::Prefix(text) => found.starts_with(&**text),
            StringMatch::Suffix(text) => found.ends_with(&**text),
            StringMatch::Presence => !found.is_empty(),
        }
    }

    fn one(m: &Match, facts: &Facts<'_>) -> bool {
        let principal = facts.source.map(Identity::principal);
        let namespace = facts.source.map(|id| id.namespace().to_string());
        let is_account = |a: &ServiceAccountMatch| {
            let wanted = format!("/ns/{}/sa/{}", a.namespace, a.service_account);
            principal.as_ref().is_some_and(|p| p.ends_with(&wanted))
        };
        let in_text = |list: &[StringMatch], found: &Option<String>| {
            let found = found.as_ref();
            list.iter()
                .any(|wanted| found.is_some_and(|found| text(wanted, found)))
        };
        let in_nets = |list: &[ipnet::IpNet], ip| list.iter().any(|net| net.contains(&ip));
        let (from, to) = (facts.source_ip, facts.destination);
        let checks = [
            (
                m.namespaces.len(),
                in_text(&m.namespaces, &namespace),
                in_text(&m.not_namespaces, &namespace),
            ),
            (
                m.principals.len(),
                in_text(&m.principals, &principal),
                in_text(&m.not_principals, &principal),
            ),
            (
                m.source_ips.len(),
                in_nets(&m.source_ips, from),
                in_nets(&m.not_source_ips, from),
            ),
            (
                m.destination_ips.len(),
                in_nets(&m.destination_ips, to.ip()),
                in_nets(&m.not_destination_ips, to.ip()),
            ),
            (
                m.destination_ports.len(),
                m.destination_ports.contains(&to.port()),
                m.not_destination_ports.contains(&to.port()),
            ),
            (
                m.service_accounts.len(),
                m.service_accounts.iter().any(is_account),
                m.not_service_accounts.iter().any(is_account),
            ),
        ];
        let set = *m != Match::default();
        set && checks
            .iter()
            .all(|(wanted, any, none)| (*wanted == 0 || *any) && !none)
    }

    fn policy(policy: &AuthorizationPolicy, facts: &Facts<'_>) -> bool {
        for rule in &policy.rules {
            let clauses = rule.clauses.iter();
            let mut held = clauses.map(|clause| clause.matches.iter().any(|m| one(m, facts)));
            if held.all(|held| held) {
                return true;
            }
        }
        false
    }

    pub(super) fn allowed(policies: &[AuthorizationPolicy], facts: &Facts<'_>) -> bool {
        let of = |action| {
            policies
                .iter()
                .filter(move |p| p.action == action && !p.dry_run)
        };
        if of(Action::Deny).any(|p| policy(p, facts)) {
            return false;
        }
        of(Action::Allow).count() == 0 || of(Action::Allow).any(|p| policy(p, facts))
    }
}

fn a_text() -> impl Strategy<Value = StringMatch> {
    let part = prop_oneof![
        Just(""),
        Just("a"),
        Just("b"),
        Just("td/ns/a/sa/b"),
        Just("td/ns/a/"),
        Just("td/ns/"),
        Just("td"),
        Just("sa/b"),
        Just("/ns/a/sa/b"),
        Just("xtd/ns/a/sa/b"),
        Just("td/ns/a/sa/bx"),
    ];
    (part, 0..4u8).prop_map(|(text, kind)| match kind {
        0 => exact(text),
        1 => prefix(text),
        2 => suffix(text),
        _ => StringMatch::Presence,
    })
}

fn few<S: Strategy>(strategy: S) -> impl Strategy<Value = Vec<S::Value>> {
    proptest::collection::vec(strategy, 0..2)
}

fn a_net() -> impl Strategy<Value = ipnet::IpNet> {
    let nets = [
        "10.0.0.0/31",
        "10.0.0.1/32",
        "0.0.0.0/0",
        "::/0",
        "fd00::/16",
    ];
    proptest::sample::select(nets.map(|net| net.parse().expect("a net")).to_vec())
}

fn a_match() -> impl Strategy<Value = Match> {
    let account = (
        proptest::sample::select(vec!["a", "b"]),
        proptest::sample::select(vec!["a", "b"]),
    )
        .prop_map(|(namespace, name)| account(namespace, name));
    let texts = || (few(a_text()), few(a_text()));
    let nets = || (few(a_net()), few(a_net()));
    let ports = (few(80..82u16), few(80..82u16));
    let accounts = (few(account.clone()), few(account));
    (texts(), texts(), nets(), nets(), ports, accounts).prop_map(|(n, p, s, d, ports, a)| Match {
        namespaces: n.0,
        not_namespaces: n.1,
        principals: p.0,
        not_principals: p.1,
        source_ips: s.0,
        not_source_ips: s.1,
        destination_ips: d.0,
        not_destination_ips: d.1,
        destination_ports: ports.0,
        not_destination_ports: ports.1,
        service_accounts: a.0,
        not_service_accounts: a.1,
    })
}

fn some_policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    let clause = proptest::collection::vec(a_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = proptest::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    let rules = proptest::collection::vec(rule, 0..3);
    let one = (rules, any::<bool>(), 0..4u8);
    proptest::collection::vec(one, 0..4).prop_map(|policies| {
        let numbered = policies.into_iter().enumerate();
        numbered
            .map(|(at, (rules, deny, dry))| AuthorizationPolicy {
                key: NamespacedName::new("ns", format!("p{at}")),
                scope: Scope::Namespace,
                action: if deny { Action::Deny } else { Action::Allow },
                rules,
                dry_run: dry == 0,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn agrees_with_the_naive_evaluator(
        policies in some_policies(),
        source in proptest::option::of((0..2usize, 0..2usize)),
        from in proptest::sample::select(vec!["10.0.0.1", "10.0.0.9", "fd00::1"]),
        to in proptest::sample::select(vec!["10.0.0.1:80", "10.0.0.9:81", "[fd00::1]:80"]),
    ) {
        let names = ["a", "b"];
        let source = source.map(|(namespace, account)| {
            Identity::new("td", names[namespace], names[account]).expect("valid")
        });
        let facts = Facts {
            source: source.as_ref(),
            source_ip: ip(from),
            destination: sock(to),
        };
        let index = index(policies.iter().cloned().map(Change::from));
        let verdict = authorize(&index, &pod("w", &[]), &facts);
        prop_assert_eq!(verdict.allowed, naive::allowed(&policies, &facts), "{:?}", verdict);
        let enforced: Vec<AuthorizationPolicy> = policies
            .iter()
            .cloned()
            .map(|policy| AuthorizationPolicy { dry_run: false, ..policy })
            .collect();
        if let Some(would) = verdict.enforced {
            prop_assert_eq!(would, naive::allowed(&enforced, &facts));
        } else {
            prop_assert_eq!(&policies, &enforced);
        }
    }
}

#[test]
fn a_waypoint_and_its_caller_are_judged_together() {
    let (waypoint, caller) = (identity("ns", "gw"), identity("shop", "web"));
    let parties = [
        Facts {
            source_ip: ip("10.0.0.100"),
            ..facts(Some(&waypoint))
        },
        facts(Some(&caller)),
    ];
    let of = |action, names: &[&str]| {
        let matches = names.iter().map(|name| Match {
            principals: vec![exact(name)],
            ..Match::default()
        });
        let mut it = policy("ns/p", matches.collect());
        it.action = action;
        Change::Policy(it.into())
    };
    let from = |action, net: &str| {
        let source_ips = vec![net.parse().expect("a net")];
        let mut it = policy(
            "ns/p",
            vec![Match {
                source_ips,
                ..Match::default()
            }],
        );
        it.action = action;
        Change::Policy(it.into())
    };
    let (gw, web) = ("cluster.local/ns/ns/sa/gw", "cluster.local/ns/shop/sa/web");
    let other = "cluster.local/ns/shop/sa/other";
    use Action::{Allow, Deny};
    for (case, change, allowed) in [
        ("DENY the caller", of(Deny, &[web]), false),
        ("DENY the waypoint", of(Deny, &[gw]), false),
        ("DENY somebody else", of(Deny, &[other]), true),
        ("ALLOW the caller", of(Allow, &[web]), true),
        ("ALLOW the waypoint", of(Allow, &[gw]), true),
        ("ALLOW somebody else", of(Allow, &[other]), false),
        (
            "DENY the caller's address",
            from(Deny, "10.0.0.7/32"),
            false,
        ),
        (
            "DENY the waypoint's address",
            from(Deny, "10.0.0.100/32"),
            false,
        ),
        ("ALLOW another address", from(Allow, "10.9.0.0/16"), false),
    ] {
        let index = index([change]);
        let verdict = authorize_all(&index, &pod("a", &["10.0.0.1"]), &parties);
        assert_eq!(verdict.allowed, allowed, "{case}: {verdict}");
    }
    let index = index([of(Allow, &[web])]);
    let alone = authorize_all(&index, &pod("a", &["10.0.0.1"]), &parties[..1]);
    assert!(
        !alone.allowed,
        "without its caller the waypoint is judged by itself"
    );
}
