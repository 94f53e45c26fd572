use super::*;
use crate::model::route::{Parent, Timeouts};
use crate::model::traffic::{Balance, Limits, RetryBudget};

fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

fn policy(key: &str, targets: Vec<Target>) -> Resource {
    Resource::Policy(Arc::new(Policy {
        key: name(key),
        targets,
        action: crate::model::Action::Allow,
        rules: Vec::new(),
        dry_run: false,
        undecodable: None,
    }))
}

fn rule(protocol: Protocol, key: &str, parents: &[(&str, Option<u16>)], sni: &[&str]) -> Resource {
    Resource::Route(Arc::new(RouteRule {
        key: RouteKey {
            protocol,
            route: name(key),
            rule: 0,
        },
        parents: parents
            .iter()
            .map(|(service, port)| Parent {
                service: name(service),
                port: *port,
            })
            .collect(),
        created: 1,
        consumer: None,
        sni: sni.iter().map(|it| (*it).into()).collect(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
        invalid: None,
    }))
}

fn with(resources: impl IntoIterator<Item = Resource>) -> Config {
    let mut config = Config::default();
    for resource in resources {
        config.apply(Change::Set(resource));
    }
    config
}

fn seen(config: &Config, waypoint: &str, services: &[&str]) -> Vec<String> {
    let services: Vec<_> = services.iter().map(|it| name(it)).collect();
    let scope = Scope {
        waypoint: &name(waypoint),
        services: &services,
    };
    config
        .policies(scope)
        .map(|it| it.key.to_string())
        .collect()
}

#[test]
fn policies_are_found_by_what_they_are_attached_to() {
    let at = |service: &str| Target::Service(name(service));
    let mut config = with([
        policy("root/all", vec![Target::Mesh]),
        policy("a/gateway", vec![Target::Waypoint(name("a/w"))]),
        policy("a/two", vec![at("a/x"), at("a/y")]),
        policy("a/both", vec![at("a/x"), Target::Waypoint(name("a/w"))]),
    ]);
    assert_eq!(
        seen(&config, "a/w", &["a/x"]),
        ["root/all", "a/both", "a/gateway", "a/two"]
    );
    assert_eq!(seen(&config, "b/w", &["a/y"]), ["root/all", "a/two"]);
    assert_eq!(
        seen(&config, "b/w", &["a/y", "a/x"]),
        ["root/all", "a/two", "a/both"]
    );
    assert_eq!(seen(&config, "b/w", &[]), ["root/all"]);
    config.apply(Change::Set(policy("a/two", vec![at("a/z")])));
    assert_eq!(seen(&config, "b/w", &["a/y"]), ["root/all"]);
    assert_eq!(seen(&config, "b/w", &["a/z"]), ["root/all", "a/two"]);
    for key in ["root/all", "a/gateway", "a/two", "a/both"] {
        config.apply(Change::Remove(ResourceKey::Policy(name(key))));
    }
    assert!(config.policies.all().next().is_none());
    assert_eq!(seen(&config, "a/w", &["a/x", "a/z"]), [""; 0]);
}

#[test]
fn what_is_not_understood_denies_where_it_was_attached_or_everywhere() {
    let mut config = with([policy("a/known", vec![Target::Service(name("a/x"))])]);
    let broken = |key: &str| Change::Undecodable(ResourceKey::Policy(name(key)), "odd".into());
    config.apply(broken("a/known"));
    config.apply(broken("a/unknown"));
    assert_eq!(seen(&config, "w/w", &["b/b"]), ["a/unknown"]);
    assert_eq!(seen(&config, "w/w", &["a/x"]), ["a/unknown", "a/known"]);
    assert!(config.all_policies().all(|it| it.undecodable.is_some()));
}

#[test]
fn an_undecodable_rule_keeps_its_last_good_state() {
    let good = rule(Protocol::Http, "a/r", &[("a/x", None)], &[]);
    let key = good.key();
    let mut config = with([good]);
    config.apply(Change::Undecodable(key.clone(), "odd".into()));
    assert!(config.routes(&name("a/x"), 80, "a").is_some());
    config.apply(Change::Remove(key));
    assert!(config.routes(&name("a/x"), 80, "a").is_none());
    assert!(config.http.is_empty());
}

#[test]
fn connections_are_routed_by_name_and_port() {
    let config = with([
        rule(Protocol::Tls, "a/any", &[("a/x", None)], &["*.example.com"]),
        rule(
            Protocol::Tls,
            "a/deep",
            &[("a/x", None)],
            &["*.b.example.com"],
        ),
        rule(
            Protocol::Tls,
            "a/exact",
            &[("a/x", None)],
            &["a.b.example.com"],
        ),
        rule(Protocol::Tcp, "a/tcp", &[("a/x", Some(443))], &[]),
        rule(Protocol::Tcp, "a/other", &[("a/x", Some(9000))], &[]),
    ]);
    for (port, sni, wanted) in [
        (443, Some("a.b.example.com"), Some("tls/a/exact/0")),
        (443, Some("A.B.Example.COM"), Some("tls/a/exact/0")),
        (443, Some("x.b.example.com"), Some("tls/a/deep/0")),
        (443, Some("x.example.com"), Some("tls/a/any/0")),
        (443, Some("x.y.example.com"), Some("tls/a/any/0")),
        (443, Some("example.com"), Some("tcp/a/tcp/0")),
        (443, None, Some("tcp/a/tcp/0")),
        (9000, None, Some("tcp/a/other/0")),
        (80, Some("example.com"), Some("NR")),
        (80, None, Some("NR")),
    ] {
        let found = match config.opaque_route(&name("a/x"), port, sni) {
            Ok(rule) => rule.map(|rule| rule.key.to_string()),
            Err(refusal) => Some(refusal.flag.to_string()),
        };
        assert_eq!(found.as_deref(), wanted, "{port} {sni:?}");
    }
}

#[test]
fn a_traffic_policy_for_a_port_goes_first() {
    let policy = |key: &str, port| {
        Resource::Traffic(Arc::new(TrafficPolicy {
            key: name(key),
            service: name("a/x"),
            port,
            balance: Balance::default(),
            slow_start: None,
            outlier: None,
            limits: Limits::default(),
            retry_budget: RetryBudget::default(),
        }))
    };
    let mut config = with([
        policy("a/b", None),
        policy("a/a", None),
        policy("a/z", Some(80)),
    ]);
    let found = |config: &Config, port| {
        let found = config.traffic(&name("a/x"), port);
        found.map(|it| it.key.to_string())
    };
    assert_eq!(found(&config, 80).as_deref(), Some("a/z"));
    assert_eq!(found(&config, 81).as_deref(), Some("a/a"));
    config.apply(Change::Remove(ResourceKey::Traffic(name("a/a"))));
    assert_eq!(found(&config, 81).as_deref(), Some("a/b"));
    for key in ["a/b", "a/z"] {
        config.apply(Change::Remove(ResourceKey::Traffic(name(key))));
    }
    assert_eq!(found(&config, 80), None);
}

#[test]
fn policies_are_spelled_out_under_every_name_of_the_trust_domain() {
    use crate::model::policy::{Condition, Rule, Source, Values};
    use crate::model::{Action, TextMatch};

    let own = "new".parse().expect("a name");
    let aliases = "old".parse().expect("aliases");
    let mut config = Config::within(TrustDomains::new(own, aliases));
    let exact = |text: &str| TextMatch::Exact(text.into());
    let values = || Values {
        any: vec![exact("old/ns/a/sa/b")],
        none: vec![TextMatch::Prefix("new/ns/c".into()), TextMatch::Present],
    };
    let rule = Rule {
        from: vec![Source {
            principals: values(),
            namespaces: values(),
            request_principals: values(),
            ..Source::default()
        }],
        when: vec![
            Condition::SourcePrincipal(values()),
            Condition::SourceNamespace(values()),
        ],
        ..Rule::default()
    };
    config.apply(Change::Set(Resource::Policy(Arc::new(Policy {
        key: name("a/p"),
        targets: vec![Target::Mesh],
        action: Action::Deny,
        rules: vec![rule],
        dry_run: false,
        undecodable: None,
    }))));
    let scope = Scope {
        waypoint: &name("a/w"),
        services: &[],
    };
    let found = config.policies(scope).next().expect("it is attached");
    let spelt = Values {
        any: vec![exact("old/ns/a/sa/b"), exact("new/ns/a/sa/b")],
        none: vec![
            TextMatch::Prefix("new/ns/c".into()),
            TextMatch::Present,
            TextMatch::Prefix("old/ns/c".into()),
        ],
    };
    let [rule] = &found.rules[..] else {
        panic!("{:?}", found.rules);
    };
    assert_eq!(rule.from[0].principals, spelt);
    assert_eq!(rule.when[0], Condition::SourcePrincipal(spelt));
    // What is no principal of the mesh is what it is.
    assert_eq!(rule.from[0].namespaces, values());
    assert_eq!(rule.from[0].request_principals, values());
    assert_eq!(rule.when[1], Condition::SourceNamespace(values()));
}
