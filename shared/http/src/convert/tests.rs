//! Every kind of value survives the wire, and nothing half valid does.

use std::sync::Arc;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::model::ServiceAccountMatch;
use ambit_proto::waypoint as proto;
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use prost::Message;
use proto::resource::Kind;

use super::*;
use crate::config::Change;
use crate::model::policy::{PathPattern, Values};
use crate::model::route::{
    BackendRef, Cors, Fault, HeaderEdits, HeaderMatch, Mirror, Parent, PathEdit, PathMatch,
    QueryMatch, RateLimit, RateLimitScope, Redirect, Regex, Retry, Rewrite, Timeouts, ValueMatch,
};
use crate::model::traffic::{Balance, HashKey, Limits, Outlier, RetryBudget};
use crate::model::{
    Action, Authorizer, AuthorizerKind, Backend, BackendTls, Condition, Filter, JwtRule, KeySource,
    Operation, Policy, Protocol, RequestAuthentication, Resource, ResourceKey, RouteKey,
    RouteMatch, RouteRule, Rule, Source, Target, TextMatch, TokenSource, TrafficPolicy,
};

fn name(text: &str) -> NamespacedName {
    text.parse().expect("namespace/name")
}

fn header(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a regular expression")
}

fn texts() -> Values<TextMatch> {
    Values {
        any: vec![
            TextMatch::Exact("a".into()),
            TextMatch::Prefix("b".into()),
            TextMatch::Present,
        ],
        none: vec![TextMatch::Suffix("c".into())],
    }
}

fn nets() -> Values<ipnet::IpNet> {
    Values {
        any: vec!["10.0.0.0/8".parse().expect("a net")],
        none: vec!["fd00::1/128".parse().expect("a net")],
    }
}

fn accounts() -> Values<ServiceAccountMatch> {
    Values {
        any: vec![ServiceAccountMatch {
            namespace: "shop".into(),
            service_account: "web".into(),
        }],
        none: Vec::new(),
    }
}

fn ports() -> Values<u16> {
    Values {
        any: vec![80, 443],
        none: vec![1],
    }
}

fn service() -> BackendRef {
    BackendRef::Service {
        service: name("shop/web.shop.svc.cluster.local"),
        port: 80,
    }
}

fn invalid() -> BackendRef {
    BackendRef::Invalid {
        reason: "Service shop/gone does not exist".into(),
    }
}

fn filters() -> Vec<Filter> {
    let edits = HeaderEdits {
        set: vec![(header("x-a"), HeaderValue::from_static("1"))],
        add: vec![(
            header("x-b"),
            HeaderValue::from_bytes(b"\xc3\xa4").expect("a value"),
        )],
        remove: vec![header("x-c")],
    };
    vec![
        Filter::RequestHeaders(edits.clone()),
        Filter::ResponseHeaders(edits),
        Filter::Redirect(Redirect {
            scheme: Some("https".into()),
            hostname: Some("example.com".into()),
            port: Some(8443),
            path: Some(PathEdit::Full("/new".into())),
            status: 308,
        }),
        Filter::Rewrite(Rewrite {
            hostname: None,
            path: Some(PathEdit::Prefix("".into())),
        }),
        Filter::Mirror(Mirror {
            backend: invalid(),
            numerator: 1,
            denominator: 3,
        }),
        Filter::Cors(Cors {
            allow_origins: vec!["*".into()],
            allow_credentials: true,
            allow_methods: vec!["GET".into()],
            allow_headers: vec!["x-a".into()],
            expose_headers: vec!["x-b".into()],
            max_age: 5,
        }),
        Filter::ExternalAuth(name("shop/opa")),
        Filter::RateLimit(RateLimit {
            key: name("shop/limit"),
            requests: 10,
            interval: Duration::from_millis(1500),
            burst: 20,
            per: RateLimitScope::Client,
        }),
        Filter::Fault(Fault {
            delay: Some((Duration::from_millis(5), 1_000_000)),
            abort: Some((503, 1)),
        }),
        Filter::Fault(Fault {
            delay: None,
            abort: None,
        }),
    ]
}

fn route() -> RouteRule {
    RouteRule {
        key: RouteKey {
            protocol: Protocol::Http,
            route: name("shop/web"),
            rule: 3,
        },
        parents: vec![Parent {
            service: name("shop/web.shop.svc.cluster.local"),
            port: Some(80),
        }],
        created: 1_700_000_000,
        consumer: Some("team".into()),
        sni: vec!["*.example.com".into(), "a.b".into()],
        matches: vec![
            RouteMatch {
                path: Some(PathMatch::Prefix("/v2".into())),
                method: Some(Method::GET),
                headers: vec![HeaderMatch {
                    name: header("x-a"),
                    value: ValueMatch::Regex(regex("a|b")),
                }],
                query: vec![QueryMatch {
                    name: "q".into(),
                    value: ValueMatch::Exact("1".into()),
                }],
            },
            RouteMatch {
                path: Some(PathMatch::Regex(regex("/x/[0-9]+"))),
                ..RouteMatch::default()
            },
            RouteMatch {
                path: Some(PathMatch::Exact("/x/".into())),
                ..RouteMatch::default()
            },
            RouteMatch::default(),
        ],
        filters: filters(),
        backends: vec![
            Backend {
                weight: 90,
                backend: service(),
                filters: filters(),
            },
            Backend {
                weight: 0,
                backend: invalid(),
                filters: Vec::new(),
            },
        ],
        timeouts: Timeouts {
            request: Some(Duration::from_secs(1)),
            backend_request: Some(Duration::ZERO),
        },
        retry: Some(Retry {
            attempts: 2,
            codes: vec![500, 503],
            backoff: Duration::from_millis(25),
        }),
        invalid: Some("".into()),
    }
}

fn policy() -> Policy {
    Policy {
        key: name("shop/allow"),
        targets: vec![
            Target::Mesh,
            Target::Waypoint(name("shop/waypoint")),
            Target::Service(name("shop/web.shop.svc.cluster.local")),
        ],
        action: Action::Custom(name("istio-system/opa")),
        rules: vec![
            Rule {
                from: vec![Source {
                    principals: texts(),
                    request_principals: texts(),
                    namespaces: texts(),
                    service_accounts: accounts(),
                    ip_blocks: nets(),
                    remote_ip_blocks: nets(),
                }],
                to: vec![Operation {
                    hosts: texts(),
                    ports: ports(),
                    methods: texts(),
                    paths: Values {
                        any: vec![PathPattern::Template("/a/{*}/{**}".into())],
                        none: vec![PathPattern::Text(TextMatch::Prefix("/a".into()))],
                    },
                }],
                when: vec![
                    Condition::Header(header("x-a"), texts()),
                    Condition::SourceIp(nets()),
                    Condition::RemoteIp(nets()),
                    Condition::SourceNamespace(texts()),
                    Condition::SourcePrincipal(texts()),
                    Condition::SourceServiceAccount(accounts()),
                    Condition::RequestPrincipal(texts()),
                    Condition::Audiences(texts()),
                    Condition::Presenter(texts()),
                    Condition::Claim(vec!["realm".into(), "roles".into()], texts()),
                    Condition::DestinationIp(nets()),
                    Condition::DestinationPort(ports()),
                    Condition::Sni(texts()),
                    Condition::Unknown("experimental.x".into()),
                ],
            },
            Rule::default(),
        ],
        dry_run: true,
        undecodable: None,
    }
}

fn authentication() -> RequestAuthentication {
    let rule = |keys| JwtRule {
        issuer: "https://issuer".into(),
        audiences: vec!["shop".into()],
        keys,
        sources: vec![
            TokenSource::Header {
                name: header("authorization"),
                prefix: "Bearer ".into(),
            },
            TokenSource::Query("token".into()),
            TokenSource::Cookie("token".into()),
        ],
        forward: true,
        payload_header: Some(header("x-payload")),
        claim_headers: vec![(header("x-sub"), vec!["sub".into()])],
    };
    RequestAuthentication {
        key: name("shop/jwt"),
        targets: vec![Target::Mesh],
        rules: vec![
            rule(KeySource::Inline("{}".into())),
            rule(KeySource::Url("https://issuer/keys".into())),
            rule(KeySource::Service {
                backend: service(),
                host: "issuer.shop".into(),
                path: "/keys".into(),
            }),
        ],
        undecodable: Some("why".into()),
    }
}

fn traffic(balance: Balance) -> TrafficPolicy {
    TrafficPolicy {
        key: name("shop/web"),
        service: name("shop/web.shop.svc.cluster.local"),
        port: Some(80),
        balance,
        slow_start: Some(Duration::from_secs(30)),
        outlier: Some(Outlier {
            consecutive_errors: 5,
            consecutive_gateway_errors: 3,
            base_ejection: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            max_ejected_percent: 50,
        }),
        limits: Limits {
            connections: Some(100),
            pending: Some(0),
            requests: None,
            connect_timeout: Some(Duration::from_secs(1)),
        },
        retry_budget: RetryBudget::default(),
    }
}

fn tls() -> BackendTls {
    BackendTls {
        key: name("shop/tls"),
        service: name("shop/web.shop.svc.cluster.local"),
        port: None,
        hostname: "web.example.com".into(),
        subject_alt_names: vec!["spiffe://x/y".into()],
        roots: Some("PEM".into()),
        invalid: None,
    }
}

/// At least one of every variant.
fn every_kind() -> Vec<Resource> {
    let mut found = vec![
        Resource::Route(Arc::new(route())),
        Resource::Policy(Arc::new(policy())),
        Resource::Authentication(Arc::new(authentication())),
        Resource::Tls(Arc::new(tls())),
    ];
    for protocol in [Protocol::Grpc, Protocol::Tls, Protocol::Tcp] {
        let mut rule = route();
        rule.key.protocol = protocol;
        rule.consumer = None;
        rule.invalid = None;
        rule.retry = None;
        found.push(Resource::Route(Arc::new(rule)));
    }
    for action in [Action::Allow, Action::Deny, Action::Audit] {
        let mut policy = policy();
        policy.action = action;
        policy.undecodable = Some("why".into());
        found.push(Resource::Policy(Arc::new(policy)));
    }
    for kind in [
        AuthorizerKind::Grpc,
        AuthorizerKind::Http {
            path_prefix: "/check".into(),
        },
    ] {
        found.push(Resource::Authorizer(Arc::new(Authorizer {
            key: name("istio-system/opa"),
            kind,
            backend: service(),
            timeout: Duration::from_millis(600),
            fail_open: false,
            status_on_error: 403,
            request_headers: vec![header("cookie")],
            upstream_headers: vec![header("x-user")],
            body_limit: 1024,
        })));
    }
    for balance in [
        Balance::PeakEwma,
        Balance::LeastRequest,
        Balance::Random,
        Balance::RoundRobin,
        Balance::ConsistentHash(HashKey::Header(header("x-user"))),
        Balance::ConsistentHash(HashKey::Cookie("user".into())),
        Balance::ConsistentHash(HashKey::Query("user".into())),
        Balance::ConsistentHash(HashKey::SourceIp),
        Balance::ClientAffinity,
    ] {
        found.push(Resource::Traffic(Arc::new(traffic(balance))));
    }
    found
}

#[test]
fn every_value_survives_the_wire() {
    for resource in every_kind() {
        let bytes = encode(&resource);
        assert_eq!(decode(&bytes), Ok(resource.clone()));
        let name = resource.key().to_string();
        assert_eq!(key(&name), resource.key(), "{name}");
        assert_eq!(change(&name, &bytes), (Change::Set(resource), None));
    }
}

/// A change to a wire message that makes it wrong.
type Spoil<T> = fn(&mut T);

fn spoil<T: Message + Default>(
    good: &Resource,
    kind: fn(Kind) -> T,
    back: fn(T) -> Kind,
    how: Spoil<T>,
) -> Vec<u8> {
    let wire = proto::Resource::decode(&*encode(good)).expect("a message");
    let mut inner = kind(wire.kind.expect("a kind"));
    how(&mut inner);
    proto::Resource {
        kind: Some(back(inner)),
    }
    .encode_to_vec()
}

/// The error of each case has the field's path, and where the targets can be read they refuse.
fn refused<T: Message + Default>(
    good: Resource,
    kind: fn(Kind) -> T,
    back: fn(T) -> Kind,
    cases: &[(&str, Spoil<T>)],
) {
    let name = good.key().to_string();
    for (field, how) in cases {
        let bytes = spoil(&good, kind, back, *how);
        let (change, error) = change(&name, &bytes);
        let error = error.unwrap_or_else(|| panic!("{field}: nothing is wrong"));
        assert_eq!(
            (error.resource.as_str(), error.field.as_str()),
            (&*name, *field)
        );
        let refuses = match &change {
            Change::Set(Resource::Policy(it)) => it.undecodable.is_some(),
            Change::Set(Resource::Authentication(it)) => it.undecodable.is_some(),
            Change::Set(Resource::Tls(it)) => it.invalid.is_some(),
            Change::Undecodable(key, _) => *key == good.key(),
            _ => false,
        };
        assert!(refuses, "{field}: {change:?}");
    }
}

fn filter_of(route: &mut proto::Route, at: usize) -> &mut proto::filter::Kind {
    route.filters[at].kind.as_mut().expect("a filter")
}

#[test]
fn a_route_is_strict() {
    use proto::filter::Kind as F;
    let cases: &[(&str, Spoil<proto::Route>)] = &[
        ("protocol", |r| r.protocol = 0),
        ("protocol", |r| r.protocol = 9),
        ("route", |r| r.route = None),
        ("rule", |r| r.rule = 65_536),
        ("parents", |r| r.parents.clear()),
        ("parents[0].service", |r| r.parents[0].service = None),
        ("parents[0].port", |r| r.parents[0].port = Some(0)),
        ("consumer", |r| r.consumer = Some(String::new())),
        ("sni[1]", |r| r.sni[1] = "A.b".into()),
        ("matches[0].path", |r| {
            r.matches[0].path = Some(proto::PathMatch::default());
        }),
        ("matches[0].path.prefix", |r| {
            let wrong = proto::path_match::Match::Prefix("/v2/".into());
            r.matches[0].path = Some(proto::PathMatch {
                r#match: Some(wrong),
            });
        }),
        ("matches[1].path.regex", |r| {
            let wrong = proto::path_match::Match::Regex("a)|(b".into());
            r.matches[1].path = Some(proto::PathMatch {
                r#match: Some(wrong),
            });
        }),
        ("matches[0].method", |r| {
            r.matches[0].method = Some("G T".into());
        }),
        ("matches[0].headers[0].name", |r| {
            r.matches[0].headers[0].name = "a b".into();
        }),
        ("matches[0].query[0]", |r| {
            r.matches[0].query[0].r#match = None
        }),
        ("filters[0]", |r| r.filters[0].kind = None),
        ("filters[0].request_headers.set[0].value", |r| {
            if let F::RequestHeaders(it) = filter_of(r, 0) {
                it.set[0].value = b"a\r\nb".to_vec().into();
            }
        }),
        ("filters[2].redirect.status", |r| {
            if let F::Redirect(it) = filter_of(r, 2) {
                it.status = 304;
            }
        }),
        ("filters[2].redirect.path", |r| {
            if let F::Redirect(it) = filter_of(r, 2) {
                let edit = proto::path_edit::Edit::Full("/a b".into());
                it.path = Some(proto::PathEdit { edit: Some(edit) });
            }
        }),
        ("filters[4].mirror.numerator, denominator", |r| {
            if let F::Mirror(it) = filter_of(r, 4) {
                it.denominator = 0;
            }
        }),
        ("filters[7].rate_limit.interval", |r| {
            if let F::RateLimit(it) = filter_of(r, 7) {
                it.interval = Some(prost_types::Duration::default());
            }
        }),
        ("filters[7].rate_limit.burst", |r| {
            if let F::RateLimit(it) = filter_of(r, 7) {
                it.burst = 9;
            }
        }),
        ("filters[8].fault.abort.share", |r| {
            if let F::Fault(it) = filter_of(r, 8) {
                it.abort = Some(proto::Abort {
                    status: 500,
                    share: 1_000_001,
                });
            }
        }),
        ("backends[0].weight", |r| r.backends[0].weight = 1_000_001),
        ("backends[0].backend", |r| r.backends[0].backend = None),
        ("request_timeout", |r| {
            r.request_timeout = Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            });
        }),
        ("retry.codes[0]", |r| {
            r.retry.as_mut().expect("a retry").codes[0] = 200;
        }),
    ];
    let good = Resource::Route(Arc::new(route()));
    let kind = |kind| match kind {
        Kind::Route(it) => it,
        _ => panic!("a route"),
    };
    refused(good, kind, Kind::Route, cases);
}

#[test]
fn a_policy_is_strict() {
    let cases: &[(&str, Spoil<proto::Policy>)] = &[
        ("key", |p| p.key = None),
        ("targets", |p| p.targets.clear()),
        ("targets[1]", |p| p.targets[1].kind = None),
        ("action", |p| p.action = 0),
        ("authorizer", |p| p.authorizer = None),
        ("rules[0].from[0].principals.any[0]", |p| {
            let texts = p.rules[0].from[0].principals.as_mut().expect("texts");
            texts.any[0].r#match = None;
        }),
        ("rules[0].from[0].ip_blocks.none[0]", |p| {
            let nets = p.rules[0].from[0].ip_blocks.as_mut().expect("nets");
            nets.none[0] = "10.0.0.0/33".into();
        }),
        ("rules[0].to[0].ports.any[1]", |p| {
            let ports = p.rules[0].to[0].ports.as_mut().expect("ports");
            ports.any[1] = 65_536;
        }),
        ("rules[0].to[0].paths.any[0]", |p| {
            let paths = p.rules[0].to[0].paths.as_mut().expect("paths");
            paths.any[0].kind = None;
        }),
        ("rules[0].when[2]", |p| p.rules[0].when[2].kind = None),
    ];
    let good = Resource::Policy(Arc::new(policy()));
    let kind = |kind| match kind {
        Kind::Policy(it) => it,
        _ => panic!("a policy"),
    };
    refused(good, kind, Kind::Policy, cases);
}

#[test]
fn mapped_prefixes_are_ipv4_ones() {
    let mut wire = proto::Policy::from(&policy());
    let net = |wire: &mut proto::Policy, text: &str| {
        let nets = wire.rules[0].from[0].ip_blocks.as_mut().expect("nets");
        nets.any = vec![text.into()];
        let found = super::policy::policy(wire).ok()?;
        Some(found.rules[0].from[0].ip_blocks.any[0].to_string())
    };
    for (text, wanted) in [
        ("10.1.2.3/8", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/128", Some("10.1.2.3/32")),
        ("::ffff:10.1.2.3/64", None),
        ("fd00::1/64", Some("fd00::/64")),
    ] {
        assert_eq!(net(&mut wire, text).as_deref(), wanted, "{text}");
    }
}

#[test]
fn an_authentication_is_strict() {
    let cases: &[(&str, Spoil<proto::Authentication>)] = &[
        ("rules[0].issuer", |a| a.rules[0].issuer.clear()),
        ("rules[0].keys", |a| a.rules[0].keys = None),
        ("rules[0].sources[1].query", |a| {
            let empty = proto::token_source::Kind::Query(String::new());
            a.rules[0].sources[1].kind = Some(empty);
        }),
        ("rules[0].payload_header", |a| {
            a.rules[0].payload_header = Some("a b".into());
        }),
        ("rules[0].claim_headers[0].claim", |a| {
            a.rules[0].claim_headers[0].claim.clear();
        }),
    ];
    let good = Resource::Authentication(Arc::new(authentication()));
    let kind = |kind| match kind {
        Kind::Authentication(it) => it,
        _ => panic!("an authentication"),
    };
    refused(good, kind, Kind::Authentication, cases);
}

#[test]
fn traffic_and_tls_are_strict() {
    let cases: &[(&str, Spoil<proto::Traffic>)] = &[
        ("balance", |t| t.balance = None),
        ("limits", |t| t.limits = None),
        ("outlier.max_ejected", |t| {
            t.outlier.as_mut().expect("an outlier").max_ejected = 101;
        }),
        ("retry_budget.percent", |t| {
            t.retry_budget.as_mut().expect("a budget").percent = 101;
        }),
    ];
    let good = Resource::Traffic(Arc::new(traffic(Balance::PeakEwma)));
    let kind = |kind| match kind {
        Kind::Traffic(it) => it,
        _ => panic!("a traffic policy"),
    };
    refused(good, kind, Kind::Traffic, cases);

    let cases: &[(&str, Spoil<proto::BackendTls>)] = &[
        ("hostname", |t| t.hostname.clear()),
        ("subject_alt_names[0]", |t| t.subject_alt_names[0].clear()),
        ("roots", |t| t.roots = Some(String::new())),
    ];
    let good = Resource::Tls(Arc::new(tls()));
    let kind = |kind| match kind {
        Kind::Tls(it) => it,
        _ => panic!("TLS"),
    };
    refused(good, kind, Kind::Tls, cases);
}

#[test]
fn a_name_says_what_is_inside() {
    let good = Resource::Policy(Arc::new(policy()));
    let (change, error) = change("policy/shop/other", &encode(&good));
    assert_eq!(error.map(|e| e.field), Some("name".into()));
    let key = ResourceKey::Policy(name("shop/other"));
    assert!(matches!(change, Change::Undecodable(found, _) if found == key));
}

#[test]
fn a_name_that_says_nothing_may_mean_anyone() {
    for text in [
        "",
        "x",
        "policy",
        "policy/a",
        "policy/a/b/c",
        "what/a/b",
        "route/http/a/b/x",
    ] {
        let nobody = ResourceKey::Policy(NamespacedName::new("", text));
        assert_eq!(key(text), nobody, "{text:?}");
        let (change, error) = change(text, b"\xff");
        assert!(error.is_some());
        assert!(matches!(change, Change::Undecodable(found, _) if found == nobody));
    }
}

proptest! {
    /// Whatever bytes come: no panic, and what decodes is whole.
    #[test]
    fn damaged_bytes_are_refused_or_whole(
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let all = every_kind();
        let good = &all[at.index(all.len())];
        let mut bytes = encode(good);
        for (position, value) in damage {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        match decode(&bytes) {
            Ok(found) => prop_assert_eq!(decode(&encode(&found)), Ok(found)),
            Err(_) => {
                let (change, error) = change(&good.key().to_string(), &bytes);
                prop_assert!(error.is_some());
                prop_assert!(!matches!(change, Change::Remove(_)));
            }
        }
    }
}
