//! Every field of a rule, and what it makes of a missing attribute.

use super::*;

/// A rule with a positive value, and the same with a negative one.
fn pair<T: Clone>(value: T, rule: impl Fn(Values<T>) -> Rule) -> (Rule, Rule) {
    (rule(any(value.clone())), rule(none(value)))
}

fn texts(pattern: &str, rule: impl Fn(Values<TextMatch>) -> Rule) -> (Rule, Rule) {
    pair(text(pattern), rule)
}

fn principals(values: Values<TextMatch>) -> Rule {
    from(Source {
        principals: values,
        ..Source::default()
    })
}

fn namespaces(values: Values<TextMatch>) -> Rule {
    from(Source {
        namespaces: values,
        ..Source::default()
    })
}

fn request_principals(values: Values<TextMatch>) -> Rule {
    from(Source {
        request_principals: values,
        ..Source::default()
    })
}

fn accounts(namespace: &str, account: &str) -> (Rule, Rule) {
    let name = ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: account.into(),
    };
    pair(name, |service_accounts| {
        from(Source {
            service_accounts,
            ..Source::default()
        })
    })
}

fn ip_blocks(net: &str) -> (Rule, Rule) {
    pair(net.parse().expect("a net"), |ip_blocks| {
        from(Source {
            ip_blocks,
            ..Source::default()
        })
    })
}

fn remote_ip_blocks(net: &str) -> (Rule, Rule) {
    pair(net.parse().expect("a net"), |remote_ip_blocks| {
        from(Source {
            remote_ip_blocks,
            ..Source::default()
        })
    })
}

fn hosts(values: Values<TextMatch>) -> Rule {
    to(Operation {
        hosts: values,
        ..Operation::default()
    })
}

fn methods(values: Values<TextMatch>) -> Rule {
    to(Operation {
        methods: values,
        ..Operation::default()
    })
}

fn paths(pattern: PathPattern) -> (Rule, Rule) {
    pair(pattern, |paths| {
        to(Operation {
            paths,
            ..Operation::default()
        })
    })
}

fn ports(port: u16) -> (Rule, Rule) {
    pair(port, |ports| {
        to(Operation {
            ports,
            ..Operation::default()
        })
    })
}

/// Rows whose positive rule holds for [`request`], and whose negative one does not.
fn holding() -> Vec<(&'static str, (Rule, Rule))> {
    let exact_path = |path| PathPattern::Text(text(path));
    let net = |net: &str| net.parse().expect("a net");
    let condition = |make: fn(Values<TextMatch>) -> Condition, pattern| {
        texts(pattern, move |values| when(make(values)))
    };
    let claimed = |path: &[&str], pattern| texts(pattern, |values| when(claim(path, values)));
    vec![
        (
            "principal",
            texts("cluster.local/ns/shop/sa/web", principals),
        ),
        (
            "principal prefix",
            texts("cluster.local/ns/sh*", principals),
        ),
        ("principal suffix", texts("*/ns/shop/sa/web", principals)),
        ("principal present", texts("*", principals)),
        ("namespace", texts("shop", namespaces)),
        ("namespace prefix", texts("sh*", namespaces)),
        ("service account", accounts("shop", "web")),
        ("peer", ip_blocks("10.0.0.0/24")),
        ("remote", remote_ip_blocks("203.0.113.0/24")),
        (
            "token's principal",
            texts("issuer/alice", request_principals),
        ),
        (
            "token's principal prefix",
            texts("issuer/*", request_principals),
        ),
        (
            "token's principal suffix",
            texts("*/alice", request_principals),
        ),
        ("token's principal present", texts("*", request_principals)),
        ("host", texts("shop.example.com", hosts)),
        ("host in capitals", texts("SHOP.example.COM", hosts)),
        ("host suffix", texts("*.example.com", hosts)),
        ("host prefix", texts("shop.*", hosts)),
        ("host on any port", texts("shop.example.com:*", hosts)),
        (
            "host on a port, which does not count",
            texts("shop.example.com:1", hosts),
        ),
        (
            "host with a trailing dot",
            texts("shop.example.com.", hosts),
        ),
        ("method", texts("GET", methods)),
        ("method present", texts("*", methods)),
        ("path", paths(exact_path("/api/items"))),
        ("path prefix", paths(exact_path("/api/*"))),
        ("path prefix inside a segment", paths(exact_path("/ap*"))),
        ("path suffix", paths(exact_path("*/items"))),
        (
            "path template",
            paths(PathPattern::Template("/api/{*}".into())),
        ),
        ("port", ports(8080)),
        ("header", texts("user", |v| when(header("x-role", v)))),
        (
            "second line of a header",
            texts("staff", |v| when(header("x-role", v))),
        ),
        (
            "empty header is present",
            texts("*", |v| when(header("x-empty", v))),
        ),
        (
            "header host is the host",
            texts("shop.example.com", |v| when(header("host", v))),
        ),
        (
            "source.ip",
            pair(net("10.0.0.7/32"), |v| when(Condition::SourceIp(v))),
        ),
        (
            "remote.ip",
            pair(net("203.0.113.9/32"), |v| when(Condition::RemoteIp(v))),
        ),
        (
            "source.namespace",
            condition(Condition::SourceNamespace, "shop"),
        ),
        (
            "source.principal",
            condition(Condition::SourcePrincipal, "*/sa/web"),
        ),
        (
            "request.auth.principal",
            condition(Condition::RequestPrincipal, "issuer/alice"),
        ),
        ("an audience", condition(Condition::Audiences, "a2")),
        ("presenter", condition(Condition::Presenter, "app")),
        ("claim", claimed(&["sub"], "alice")),
        ("claim list", claimed(&["roles"], "ops")),
        ("nested claim", claimed(&["org", "team", "name"], "blue")),
        ("nested list", claimed(&["org", "tags"], "y")),
        ("number claim", claimed(&["level"], "3")),
        ("bool claim", claimed(&["admin"], "true")),
        ("a word of scope", claimed(&["scope"], "write")),
        (
            "destination.ip",
            pair(net("10.1.0.0/16"), |v| when(Condition::DestinationIp(v))),
        ),
        (
            "destination.port",
            pair(8080, |v| when(Condition::DestinationPort(v))),
        ),
        ("connection.sni", condition(Condition::Sni, "*.example.com")),
    ]
}

/// Rows whose positive rule does not hold for [`request`], and whose negative one does.
fn failing() -> Vec<(&'static str, (Rule, Rule))> {
    let path = |path| paths(PathPattern::Text(text(path)));
    let claimed = |path: &[&str], pattern| texts(pattern, |values| when(claim(path, values)));
    vec![
        (
            "principal with a scheme",
            texts("spiffe://cluster.local/ns/shop/sa/web", principals),
        ),
        (
            "principal of a longer account",
            texts("cluster.local/ns/shop/sa/web2", principals),
        ),
        (
            "part of the principal",
            texts("cluster.local/ns/shop/sa", principals),
        ),
        ("case of a namespace", texts("Shop", namespaces)),
        (
            "longer suffix than the namespace",
            texts("*xshop", namespaces),
        ),
        ("account of another namespace", accounts("other", "web")),
        ("peer is not the remote", ip_blocks("203.0.113.0/24")),
        ("remote is not the peer", remote_ip_blocks("10.0.0.0/24")),
        ("other family", ip_blocks("::/0")),
        ("another issuer", texts("issuer2/alice", request_principals)),
        ("half a principal", texts("issuer", request_principals)),
        ("another host", texts("example.com", hosts)),
        ("longer host suffix", texts("*x.shop.example.com", hosts)),
        ("case of a method", texts("get", methods)),
        ("case of a path", path("/API/items")),
        ("longer path", path("/api/items/")),
        (
            "template of fewer segments",
            paths(PathPattern::Template("/{*}".into())),
        ),
        ("another port", ports(80)),
        (
            "another header value",
            texts("admin", |v| when(header("x-role", v))),
        ),
        (
            "two lines are not one value",
            texts("user,staff", |v| when(header("x-role", v))),
        ),
        (
            "another audience",
            texts("a3", |v| when(Condition::Audiences(v))),
        ),
        ("empty claim is absent", claimed(&["none"], "*")),
        ("an object is no value", claimed(&["org"], "*")),
        ("below a text", claimed(&["sub", "x"], "*")),
        ("all of scope at once", claimed(&["scope"], "read write")),
        (
            "another sni",
            texts("example.com", |v| when(Condition::Sni(v))),
        ),
    ]
}

#[test]
fn every_field_and_its_negation() {
    let request = request();
    let facts = request.http();
    for action in [Action::Allow, Action::Deny] {
        for (case, (positive, negative)) in holding() {
            assert!(matches(action.clone(), &positive, &facts), "{case}");
            assert!(!matches(action.clone(), &negative, &facts), "not {case}");
        }
        for (case, (positive, negative)) in failing() {
            assert!(!matches(action.clone(), &positive, &facts), "{case}");
            assert!(matches(action.clone(), &negative, &facts), "not {case}");
        }
    }
}

#[test]
fn a_missing_attribute_satisfies_negative_matches_alone() {
    let bare = bare();
    let facts = bare.http();
    let rows: [(&str, (Rule, Rule)); 11] = [
        ("principal", texts("*", principals)),
        ("namespace", texts("shop", namespaces)),
        ("service account", accounts("shop", "web")),
        ("token's principal", texts("*", request_principals)),
        ("header", texts("*", |v| when(header("x-role", v)))),
        (
            "source.principal",
            texts("*", |v| when(Condition::SourcePrincipal(v))),
        ),
        (
            "source.namespace",
            texts("*", |v| when(Condition::SourceNamespace(v))),
        ),
        ("audiences", texts("*", |v| when(Condition::Audiences(v)))),
        ("presenter", texts("*", |v| when(Condition::Presenter(v)))),
        ("claim", texts("*", |v| when(claim(&["sub"], v)))),
        ("sni", texts("*", |v| when(Condition::Sni(v)))),
    ];
    for action in [Action::Allow, Action::Deny] {
        for (case, (positive, negative)) in &rows {
            assert!(!matches(action.clone(), positive, &facts), "{case}");
            assert!(matches(action.clone(), negative, &facts), "not {case}");
        }
    }
}

#[test]
fn a_token_without_issuer_or_subject_has_no_principal() {
    for missing in [
        json!({"iss": "issuer"}),
        json!({"sub": "a"}),
        json!({"iss": "", "sub": "a"}),
    ] {
        let claims = Some(claims(missing.clone()));
        let request = Request {
            claims,
            ..request()
        };
        let rule = request_principals(any(text("*")));
        assert!(!matches(Action::Allow, &rule, &request.http()), "{missing}");
    }
}

#[test]
fn hosts_are_one_whatever_their_spelling() {
    let rule = hosts(any(text("secret.com")));
    let v6 = hosts(any(text("[fd00::1]")));
    let v6_start = hosts(any(text("[fd00:*")));
    let cases = [
        ("secret.com", &rule, true),
        ("Secret.COM", &rule, true),
        ("secret.com:80", &rule, true),
        ("secret.com.", &rule, true),
        ("SECRET.com.:8443", &rule, true),
        ("secret.com.evil", &rule, false),
        ("x.secret.com", &rule, false),
        ("[fd00::1]", &v6, true),
        ("[FD00::1]:80", &v6, true),
        ("[fd00::2]", &v6, false),
        ("[fd00::1]:80", &v6_start, true),
        ("[fd01::1]", &v6_start, false),
    ];
    for (host, rule, wanted) in cases {
        let request = Request { host, ..request() };
        assert_eq!(
            matches(Action::Deny, rule, &request.http()),
            wanted,
            "{host}"
        );
    }
    let any_port = hosts(any(text("secret.com:*")));
    let host = "secret.com.evil";
    let evil = Request { host, ..request() };
    assert!(!matches(Action::Allow, &any_port, &evil.http()));
}

#[test]
fn path_templates() {
    let cases = [
        ("/a/{*}", "/a/b", true),
        ("/a/{*}", "/a/", false),
        ("/a/{*}", "/a", false),
        ("/a/{*}", "/a/b/c", false),
        ("/a/{*}/c", "/a/b/c", true),
        ("/a/{*}/c", "/a//c", false),
        ("/{*}/b/{*}", "/a/b/c", true),
        ("/{*}/b/{*}", "/a/x/c", false),
        ("/a/{**}", "/a/b/c", true),
        ("/a/{**}", "/a/b", true),
        ("/a/{**}", "/a/", true),
        ("/a/{**}", "/a", true),
        ("/a/{**}", "/ab", false),
        ("/a/{*}/{**}", "/a/b", true),
        ("/a/{*}/{**}", "/a", false),
        ("/{**}", "/", true),
        // Not last: refused by the control plane, matches nothing here.
        ("/{**}/b", "/a/b", false),
        ("/a", "/a", true),
        ("/a/{*}", "/a/{*}", true),
    ];
    for (template, path, wanted) in cases {
        let request = Request { path, ..request() };
        let (rule, _) = paths(PathPattern::Template(template.into()));
        let found = matches(Action::Allow, &rule, &request.http());
        assert_eq!(found, wanted, "{template} {path}");
    }
}

#[test]
fn repeated_headers_are_judged_value_by_value() {
    let request = request();
    let values = Values {
        any: vec![text("user")],
        none: vec![text("staff")],
    };
    // One value suits, another is forbidden.
    assert!(!matches(
        Action::Allow,
        &when(header("x-role", values)),
        &request.http()
    ));
    let (prefix, not) = (any(text("st*")), none(text("us*")));
    assert!(matches(
        Action::Allow,
        &when(header("x-role", prefix)),
        &request.http()
    ));
    assert!(!matches(
        Action::Allow,
        &when(header("x-role", not)),
        &request.http()
    ));
}

#[test]
fn parts_and_lists() {
    let shop = || in_namespace("shop");
    let other = || in_namespace("other");
    let here = || on_path("/api/*");
    let there = || on_path("/other");
    let holds = || header("x-role", any(text("user")));
    let fails = || header("x-role", any(text("admin")));
    let rule =
        |from: Vec<Source>, to: Vec<Operation>, when: Vec<Condition>| Rule { from, to, when };
    let both = Source {
        ip_blocks: any("10.9.0.0/16".parse().expect("a net")),
        ..shop()
    };
    let cases = [
        ("the empty rule", rule(vec![], vec![], vec![]), true),
        ("from", rule(vec![shop()], vec![], vec![]), true),
        (
            "one of from",
            rule(vec![other(), shop()], vec![], vec![]),
            true,
        ),
        (
            "none of from",
            rule(vec![other(), other()], vec![], vec![]),
            false,
        ),
        (
            "from and to",
            rule(vec![shop()], vec![here()], vec![]),
            true,
        ),
        (
            "from, not to",
            rule(vec![shop()], vec![there()], vec![]),
            false,
        ),
        (
            "one of to",
            rule(vec![], vec![there(), here()], vec![]),
            true,
        ),
        (
            "all of when",
            rule(vec![], vec![], vec![holds(), holds()]),
            true,
        ),
        (
            "one of when",
            rule(vec![], vec![], vec![holds(), fails()]),
            false,
        ),
        (
            "all three",
            rule(vec![shop()], vec![here()], vec![holds()]),
            true,
        ),
        (
            "all but when",
            rule(vec![shop()], vec![here()], vec![fails()]),
            false,
        ),
        (
            "fields of a source hold together",
            rule(vec![both], vec![], vec![]),
            false,
        ),
    ];
    let request = request();
    for (case, rule, wanted) in cases {
        assert_eq!(
            matches(Action::Allow, &rule, &request.http()),
            wanted,
            "{case}"
        );
    }
}

#[test]
fn what_cannot_be_judged_never_widens_access() {
    let rules = [
        (
            "unknown key",
            when(Condition::Unknown("request.magic".into())),
        ),
        ("empty source", from(Source::default())),
        ("empty operation", to(Operation::default())),
        (
            "condition without values",
            when(header("x-role", Values::default())),
        ),
        (
            "ports without values",
            when(Condition::DestinationPort(Values::default())),
        ),
    ];
    let request = request();
    for (case, rule) in rules {
        let facts = request.http();
        assert!(!matches(Action::Allow, &rule, &facts), "ALLOW, {case}");
        assert!(matches(Action::Deny, &rule, &facts), "DENY, {case}");
        assert!(
            matches(Action::Custom(name("a/x")), &rule, &facts),
            "CUSTOM, {case}"
        );
    }
}

#[test]
fn namespaces_are_compared_and_no_expressions() {
    let source = Identity::new("cluster.local", "axb", "web").expect("valid");
    let request = Request {
        source: Some(source),
        ..request()
    };
    for action in [Action::Allow, Action::Deny] {
        assert!(!matches(
            action,
            &from(in_namespace("a.b")),
            &request.http()
        ));
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    let request = Request {
        source_ip: "::ffff:10.0.0.7".parse().expect("an address"),
        destination: "[::ffff:10.1.0.1]:8080".parse().expect("an address"),
        ..request()
    };
    let (peer, _) = ip_blocks("10.0.0.7/32");
    assert!(matches(Action::Deny, &peer, &request.http()));
    let net = "10.1.0.1/32".parse().expect("a net");
    let destination = when(Condition::DestinationIp(any(net)));
    assert!(matches(Action::Deny, &destination, &request.http()));
}
