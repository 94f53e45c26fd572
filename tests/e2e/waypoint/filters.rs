//! What is done to a request and to its response on their way.

use super::rows::Want::{Redirect, Sent};
use super::rows::{backend, check, get};
use super::scene::{CLIENT, http_route, lab, route};

#[test]
fn requests_are_redirected_rewritten_and_edited() {
    let lab = lab();
    let prefix = |path: &str, filter: &str| {
        format!(
            "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  \
             filters: [{{type: RequestRedirect, requestRedirect: {{{filter}}}}}]\n"
        )
    };
    let full = "path: {type: ReplaceFullPath, replaceFullPath: /new}";
    let part = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}";
    let root = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}";
    let rules: String = [
        ("/host", "hostname: example.org"),
        ("/host301", "hostname: example.org, statusCode: 301"),
        ("/scheme", "scheme: https"),
        ("/both", "scheme: https, hostname: example.org"),
        ("/port", "port: 8083"),
        ("/hostport", "port: 8083, hostname: example.org"),
        ("/full", full),
        ("/part", part),
        ("/strip", root),
        ("/303", "statusCode: 303"),
        ("/307", "statusCode: 307"),
        ("/308", "statusCode: 308"),
    ]
    .map(|(path, filter)| prefix(path, filter))
    .concat();
    let to = |location| Redirect(302, location);
    check(
        &lab,
        &http_route("redirect", "echo", rules.trim_end()),
        vec![
            ("host", get("/host"), to("http://example.org/host")),
            (
                "host, status",
                get("/host301"),
                Redirect(301, "http://example.org/host301"),
            ),
            ("scheme", get("/scheme"), to("https://echo.mesh/scheme")),
            (
                "scheme, host",
                get("/both?a=1"),
                to("https://example.org/both?a=1"),
            ),
            ("port", get("/port"), to("http://echo.mesh:8083/port")),
            (
                "port, host",
                get("/hostport"),
                to("http://example.org:8083/hostport"),
            ),
            (
                "all of the path",
                get("/full/x?q=1"),
                to("http://echo.mesh/new?q=1"),
            ),
            (
                "its prefix",
                get("/part/lemon"),
                to("http://echo.mesh/new/lemon"),
            ),
            ("its prefix alone", get("/part"), to("http://echo.mesh/new")),
            (
                "the prefix away",
                get("/strip/three"),
                to("http://echo.mesh/three"),
            ),
            ("all away", get("/strip"), to("http://echo.mesh/")),
            ("303", get("/303"), Redirect(303, "http://echo.mesh/303")),
            ("307", get("/307"), Redirect(307, "http://echo.mesh/307")),
            (
                "308",
                get("/308").method("POST"),
                Redirect(308, "http://echo.mesh/308"),
            ),
        ],
    );

    let rewrite = |path: &str, filter: &str| {
        format!(
            "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  \
             filters: [{{type: URLRewrite, urlRewrite: {{{filter}}}}}]\n  {}\n",
            backend("v1")
        )
    };
    let rules: String = [
        (
            "/prefix/one",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}",
        ),
        ("/strip", root),
        (
            "/slash/",
            "path: {type: ReplacePrefixMatch, replacePrefixMatch: /to/}",
        ),
        ("/full", full),
        ("/host", "hostname: one.example.org"),
    ]
    .map(|(path, filter)| rewrite(path, filter))
    .concat();
    let manifests = http_route("rewrite", "echo", rules.trim_end());
    check(
        &lab,
        &manifests,
        vec![
            (
                "a prefix",
                get("/prefix/one/two?q=1"),
                Sent("v1", "/one/two?q=1"),
            ),
            ("a prefix away", get("/strip/three"), Sent("v1", "/three")),
            ("all away", get("/strip"), Sent("v1", "/")),
            (
                "slashes are not doubled",
                get("/slash/x"),
                Sent("v1", "/to/x"),
            ),
            (
                "all of the path",
                get("/full/one/two?q=1"),
                Sent("v1", "/new?q=1"),
            ),
            ("no host", get("/host"), Sent("v1", "/host")),
        ],
    );
    lab.apply(&manifests);
    assert_eq!(
        get("/host").answer(&lab).received()["authority"],
        "one.example.org"
    );
    lab.delete(&manifests);
}

/// HTTPRouteRedirectPort, HTTPRouteRedirectScheme, HTTPRouteRedirectPortAndScheme: which port a Location has.
#[test]
fn a_redirect_names_the_port_that_is_meant() {
    let lab = lab();
    let cases = [
        ("/plain", "hostname: example.org"),
        ("/80", "hostname: example.org, port: 80"),
        ("/8080", "hostname: example.org, port: 8080"),
        ("/443", "hostname: example.org, port: 443"),
        ("/https", "hostname: example.org, scheme: https"),
        (
            "/https-443",
            "hostname: example.org, scheme: https, port: 443",
        ),
        (
            "/https-8443",
            "hostname: example.org, scheme: https, port: 8443",
        ),
        (
            "/https-80",
            "hostname: example.org, scheme: https, port: 80",
        ),
        ("/http-80", "hostname: example.org, scheme: http, port: 80"),
        ("/http", "hostname: example.org, scheme: http"),
    ];
    let rules: Vec<String> = cases
        .iter()
        .map(|(path, filter)| {
            format!(
                "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  \
                 filters: [{{type: RequestRedirect, requestRedirect: {{{filter}}}}}]"
            )
        })
        .collect();
    let to = |location| Redirect(302, location);
    let alt = |path: &str| get(&format!("echo.mesh:8080{path}"));
    check(
        &lab,
        &http_route("ports", "echo", &rules.join("\n")),
        vec![
            ("from 80", get("/plain"), to("http://example.org/plain")),
            ("80 of http", get("/80"), to("http://example.org/80")),
            ("another", get("/8080"), to("http://example.org:8080/8080")),
            ("443 of http", get("/443"), to("http://example.org:443/443")),
            ("https", get("/https"), to("https://example.org/https")),
            (
                "443 of https",
                get("/https-443"),
                to("https://example.org/https-443"),
            ),
            (
                "another of https",
                get("/https-8443"),
                to("https://example.org:8443/https-8443"),
            ),
            (
                "80 of https",
                get("/https-80"),
                to("https://example.org:80/https-80"),
            ),
            (
                "from 8080",
                alt("/plain"),
                to("http://example.org:8080/plain"),
            ),
            (
                "from 8080 to https",
                alt("/https"),
                to("https://example.org/https"),
            ),
            ("from 8080 to 80", alt("/80"), to("http://example.org/80")),
            (
                "from 8080 to http",
                alt("/http"),
                to("http://example.org/http"),
            ),
            (
                "from 8080 to http and 80",
                alt("/http-80"),
                to("http://example.org/http-80"),
            ),
        ],
    );
}

#[test]
fn headers_are_edited_both_ways_at_the_rule_and_at_the_backend() {
    let lab = lab();
    let edits =
        "set: [{name: X-Set, value: new}], add: [{name: X-Add, value: more}], remove: [X-Gone]";
    let rule = "- matches: [{path: {type: PathPrefix, value: /rule}}]\n";
    let at_rule = format!(
        "{rule}  filters:\n  - {{type: RequestHeaderModifier, requestHeaderModifier: {{{edits}}}}}\n  \
         - {{type: ResponseHeaderModifier, responseHeaderModifier: {{{edits}}}}}\n  {}",
        backend("v1")
    );
    let at_backend = format!(
        "- matches: [{{path: {{type: PathPrefix, value: /backend}}}}]\n  backendRefs:\n  - name: v2\n    port: 8080\n    \
         filters:\n    - {{type: RequestHeaderModifier, requestHeaderModifier: {{{edits}}}}}\n    \
         - {{type: ResponseHeaderModifier, responseHeaderModifier: {{{edits}}}}}"
    );
    lab.apply(&http_route(
        "edit",
        "echo",
        &format!("{at_rule}\n{at_backend}"),
    ));
    for (path, server) in [("/rule", "v1"), ("/backend", "v2")] {
        let call = get(path)
            .header("x-set", "old")
            .header("x-add", "first")
            .header("X-GONE", "here")
            .header("x-other", "stays");
        let answer = call.answer(&lab);
        assert_eq!(answer.server(), server, "{path}: {answer:?}");
        assert_eq!(answer.sent("x-set").as_deref(), Some("new"), "{path}");
        let added = answer.sent("x-add").map(|it| it.replace(", ", ","));
        assert_eq!(added.as_deref(), Some("first,more"), "{path}");
        assert_eq!(answer.sent("x-gone"), None, "{path}");
        assert_eq!(answer.sent("x-other").as_deref(), Some("stays"), "{path}");
        assert_eq!(answer.header("x-set").as_deref(), Some("new"), "{path}");
        assert_eq!(answer.header("x-add").as_deref(), Some("more"), "{path}");
    }
}

/// HTTPRouteRequestHeaderModifierBackendWeights: each backend's own edits, whichever is drawn.
#[test]
fn edits_of_a_backend_go_with_it() {
    let lab = lab();
    let to = |server: &str| {
        format!(
            "  - name: {server}\n    port: 8080\n    filters: [{{type: RequestHeaderModifier, \
             requestHeaderModifier: {{set: [{{name: x-backend, value: {server}}}]}}}}]"
        )
    };
    let rules = format!("- backendRefs:\n{}\n{}", to("v1"), to("v2"));
    lab.apply(&http_route("marked", "echo", &rules));
    let mut servers = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = get("/").answer(&lab);
        assert_eq!(
            answer.sent("x-backend"),
            Some(answer.server()),
            "{answer:?}"
        );
        servers.insert(answer.server());
    }
    assert_eq!(servers.len(), 2, "the other is missed once in 2^59 runs");
}

/// MeshGRPCRouteRequestHeaderModifier.
#[test]
fn headers_of_calls_are_edited_as_well() {
    let lab = lab();
    let edits =
        "set: [{name: X-Set, value: new}], add: [{name: X-Add, value: more}], remove: [X-Gone]";
    let rules = format!(
        "- filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{edits}}}}}]\n  \
         backendRefs: [{{name: v1, port: 7070}}]"
    );
    lab.apply(&route(
        "GRPCRoute",
        "mesh",
        "edit",
        "name: echo, port: 7070",
        &rules,
    ));
    let headers = [
        "x-set: old",
        "x-add: first",
        "x-gone: here",
        "x-other: stays",
    ];
    let mut arguments = vec!["grpc", "--json", "-n", "1", "http://echo.mesh:7070"];
    arguments.extend(headers.iter().flat_map(|header| ["-H", *header]));
    let report = lab.load(CLIENT, &arguments).json();
    let received = &report["about"]["headers"];
    assert_eq!(received["x-set"], "new", "{report}");
    assert_eq!(
        received["x-add"]
            .as_str()
            .map(|it| it.replace(", ", ","))
            .as_deref(),
        Some("first,more")
    );
    assert!(received["x-gone"].is_null(), "{report}");
    assert_eq!(received["x-other"], "stays");
}

/// HTTPRouteCORS.
#[test]
fn other_origins_are_let_in_as_the_route_says() {
    let lab = lab();
    let rule = |path: &str, cors: &str| {
        format!(
            "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  \
             filters: [{{type: CORS, cors: {{{cors}}}}}]\n  {}",
            backend("v1")
        )
    };
    let some = "allowOrigins: [\"https://www.foo.com\", \"https://*.bar.com\"], allowMethods: [GET, OPTIONS], \
                allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3], maxAge: 3600, allowCredentials: true";
    let any = "allowOrigins: [\"*\"], allowMethods: [\"*\"], allowHeaders: [\"*\"]";
    let rules = [rule("/some", some), rule("/any", any)].join("\n");
    lab.apply(&http_route("cors", "echo", &rules));
    let preflight = |path: &str, origin: &str| {
        get(path)
            .method("OPTIONS")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "x-header-1")
            .answer(&lab)
    };
    let (foo, bar, evil) = (
        "https://www.foo.com",
        "https://a.b.bar.com",
        "https://evil.com",
    );
    let names = [
        "allow-origin",
        "allow-credentials",
        "allow-methods",
        "allow-headers",
        "max-age",
    ];
    for (path, origin, wanted) in [
        (
            "/some",
            foo,
            [
                Some(foo),
                Some("true"),
                Some("GET, OPTIONS"),
                Some("x-header-1, x-header-2"),
                Some("3600"),
            ],
        ),
        (
            "/some",
            bar,
            [
                Some(bar),
                Some("true"),
                Some("GET, OPTIONS"),
                Some("x-header-1, x-header-2"),
                Some("3600"),
            ],
        ),
        ("/some", "http://www.foo.com", [None; 5]),
        ("/some", "https://bar.com", [None; 5]),
        ("/some", evil, [None; 5]),
        (
            "/any",
            evil,
            [Some("*"), None, Some("*"), Some("*"), Some("5")],
        ),
    ] {
        let answer = preflight(path, origin);
        assert!(
            [200, 204].contains(&answer.status),
            "{path} {origin}: {answer:?}"
        );
        assert_eq!(answer.server(), "", "{path} {origin}: a server answered");
        for (name, wanted) in names.into_iter().zip(wanted) {
            let found = answer.header(&format!("access-control-{name}"));
            assert_eq!(found.as_deref(), wanted, "{path} {origin} {name}");
        }
    }
    // Other requests pass, and their answers say who may read them.
    for (path, origin, wanted, exposed) in [
        ("/some", foo, Some(foo), Some("x-header-3")),
        ("/some", evil, None, None),
        ("/any", evil, Some("*"), None),
    ] {
        let answer = get(path).header("Origin", origin).answer(&lab);
        assert_eq!(answer.server(), "v1", "{path} {origin}");
        let header = |name: &str| answer.header(&format!("access-control-{name}"));
        assert_eq!(header("allow-origin").as_deref(), wanted, "{path} {origin}");
        assert_eq!(
            header("expose-headers").as_deref(),
            exposed,
            "{path} {origin}"
        );
    }
    let plain = get("/some").method("OPTIONS").answer(&lab);
    assert_eq!(plain.server(), "v1", "no preflight: {plain:?}");
}

/// HTTPRouteBackendURLRewrite.
#[test]
fn a_backend_has_its_own_host_and_path() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /one}}]\n  backendRefs:\n  - name: v1\n    port: 8080\n    \
         filters: [{type: URLRewrite, urlRewrite: {hostname: one.example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /uno}}}]";
    lab.apply(&http_route("backend", "echo", rules));
    let answer = get("/one/two?q=1").answer(&lab);
    assert_eq!(answer.server(), "v1", "{answer:?}");
    let received = answer.received();
    assert_eq!(received["target"], "/uno/two?q=1");
    assert_eq!(received["authority"], "one.example.org");
}
