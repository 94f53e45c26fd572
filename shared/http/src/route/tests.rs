use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::balance::{First, Seeded};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::model::route::*;
use crate::path;

fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

/// A rule `NAMESPACE/NAME` number `rule`, to the backend of the object's name.
fn rule(key: &str, number: u16, matches: Vec<RouteMatch>) -> RouteRule {
    RouteRule {
        key: RouteKey {
            protocol: Protocol::Http,
            route: name(key),
            rule: number,
        },
        parents: Vec::new(),
        created: 100,
        consumer: None,
        sni: Vec::new(),
        matches,
        filters: Vec::new(),
        backends: vec![backend(&format!("ns/{}-{number}", name(key).name), 1)],
        timeouts: Timeouts::default(),
        retry: None,
        invalid: None,
    }
}

fn backend(service: &str, weight: u32) -> Backend {
    Backend {
        weight,
        backend: BackendRef::Service {
            service: name(service),
            port: 80,
        },
        filters: Vec::new(),
    }
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path: Some(path),
        ..RouteMatch::default()
    }
}

fn exact(path: &str) -> RouteMatch {
    on(PathMatch::Exact(path.into()))
}

fn prefix(path: &str) -> RouteMatch {
    on(PathMatch::Prefix(path.into()))
}

fn regex(path: &str) -> RouteMatch {
    on(PathMatch::Regex(
        Regex::new(path).expect("a good expression"),
    ))
}

fn header(condition: RouteMatch, name: &'static str, value: &str) -> RouteMatch {
    let mut condition = condition;
    condition.headers.push(HeaderMatch {
        name: HeaderName::from_static(name),
        value: ValueMatch::Exact(value.into()),
    });
    condition
}

fn query(condition: RouteMatch, name: &str, value: &str) -> RouteMatch {
    let mut condition = condition;
    condition.query.push(QueryMatch {
        name: name.into(),
        value: ValueMatch::Exact(value.into()),
    });
    condition
}

fn method(condition: RouteMatch, method: Method) -> RouteMatch {
    RouteMatch {
        method: Some(method),
        ..condition
    }
}

fn service(rules: impl IntoIterator<Item = RouteRule>) -> ServiceRoutes {
    let mut service = ServiceRoutes::default();
    for rule in rules {
        service.insert(&Arc::new(rule), None);
    }
    service
}

/// A request: `METHOD TARGET`, then headers `name: value`.
struct Asked {
    method: Method,
    host: Host,
    path: CanonicalPath,
    headers: HeaderMap,
}

fn ask(line: &str, headers: &[(&'static str, &str)]) -> Asked {
    let (verb, target) = line.split_once(' ').unwrap_or(("GET", line));
    Asked {
        method: verb.parse().expect("a method"),
        host: Host::parse("echo.mesh").expect("a host"),
        path: path::canonical(target).expect("a path"),
        headers: headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).expect("a value");
                (HeaderName::from_static(name), value)
            })
            .collect(),
    }
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            headers: &self.headers,
            scheme: "http",
        }
    }
}

fn plan_of(service: &ServiceRoutes, asked: &Asked) -> Result<RequestPlan, Refusal> {
    let routes = service.at(80, "client").expect("there are rules");
    select(&routes, &asked.head(), &mut First)
}

/// The rule `name-number` that a request follows, or the status it is refused with.
fn chosen(service: &ServiceRoutes, asked: &Asked) -> String {
    match plan_of(service, asked) {
        Ok(plan) => {
            let key = &plan.rule.expect("of a rule").key;
            format!("{}-{}", key.route.name, key.rule)
        }
        Err(refusal) => refusal.status.to_string(),
    }
}

#[test]
fn precedence() {
    let any = || prefix("/");
    let all = service([
        rule("ns/a", 0, vec![any()]),
        rule("ns/a", 1, vec![exact("/match")]),
        rule("ns/a", 2, vec![prefix("/match/")]),
        rule("ns/a", 3, vec![exact("/match/exact")]),
        rule("ns/a", 4, vec![prefix("/match/prefix/one")]),
        rule("ns/a", 5, vec![method(any(), Method::PATCH)]),
        rule("ns/a", 6, vec![header(any(), "version", "one")]),
        rule("ns/a", 7, vec![query(any(), "animal", "whale")]),
        rule(
            "ns/a",
            8,
            vec![header(header(any(), "version", "two"), "x", "y")],
        ),
        rule(
            "ns/a",
            9,
            vec![query(header(any(), "version", "one"), "animal", "whale")],
        ),
        rule("ns/a", 10, vec![regex("/r/[0-9]+"), regex("/match/.*")]),
    ]);
    let version = |value: &'static str| [("version", value)];
    for (line, headers, wanted) in [
        ("/", &[][..], "a-0"),
        ("/match", &[], "a-1"),
        ("/match/", &[], "a-2"),
        ("/match/x", &[], "a-2"),
        ("/matchless", &[], "a-0"),
        ("/match/exact", &[], "a-3"),
        ("/match/exact/x", &[], "a-2"),
        ("/match/prefix/one", &[], "a-4"),
        ("/match/prefix/one/x?y", &[], "a-4"),
        ("/match/prefix/onemore", &[], "a-2"),
        ("PATCH /", &[], "a-5"),
        ("PATCH /match", &[], "a-1"),
        ("PATCH /", &version("one"), "a-5"),
        ("/", &version("one"), "a-6"),
        ("/?animal=whale", &[], "a-7"),
        ("/?animal=whale", &version("one"), "a-9"),
        ("/", &[("version", "two"), ("x", "y")], "a-8"),
        ("/", &version("two"), "a-0"),
        ("/", &[("version", "one"), ("version", "one")], "a-0"),
        ("/?animal=whale&animal=dolphin", &[], "a-7"),
        ("/?animal=dolphin&animal=whale", &[], "a-0"),
        ("/r/12", &[], "a-0"),
    ] {
        assert_eq!(
            chosen(&all, &ask(line, headers)),
            wanted,
            "{line} {headers:?}"
        );
    }
}

#[test]
fn regular_expressions_come_last_and_match_the_whole_path() {
    let all = service([
        rule("ns/a", 0, vec![regex("/[a-z]+")]),
        rule("ns/a", 1, vec![regex("/[a-z]+/more")]),
        rule("ns/a", 2, vec![prefix("/pre")]),
    ]);
    for (line, wanted) in [
        ("/abc", "a-0"),
        ("/abc/more", "a-1"),
        ("/abc/morex", "404"),
        ("/pre", "a-2"),
        ("/", "404"),
    ] {
        assert_eq!(chosen(&all, &ask(line, &[])), wanted, "{line}");
    }
    for odd in ["(", "a)|(b", "a{1,100000}{1,100000}"] {
        assert!(Regex::new(odd).is_err(), "{odd}");
    }
}

#[test]
fn ties_go_to_the_oldest_then_the_first_by_name_and_position() {
    let aged = |key: &str, created| RouteRule {
        created,
        ..rule(key, 0, vec![prefix("/x")])
    };
    let cases = [
        (vec![aged("ns/b", 5), aged("ns/a", 9)], "b-0"),
        (vec![aged("ns/b", 5), aged("ns/a", 5)], "a-0"),
        (vec![aged("zs/a", 5), aged("ns/b", 5)], "b-0"),
        (vec![aged("ns/a", 0), aged("ns/b", 5)], "b-0"),
        (
            vec![
                rule("ns/a", 1, vec![prefix("/x")]),
                rule("ns/a", 0, vec![prefix("/x")]),
            ],
            "a-0",
        ),
    ];
    for (rules, wanted) in cases {
        assert_eq!(chosen(&service(rules), &ask("/x/y", &[])), wanted);
    }
}

#[test]
fn ports_protocols_and_consumers() {
    let mut all = ServiceRoutes::default();
    let of = |key: &str, protocol| {
        let mut of = rule(key, 0, Vec::new());
        of.key.protocol = protocol;
        of
    };
    all.insert(&Arc::new(of("ns/http", Protocol::Http)), None);
    all.insert(&Arc::new(of("ns/grpc", Protocol::Grpc)), Some(7070));
    let consumer = RouteRule {
        consumer: Some("shop".into()),
        ..of("shop/mine", Protocol::Http)
    };
    all.insert(&Arc::new(consumer), Some(80));
    let port_rule = RouteRule {
        created: 1,
        ..rule("ns/port", 0, vec![prefix("/p")])
    };
    all.insert(&Arc::new(port_rule), Some(80));
    for (port, client, line, wanted) in [
        (80, "other", "/", "http-0"),
        (80, "other", "/p", "port-0"),
        (81, "other", "/p", "http-0"),
        (7070, "other", "/", "grpc-0"),
        (80, "shop", "/", "mine-0"),
        (80, "shop", "/p", "mine-0"),
        (81, "shop", "/", "http-0"),
    ] {
        let routes = all.at(port, client).expect("there are rules");
        let asked = ask(line, &[]);
        let plan = select(&routes, &asked.head(), &mut First).expect("a rule");
        let key = &plan.rule.expect("a rule").key;
        let found = format!("{}-{}", key.route.name, key.rule);
        assert_eq!(found, wanted, "{port} {client} {line}");
    }
}

#[test]
fn redirects() {
    let to = |redirect: Redirect| {
        let filters = vec![Filter::Redirect(Redirect {
            status: match redirect.status {
                0 => 302,
                status => status,
            },
            ..redirect
        })];
        service([RouteRule {
            filters,
            ..rule("ns/a", 0, vec![prefix("/old")])
        }])
    };
    let none = Redirect::default;
    let host = Some("example.org".into());
    let https = Some("https".into());
    let path = |to: &str| Some(PathEdit::Prefix(to.into()));
    let cases = [
        (
            Redirect {
                hostname: host.clone(),
                ..none()
            },
            "echo.mesh",
            "http://example.org/old/x?q=1",
        ),
        (
            Redirect {
                scheme: https.clone(),
                ..none()
            },
            "echo.mesh",
            "https://echo.mesh/old/x?q=1",
        ),
        (
            Redirect {
                scheme: https.clone(),
                ..none()
            },
            "echo.mesh:8080",
            "https://echo.mesh/old/x?q=1",
        ),
        (
            Redirect {
                hostname: host.clone(),
                ..none()
            },
            "echo.mesh:8080",
            "http://example.org:8080/old/x?q=1",
        ),
        (
            Redirect {
                port: Some(8083),
                ..none()
            },
            "echo.mesh",
            "http://echo.mesh:8083/old/x?q=1",
        ),
        (
            Redirect {
                port: Some(80),
                ..none()
            },
            "echo.mesh:8080",
            "http://echo.mesh/old/x?q=1",
        ),
        (
            Redirect {
                port: Some(443),
                scheme: https.clone(),
                ..none()
            },
            "a.b",
            "https://a.b/old/x?q=1",
        ),
        (
            Redirect {
                port: Some(80),
                scheme: https,
                ..none()
            },
            "a.b",
            "https://a.b:80/old/x?q=1",
        ),
        (
            Redirect {
                path: path("/new"),
                ..none()
            },
            "a.b",
            "http://a.b/new/x?q=1",
        ),
        (
            Redirect {
                path: path("/new/"),
                ..none()
            },
            "a.b",
            "http://a.b/new/x?q=1",
        ),
        (
            Redirect {
                path: path("/"),
                ..none()
            },
            "a.b",
            "http://a.b/x?q=1",
        ),
        (
            Redirect {
                path: Some(PathEdit::Full("/full".into())),
                ..none()
            },
            "a.b",
            "http://a.b/full?q=1",
        ),
    ];
    for (redirect, host, wanted) in cases {
        let mut asked = ask("/old/x?q=1", &[]);
        asked.host = Host::parse(host).expect("a host");
        let plan = plan_of(&to(redirect.clone()), &asked).expect("a plan");
        let answer = plan.action.expect_err("a redirect");
        assert_eq!(answer.location, wanted, "{redirect:?} {host}");
        assert_eq!(answer.status, 302);
    }
}

#[test]
fn rewrites() {
    let cases = [
        ("/old", PathEdit::Prefix("/new".into()), "/old", "/new"),
        ("/old", PathEdit::Prefix("/new".into()), "/old/", "/new/"),
        ("/old", PathEdit::Prefix("/new/".into()), "/old/x", "/new/x"),
        (
            "/old/",
            PathEdit::Prefix("/new".into()),
            "/old/x?q",
            "/new/x?q",
        ),
        ("/old", PathEdit::Prefix("/".into()), "/old", "/"),
        ("/old", PathEdit::Prefix("".into()), "/old/x", "/x"),
        ("/", PathEdit::Prefix("/new".into()), "/x", "/new/x"),
        ("/", PathEdit::Prefix("/new".into()), "/", "/new/"),
        (
            "/old",
            PathEdit::Full("/all".into()),
            "/old/x?q=1",
            "/all?q=1",
        ),
        ("/old", PathEdit::Full("/a/../b".into()), "/old", "/b"),
    ];
    for (matched, edit, target, wanted) in cases {
        let rewrite = Rewrite {
            hostname: Some("one.example.org".into()),
            path: Some(edit.clone()),
        };
        let all = service([RouteRule {
            filters: vec![Filter::Rewrite(rewrite)],
            ..rule("ns/a", 0, vec![prefix(matched)])
        }]);
        let forward = plan_of(&all, &ask(target, &[]))
            .expect("a plan")
            .action
            .expect("forward");
        let path = forward.path.expect("a new path");
        assert_eq!(path.as_str(), wanted, "{edit:?} {target}");
        assert_eq!(forward.host.as_deref(), Some("one.example.org"));
    }
}

#[test]
fn backends() {
    let gone = |weight| Backend {
        weight,
        backend: BackendRef::Invalid {
            reason: "service ns/gone does not exist".into(),
        },
        filters: Vec::new(),
    };
    let with = |backends: Vec<Backend>| {
        service([RouteRule {
            backends,
            ..rule("ns/a", 0, Vec::new())
        }])
    };
    let shares = |all: &ServiceRoutes| {
        let mut picker = Seeded::new(3);
        let mut shares = std::collections::BTreeMap::<String, u32>::new();
        let asked = ask("/", &[]);
        for _ in 0..10_000 {
            let routes = all.at(80, "x").expect("rules");
            let who = match select(&routes, &asked.head(), &mut picker) {
                Ok(plan) => plan.action.expect("forward").service.name.to_string(),
                Err(refusal) => refusal.status.to_string(),
            };
            *shares.entry(who).or_default() += 1;
        }
        shares
    };
    let split = shares(&with(vec![
        backend("ns/v1", 70),
        backend("ns/v2", 30),
        gone(0),
    ]));
    assert!(split["v1"].abs_diff(7000) < 200, "{split:?}");
    assert_eq!(split["v1"] + split["v2"], 10_000);
    let broken = shares(&with(vec![backend("ns/v1", 1), gone(1)]));
    assert!(broken["500"].abs_diff(5000) < 200, "{broken:?}");
    for (name, backends) in [
        ("none", vec![]),
        ("all zero", vec![backend("ns/v1", 0), backend("ns/v2", 0)]),
        ("invalid", vec![gone(1)]),
    ] {
        let refusal = plan_of(&with(backends), &ask("/", &[])).expect_err(name);
        assert_eq!(refusal.status, 500, "{name}");
        assert!(refusal.reason.contains("http/ns/a/0"), "{refusal}");
    }
    let odd = service([RouteRule {
        invalid: Some("filter X is not known".into()),
        ..rule("ns/a", 0, Vec::new())
    }]);
    let refusal = plan_of(&odd, &ask("/", &[])).expect_err("invalid");
    assert!(refusal.reason.contains("filter X"), "{refusal}");
}

#[test]
fn every_backend_that_may_be_drawn_has_its_plan() {
    let each = |rule: RouteRule, line: &str| -> Vec<String> {
        let all = service([rule]);
        let routes = all.at(80, "x").expect("rules");
        let asked = ask(line, &[]);
        let plans = select_each(&routes, &asked.head()).unwrap_or_else(|why| vec![(0, Err(why))]);
        let shown = plans.into_iter().map(|(weight, plan)| match plan {
            Ok(plan) => match plan.action {
                Ok(forward) => format!(
                    "{weight} {}+{}",
                    forward.service.name,
                    forward.mirrors.len()
                ),
                Err(redirect) => format!("{weight} {}", redirect.status),
            },
            Err(refusal) => format!("{weight} {}", refusal.status),
        });
        shown.collect()
    };
    let gone = Backend {
        backend: BackendRef::Invalid {
            reason: "service ns/gone does not exist".into(),
        },
        ..backend("ns/gone", 5)
    };
    let copy = |numerator| {
        Filter::Mirror(Mirror {
            backend: backend("ns/copy", 1).backend,
            numerator,
            denominator: 10,
        })
    };
    // A mirror that is drawn comes before the backend is.
    let split = || RouteRule {
        backends: vec![
            gone.clone(),
            backend("ns/v1", 70),
            backend("ns/v2", 0),
            backend("ns/v3", 30),
        ],
        filters: vec![copy(9), copy(10)],
        ..rule("ns/a", 0, vec![on(PathMatch::Exact("/".into()))])
    };
    assert_eq!(each(split(), "/"), ["5 500", "70 v1+1", "30 v3+1"]);
    assert_eq!(each(split(), "/elsewhere"), ["0 404"]);
    let none = RouteRule {
        backends: Vec::new(),
        ..split()
    };
    assert_eq!(each(none, "/"), ["1 500"], "what it does with all");
}

#[test]
fn edits_apply_in_order_and_the_backend_s_inside_the_rule_s() {
    let set = |value: &'static str| HeaderEdits {
        set: vec![(
            HeaderName::from_static("x"),
            HeaderValue::from_static(value),
        )],
        ..HeaderEdits::default()
    };
    let mut inner = backend("ns/v1", 1);
    inner.filters = vec![
        Filter::RequestHeaders(set("backend")),
        Filter::ResponseHeaders(set("backend")),
    ];
    let all = service([RouteRule {
        filters: vec![
            Filter::RequestHeaders(set("rule")),
            Filter::ResponseHeaders(set("rule")),
        ],
        backends: vec![inner],
        ..rule("ns/a", 0, Vec::new())
    }]);
    let plan = plan_of(&all, &ask("/", &[])).expect("a plan");
    let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
    let forward = plan.action.expect("forward");
    forward
        .request_edits
        .iter()
        .for_each(|it| edit::apply(it, &mut request));
    plan.response_edits
        .iter()
        .for_each(|it| edit::apply(it, &mut response));
    assert_eq!(request["x"], "backend");
    assert_eq!(response["x"], "rule");
    let edits = HeaderEdits {
        set: vec![(
            HeaderName::from_static("a"),
            HeaderValue::from_static("new"),
        )],
        add: vec![(
            HeaderName::from_static("b"),
            HeaderValue::from_static("more"),
        )],
        remove: vec![HeaderName::from_static("c")],
    };
    let mut headers = ask(
        "/",
        &[("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("c", "2")],
    )
    .headers;
    edit::apply(&edits, &mut headers);
    let all = |name| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
    assert_eq!(all("a"), ["new"]);
    assert_eq!(all("b"), ["1", "more"]);
    assert_eq!(all("c"), [""; 0]);
}

#[test]
fn edits_leave_host_and_framing_alone() {
    let names = ["host", "content-length", "transfer-encoding", "connection"];
    let mut headers = HeaderMap::new();
    for name in names.map(HeaderName::from_static) {
        headers.insert(name, HeaderValue::from_static("ours"));
    }
    let evil = |name| (HeaderName::from_static(name), HeaderValue::from_static("0"));
    let edits = HeaderEdits {
        set: names.map(evil).into(),
        add: names.map(evil).into(),
        remove: names.map(HeaderName::from_static).into(),
    };
    let before = headers.clone();
    edit::apply(&edits, &mut headers);
    assert_eq!(headers, before);
}

#[test]
fn mirrors_are_drawn() {
    let mirror = |numerator, denominator| {
        Filter::Mirror(Mirror {
            backend: BackendRef::Service {
                service: name("ns/copy"),
                port: 80,
            },
            numerator,
            denominator,
        })
    };
    let mut picker = Seeded::new(9);
    for (filter, low, high) in [
        (mirror(1, 1), 4000, 4000),
        (mirror(0, 100), 0, 0),
        (mirror(1, 2), 1850, 2150),
        (mirror(100, 100), 4000, 4000),
    ] {
        let all = service([RouteRule {
            filters: vec![filter.clone()],
            ..rule("ns/a", 0, Vec::new())
        }]);
        let routes = all.at(80, "x").expect("rules");
        let asked = ask("/", &[]);
        let mut copies = 0;
        for _ in 0..4000 {
            let plan = select(&routes, &asked.head(), &mut picker).expect("a plan");
            copies += plan.action.expect("forward").mirrors.len();
        }
        assert!((low..=high).contains(&copies), "{filter:?}: {copies}");
    }
}

#[test]
fn cross_origin_requests() {
    let list = |values: &[&str]| values.iter().map(|it| (*it).into()).collect();
    let named = Cors {
        allow_origins: list(&["https://www.foo.com", "https://*.bar.com"]),
        allow_credentials: true,
        allow_methods: list(&["GET", "OPTIONS"]),
        allow_headers: list(&["x-1", "x-2"]),
        expose_headers: list(&["x-3"]),
        max_age: 3600,
    };
    let any = Cors {
        allow_origins: list(&["*"]),
        allow_methods: list(&["*"]),
        allow_headers: list(&["*"]),
        ..Cors::default()
    };
    let any_credentials = Cors {
        allow_credentials: true,
        ..any.clone()
    };
    let asked = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-1"),
        ];
        ask("OPTIONS /", &headers).headers
    };
    // Origin, credentials, methods, headers, age.
    let rows: [(&str, &Cors, &str, [Option<&str>; 5]); 6] = [
        (
            "exact",
            &named,
            "https://www.foo.com",
            [
                Some("https://www.foo.com"),
                Some("true"),
                Some("GET, OPTIONS"),
                Some("x-1, x-2"),
                Some("3600"),
            ],
        ),
        (
            "subdomain",
            &named,
            "https://a.b.bar.com",
            [
                Some("https://a.b.bar.com"),
                Some("true"),
                Some("GET, OPTIONS"),
                Some("x-1, x-2"),
                Some("3600"),
            ],
        ),
        (
            "not the domain itself",
            &named,
            "https://bar.com",
            [None; 5],
        ),
        ("another scheme", &named, "http://www.foo.com", [None; 5]),
        (
            "wildcard",
            &any,
            "https://x.y",
            [Some("*"), None, Some("*"), Some("*"), None],
        ),
        (
            "wildcard with credentials",
            &any_credentials,
            "https://x.y",
            [
                Some("https://x.y"),
                Some("true"),
                Some("PUT"),
                Some("x-1"),
                None,
            ],
        ),
    ];
    for (row, cors, origin, wanted) in rows {
        let answer = cors::preflight(cors, &Method::OPTIONS, &asked(origin)).expect(row);
        let names = [
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "access-control-allow-methods",
            "access-control-allow-headers",
            "access-control-max-age",
        ];
        let found = names.map(|name| answer.get(name).map(|it| it.to_str().expect("text")));
        assert_eq!(found, wanted, "{row}");
    }
    assert!(cors::preflight(&named, &Method::GET, &asked("https://www.foo.com")).is_none());
    let plain = ask("OPTIONS /", &[("origin", "https://www.foo.com")]).headers;
    assert!(cors::preflight(&named, &Method::OPTIONS, &plain).is_none());

    let origin = HeaderValue::from_static("https://www.foo.com");
    let mut response = ask("/", &[("access-control-allow-origin", "*")]).headers;
    cors::decorate(&named, Some(&origin), &mut response);
    assert_eq!(response["access-control-allow-origin"], origin);
    assert_eq!(response["access-control-expose-headers"], "x-3");
    assert_eq!(response["vary"], "Origin");
    let other = HeaderValue::from_static("https://evil.com");
    let mut response = ask("/", &[("access-control-allow-origin", "*")]).headers;
    cors::decorate(&named, Some(&other), &mut response);
    assert!(!response.contains_key("access-control-allow-origin"));
}

/// Ten thousand rules cost a request what ten do: no bucket on its way is longer.
#[test]
fn a_lookup_does_not_grow_with_the_number_of_rules() {
    let many = (0..10_000u16).map(|number| {
        let path = format!("/api/v{}/item{number}", number % 7);
        rule(
            "ns/many",
            number,
            vec![prefix(&path), exact(&format!("{path}/x"))],
        )
    });
    let mut all = service(many);
    for number in [0u16, 4321, 9_999] {
        let path = format!("/api/v{}/item{number}", number % 7);
        assert_eq!(
            chosen(&all, &ask(&format!("{path}/y"), &[])),
            format!("many-{number}")
        );
        let Err(refusal) = plan_of(&all, &ask("/api/v1/none", &[])) else {
            panic!("no rule matches");
        };
        assert_eq!(refusal.status, 404);
    }
    let before = all.clone();
    let gone = rule(
        "ns/many",
        4321,
        vec![prefix("/api/v2/item4321"), exact("/api/v2/item4321/x")],
    );
    all.remove(&gone, None);
    assert_eq!(chosen(&all, &ask("/api/v2/item4321/y", &[])), "404");
    assert_eq!(
        chosen(&before, &ask("/api/v2/item4321/y", &[])),
        "many-4321"
    );
}

fn conditions() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        Just(None),
        "(/[ab]{1,2}){1,2}".prop_map(|it| Some(PathMatch::Exact(it.into()))),
        "(/[ab]{1,2}){0,2}".prop_map(|it| {
            let prefix = if it.is_empty() { "/".to_owned() } else { it };
            Some(PathMatch::Prefix(prefix.into()))
        }),
        "/[ab][+?]?".prop_map(|it| Some(PathMatch::Regex(Regex::new(&it).expect("good")))),
    ];
    let verb = prop_oneof![Just(None), Just(Some(Method::GET)), Just(Some(Method::PUT))];
    (path, verb, 0..3u8, 0..3u8).prop_map(|(path, method, headers, queries)| {
        let mut found = RouteMatch {
            path,
            method,
            ..RouteMatch::default()
        };
        let names = ["h1", "h2"];
        for name in &names[..usize::from(headers.min(2))] {
            found = header(found, name, "1");
        }
        for name in &names[..usize::from(queries.min(2))] {
            found = query(found, name, "1");
        }
        found
    })
}

/// Kind of path, its length, length of an expression, method, headers, query.
type NaiveRank = (i64, i64, i64, bool, usize, usize);

/// As the specification tells it: every match is looked at, the best wins.
fn naive(rules: &[RouteRule], asked: &Asked) -> Option<RouteKey> {
    let path = asked.path.path();
    let mut best: Option<(NaiveRank, RouteKey)> = None;
    for rule in rules {
        for condition in &rule.matches {
            let (kind, length, expression) = match &condition.path {
                None => (1, 1, 0),
                Some(PathMatch::Exact(it)) if **it == *path => (2, 0, 0),
                Some(PathMatch::Prefix(it)) => {
                    let it = it.trim_end_matches('/');
                    let whole = path == it || path.starts_with(&format!("{it}/"));
                    if !whole {
                        continue;
                    }
                    (1, it.len().max(1) as i64, 0)
                }
                Some(PathMatch::Regex(it)) if it.matches(path) => (0, 0, it.as_str().len() as i64),
                _ => continue,
            };
            let fits = condition
                .method
                .as_ref()
                .is_none_or(|it| *it == asked.method)
                && condition
                    .headers
                    .iter()
                    .all(|it| asked.headers.get(&it.name).is_some())
                && condition.query.iter().all(|it| {
                    asked
                        .path
                        .query()
                        .unwrap_or_default()
                        .split('&')
                        .any(|pair| pair == format!("{}=1", it.name))
                });
            if !fits {
                continue;
            }
            let rank = (
                kind,
                length,
                expression,
                condition.method.is_some(),
                condition.headers.len(),
                condition.query.len(),
            );
            let better = match &best {
                None => true,
                Some((known, key)) => rank > *known || rank == *known && rule.key < *key,
            };
            if better {
                best = Some((rank, rule.key.clone()));
            }
        }
    }
    best.map(|(_, key)| key)
}

proptest! {
    #[test]
    fn select_agrees_with_looking_at_everything(
        matches in proptest::collection::vec(proptest::collection::vec(conditions(), 1..3), 1..12),
        target in "(/[ab]{1,2}){1,3}",
        verb in prop_oneof![Just("GET"), Just("PUT")],
        headers in 0..3usize,
        queries in 0..3usize,
    ) {
        let rules: Vec<RouteRule> = matches
            .into_iter()
            .enumerate()
            .map(|(number, matches)| rule("ns/r", u16::try_from(number).expect("few"), matches))
            .collect();
        let queries = ["h1=1", "h2=1"][..queries.min(2)].join("&");
        let sent = [("h1", "1"), ("h2", "1")];
        let asked = ask(&format!("{verb} {target}?{queries}"), &sent[..headers.min(2)]);
        let found = plan_of(&service(rules.clone()), &asked).ok();
        let found = found.and_then(|plan| Some(plan.rule?.key.clone()));
        prop_assert_eq!(found, naive(&rules, &asked));
    }
}
