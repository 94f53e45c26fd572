//! The order and the parts of rules agree with a naive evaluator that knows nothing of ours.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;

/// The semantics written down once more, without regard for cost.
mod naive {
    use super::*;

    fn one(wanted: &TextMatch, found: &str) -> bool {
        match wanted {
            TextMatch::Exact(text) => found == &**text,
            TextMatch::Prefix(text) => found.starts_with(&**text),
            TextMatch::Suffix(text) => found.ends_with(&**text),
            TextMatch::Present => true,
        }
    }

    /// `None`: HTTP's, and this is a TCP connection.
    type Found = Option<Vec<String>>;

    fn texts(values: &Values<TextMatch>, found: &Found, wide: bool) -> bool {
        if values.is_empty() {
            return true;
        }
        let Some(found) = found else { return wide };
        let hit = |list: &[TextMatch]| {
            list.iter()
                .any(|wanted| found.iter().any(|found| one(wanted, found)))
        };
        (values.any.is_empty() || hit(&values.any)) && !hit(&values.none)
    }

    fn identity(facts: &Facts<'_>, show: fn(&Identity) -> String) -> Found {
        Some(facts.source.map(show).into_iter().collect())
    }

    fn header(facts: &Facts<'_>, name: &HeaderName) -> Found {
        let request = facts.request?;
        let values = request.headers.get_all(name).iter();
        Some(
            values
                .map(|v| v.to_str().expect("text").to_owned())
                .collect(),
        )
    }

    fn subject(facts: &Facts<'_>) -> Found {
        let request = facts.request?;
        let principal = request.claims.and_then(Claims::principal);
        Some(principal.into_iter().collect())
    }

    fn source(source: &Source, facts: &Facts<'_>, wide: bool) -> bool {
        let ips = &source.ip_blocks;
        let inside = |list: &[ipnet::IpNet]| list.iter().any(|n| n.contains(&facts.source_ip));
        if *source == Source::default() {
            return wide;
        }
        texts(
            &source.principals,
            &identity(facts, Identity::principal),
            wide,
        ) && texts(
            &source.namespaces,
            &identity(facts, |id| id.namespace().to_string()),
            wide,
        ) && texts(&source.request_principals, &subject(facts), wide)
            && (ips.any.is_empty() || inside(&ips.any))
            && !inside(&ips.none)
    }

    fn operation(operation: &Operation, facts: &Facts<'_>, wide: bool) -> bool {
        if *operation == Operation::default() {
            return wide;
        }
        let method = facts.request.map(|r| vec![r.method.to_string()]);
        let port = facts.destination.port();
        let ports = &operation.ports;
        texts(&operation.methods, &method, wide)
            && (ports.any.is_empty() || ports.any.contains(&port))
            && !ports.none.contains(&port)
    }

    fn condition(condition: &Condition, facts: &Facts<'_>, wide: bool) -> bool {
        match condition {
            Condition::Header(name, values) => texts(values, &header(facts, name), wide),
            Condition::Unknown(_) => wide,
            other => panic!("not drawn: {other:?}"),
        }
    }

    fn asks_of_http(rule: &Rule) -> bool {
        rule.from.iter().any(|s| !s.request_principals.is_empty())
            || rule.to.iter().any(|o| !o.methods.is_empty())
            || rule.when.iter().any(|c| matches!(c, Condition::Header(..)))
    }

    fn rule(rule: &Rule, facts: &Facts<'_>, wide: bool) -> bool {
        if facts.request.is_none() && !wide && asks_of_http(rule) {
            return false;
        }
        let from = rule.from.iter().map(|s| source(s, facts, wide));
        let to = rule.to.iter().map(|o| operation(o, facts, wide));
        let mut when = rule.when.iter().map(|c| condition(c, facts, wide));
        (rule.from.is_empty() || from.filter(|held| *held).count() > 0)
            && (rule.to.is_empty() || to.filter(|held| *held).count() > 0)
            && when.all(|held| held)
    }

    fn policy(policy: &Policy, facts: &Facts<'_>) -> bool {
        let wide = policy.action != Action::Allow;
        policy.rules.iter().any(|r| rule(r, facts, wide))
    }

    /// Whether it is allowed once everybody who is asked has allowed.
    pub(super) fn allowed(policies: &[Policy], facts: &Facts<'_>) -> bool {
        let enforced = || policies.iter().filter(|p| !p.dry_run);
        let of = |action| enforced().filter(move |p| p.undecodable.is_none() && p.action == action);
        if enforced().any(|p| p.undecodable.is_some()) {
            return false;
        }
        if of(Action::Deny).any(|p| policy(p, facts)) {
            return false;
        }
        of(Action::Allow).count() == 0 || of(Action::Allow).any(|p| policy(p, facts))
    }

    /// Who has to be asked.
    pub(super) fn asked(policies: &[Policy], facts: &Facts<'_>) -> Vec<NamespacedName> {
        let mut asked = Vec::new();
        for p in policies.iter().filter(|p| !p.dry_run) {
            if p.undecodable.is_some() {
                return Vec::new();
            }
        }
        for p in policies.iter().filter(|p| !p.dry_run) {
            if let Action::Custom(authorizer) = &p.action
                && policy(p, facts)
                && !asked.contains(authorizer)
            {
                asked.push(authorizer.clone());
            }
        }
        asked
    }
}

fn a_text() -> impl Strategy<Value = TextMatch> {
    proptest::sample::select(vec![
        text("*"),
        text("a"),
        text("a*"),
        text("*b"),
        text("td/ns/a/sa/b"),
        text("td/ns/*"),
        text("*/sa/b"),
        text("GET"),
        text("G*"),
        text("i/s"),
    ])
}

fn values<T: std::fmt::Debug + Clone>(
    one: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Values<T>> {
    let few = || proptest::collection::vec(one.clone(), 0..2);
    (few(), few()).prop_map(|(any, none)| Values { any, none })
}

fn texts() -> impl Strategy<Value = Values<TextMatch>> {
    let few = || proptest::collection::vec(a_text(), 0..2);
    (few(), few()).prop_map(|(any, none)| Values { any, none })
}

fn a_source() -> impl Strategy<Value = Source> {
    let nets = ["10.0.0.0/31", "0.0.0.0/0", "::/0"];
    let net = proptest::sample::select(nets.map(|net| net.parse().expect("a net")).to_vec());
    (texts(), texts(), texts(), values(net)).prop_map(
        |(principals, namespaces, request_principals, ip_blocks)| Source {
            principals,
            namespaces,
            request_principals,
            ip_blocks,
            ..Source::default()
        },
    )
}

fn an_operation() -> impl Strategy<Value = Operation> {
    (texts(), values(80..82u16)).prop_map(|(methods, ports)| Operation {
        methods,
        ports,
        ..Operation::default()
    })
}

fn a_condition() -> impl Strategy<Value = Condition> {
    let one = a_text();
    (one, any::<bool>(), 0..6u8).prop_map(|(text, positive, kind)| {
        let values = if positive {
            super::any(text)
        } else {
            none(text)
        };
        match kind {
            0 => Condition::Unknown("x".into()),
            _ => header("x-h", values),
        }
    })
}

fn a_policy() -> impl Strategy<Value = Policy> {
    let few = || 0..3usize;
    let rule = (
        proptest::collection::vec(a_source(), few()),
        proptest::collection::vec(an_operation(), few()),
        proptest::collection::vec(a_condition(), few()),
    )
        .prop_map(|(from, to, when)| Rule { from, to, when });
    let rules = proptest::collection::vec(rule, few());
    (rules, 0..5u8, 0..6u8, 0..20u8).prop_map(|(rules, action, dry, broken)| {
        let action = match action {
            0 => Action::Custom(name("ext/a")),
            1 => Action::Custom(name("ext/b")),
            2 => Action::Deny,
            3 => Action::Allow,
            _ => Action::Audit,
        };
        Policy {
            dry_run: dry == 0,
            undecodable: (broken == 0).then(|| "no".into()),
            ..policy("ns/p", action, rules)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn agrees_with_the_naive_evaluator(
        policies in proptest::collection::vec(a_policy(), 0..4),
        source in proptest::option::of((0..2usize, 0..2usize)),
        from in proptest::sample::select(vec!["10.0.0.1", "10.0.0.9", "fd00::1"]),
        port in 80..82u16,
        http in any::<bool>(),
        method in proptest::sample::select(vec![Method::GET, Method::POST]),
        sent in proptest::collection::vec(proptest::sample::select(vec!["a", "ab", "b", ""]), 0..3),
        token in proptest::option::of(proptest::sample::select(vec!["s", "t"])),
    ) {
        let names = ["a", "b"];
        let source = source.map(|(namespace, account)| {
            Identity::new("td", names[namespace], names[account]).expect("valid")
        });
        let pairs: Vec<_> = sent.into_iter().map(|value| ("x-h", value)).collect();
        let request = Request {
            source,
            source_ip: from.parse().expect("an address"),
            destination: SocketAddr::new("10.0.0.1".parse().expect("an address"), port),
            method,
            headers: headers(&pairs),
            claims: token.map(|subject| claims(json!({"iss": "i", "sub": subject}))),
            ..request()
        };
        let facts = if http { request.http() } else { request.tcp() };
        let verdict = authorize(&policies, &facts);
        let asked = naive::asked(&policies, &facts);
        let allowed = naive::allowed(&policies, &facts);
        match &verdict.decision {
            Decision::Ask(asks) => {
                let asks: Vec<_> = asks.iter().map(|ask| ask.authorizer.clone()).collect();
                prop_assert_eq!(asks, asked);
            }
            decision => {
                prop_assert!(asked.is_empty());
                prop_assert_eq!(*decision == Decision::Allow, allowed, "{}", verdict);
            }
        }
        prop_assert_eq!(authorize_asked(&policies, &facts).allowed(), allowed);
        let enforced: Vec<Policy> = policies
            .iter()
            .filter(|p| !(p.dry_run && matches!(p.action, Action::Custom(_))))
            .cloned()
            .map(|policy| Policy { dry_run: false, ..policy })
            .collect();
        if let Some(would) = verdict.enforced {
            // A CUSTOM policy in a dry run that cannot be understood would deny as well.
            let broken = policies.iter().any(|p| p.undecodable.is_some());
            prop_assert_eq!(would, !broken && naive::allowed(&enforced, &facts));
        }
    }
}
