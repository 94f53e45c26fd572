//! Which rule a request matches.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_lab::harness::eventually;

use super::call::Call;
use super::rows::Want::{By, Sent, Status};
use super::rows::{backend, check, get};
use super::scene::{CLIENT, http_route, lab, route};
use super::told::so_many_lines;

#[test]
fn requests_are_matched_by_path_method_header_and_query() {
    let lab = lab();
    // MeshBasic: no configuration at all.
    let plain = get("/as/it/is?a=1&a=2&b=%20%2F").answer(&lab);
    assert_eq!(plain.status, 200);
    assert_eq!(plain.received()["target"], "/as/it/is?a=1&a=2&b=%20%2F");
    assert_eq!(plain.received()["authority"], "echo.mesh");

    // MeshTrafficSplit, MeshHTTPRouteSimpleSameNamespace, MeshHTTPRouteNamedRule.
    let rules = format!(
        "- matches: [{{path: {{type: Exact, value: /v1}}}}]\n  {}\n\
         - name: second\n  matches: [{{path: {{type: Exact, value: /v2}}}}]\n  {}",
        backend("v1"),
        backend("v2")
    );
    check(
        &lab,
        &http_route("split", "echo", &rules),
        vec![
            ("exact v1", get("/v1"), By("v1")),
            ("exact v2", get("/v2"), By("v2")),
            (
                "the query is no part of the path",
                get("/v2?x=1"),
                Sent("v2", "/v2?x=1"),
            ),
            ("no rule matches", get("/v3"), Status(404)),
            ("an exact path has no children", get("/v1/x"), Status(404)),
            (
                "one path however it is written",
                get("/x/../%76%32"),
                Sent("v2", "/v2"),
            ),
        ],
    );

    // As it was judged and sent it is told.
    let told = so_many_lines(&lab, 2, &["\"GET /v2 HTTP/1.1\" 200 "]);
    assert_eq!(told.len(), 2, "as written, and as it means: {told:#?}");

    // MeshHTTPRouteMatching.
    let rules = format!(
        "- matches:\n  - path: {{type: PathPrefix, value: /}}\n  - headers: [{{name: version, value: one}}]\n  {}\n\
         - matches:\n  - path: {{type: PathPrefix, value: /v2}}\n  - headers: [{{name: version, value: two}}]\n  {}",
        backend("v1"),
        backend("v2")
    );
    let version = |call: Call, value: &str| call.header("Version", value);
    check(
        &lab,
        &http_route("matching", "echo", &rules),
        vec![
            ("root", get("/"), By("v1")),
            ("any path", get("/example"), By("v1")),
            ("header one", version(get("/"), "one"), By("v1")),
            ("prefix", get("/v2"), By("v2")),
            ("below the prefix", get("/v2/example"), By("v2")),
            ("the prefix and a slash", get("/v2/"), Sent("v2", "/v2/")),
            ("header two", version(get("/"), "two"), By("v2")),
            ("a longer element is another", get("/v2example"), By("v1")),
            ("a prefix is at the start", get("/foo/v2/example"), By("v1")),
            (
                "a path goes before a header",
                version(get("/v2"), "one"),
                By("v2"),
            ),
        ],
    );

    // MeshHTTPRouteQueryParamMatching, and methods.
    let query = |pairs: &str| format!("queryParams: [{pairs}]");
    let animal = |name: &str| query(&format!("{{name: animal, value: {name}}}"));
    let rules = format!(
        "- matches: [{{{}}}]\n  {}\n- matches: [{{{}}}]\n  {}\n\
         - matches: [{{headers: [{{name: version, value: one}}], {}}}]\n  {}\n\
         - matches: [{{path: {{type: PathPrefix, value: /path5}}}}]\n  {}\n\
         - matches: [{{method: PATCH}}]\n  {}",
        animal("whale"),
        backend("v1"),
        animal("dolphin"),
        backend("v2"),
        animal("whale"),
        backend("v2"),
        backend("v3"),
        backend("v3"),
    );
    check(
        &lab,
        &http_route("query", "echo", &rules),
        vec![
            ("a parameter", get("/?animal=whale"), By("v1")),
            ("another value", get("/?animal=dolphin"), By("v2")),
            (
                "among others",
                get("/?colour=blue&animal=dolphin"),
                By("v2"),
            ),
            (
                "the first of a repeated name",
                get("/?animal=whale&animal=dolphin"),
                By("v1"),
            ),
            (
                "names and values are case-sensitive",
                get("/?ANIMAL=whale"),
                Status(404),
            ),
            (
                "values are compared whole",
                get("/?animal=dolphins"),
                Status(404),
            ),
            ("no parameter", get("/"), Status(404)),
            ("escaped", get("/?animal=wh%61le"), By("v1")),
            (
                "more conditions win",
                version(get("/?animal=whale"), "one"),
                By("v2"),
            ),
            (
                "a path goes before parameters",
                get("/path5?animal=whale"),
                By("v3"),
            ),
            (
                "a method goes before parameters",
                get("/?animal=whale").method("PATCH"),
                By("v3"),
            ),
        ],
    );
}

/// HTTPRouteMethodMatching, HTTPRouteHeaderMatching, HTTPRoutePathMatchOrder.
#[test]
fn the_most_specific_match_wins() {
    let lab = lab();
    let rules = |all: &[(&str, &str)]| {
        let rule = |(matches, server): &(&str, &str)| {
            format!("- matches: [{{{matches}}}]\n  {}", backend(server))
        };
        let all: Vec<_> = all.iter().map(rule).collect();
        http_route("order", "echo", &all.join("\n"))
    };
    let path = |kind: &str, value: &str| format!("path: {{type: {kind}, value: {value}}}");
    let (prefix, exact) = (|it| path("PathPrefix", it), |it| path("Exact", it));
    let manifests = rules(&[
        (&prefix("/match"), "v1"),
        (&prefix("/match/prefix/one/any"), "v2"),
        (&prefix("/match/prefix/one"), "v3"),
        (&exact("/match/exact"), "v2"),
        (&exact("/match/exact/one"), "v3"),
        (&prefix("/match/exact"), "v1"),
        (&path("RegularExpression", "\"/match/[a-c]+x\""), "v3"),
    ]);
    check(
        &lab,
        &manifests,
        vec![
            ("exact", get("/match/exact"), By("v2")),
            ("a longer exact", get("/match/exact/one"), By("v3")),
            ("a prefix beside it", get("/match/exact/two"), By("v1")),
            ("a short prefix", get("/match/any"), By("v1")),
            ("a longer prefix", get("/match/prefix/one"), By("v3")),
            ("below it", get("/match/prefix/one/x"), By("v3")),
            ("the longest", get("/match/prefix/one/any"), By("v2")),
            (
                "a trailing slash",
                get("/match/prefix/one/any/"),
                Sent("v2", "/match/prefix/one/any/"),
            ),
            (
                "an expression matches whole paths",
                get("/match/abx/y"),
                By("v1"),
            ),
            ("none", get("/else"), Status(404)),
        ],
    );
    let method = |call: Call, method: &str| call.method(method);
    let manifests = rules(&[
        ("method: POST", "v1"),
        ("method: GET", "v2"),
        (&format!("{}, method: GET", prefix("/path1")), "v1"),
        ("headers: [{name: version, value: one}], method: PUT", "v2"),
        (&format!("{}, method: POST", prefix("/path2")), "v2"),
        (&prefix("/path3"), "v1"),
        (&format!("{}, method: PATCH", prefix("/path4")), "v1"),
        ("headers: [{name: version, value: four}]", "v3"),
    ]);
    check(
        &lab,
        &manifests,
        vec![
            ("POST", method(get("/"), "POST"), By("v1")),
            ("GET", get("/"), By("v2")),
            ("another method", method(get("/"), "HEAD"), Status(404)),
            ("a path and a method", get("/path1"), By("v1")),
            (
                "another method of that path",
                method(get("/path1"), "PUT"),
                Status(404),
            ),
            (
                "a header and a method",
                method(get("/"), "PUT").header("version", "one"),
                By("v2"),
            ),
            (
                "a path goes before a method",
                method(get("/path2"), "POST"),
                By("v2"),
            ),
            (
                "a path goes before a method alone",
                method(get("/path3"), "PATCH"),
                By("v1"),
            ),
            (
                "a method goes before a header",
                method(get("/path4"), "PATCH").header("version", "four"),
                By("v1"),
            ),
            (
                "methods have their case",
                method(get("/"), "post"),
                Status(404),
            ),
        ],
    );
    let headers = |pairs: &[(&str, &str)]| {
        let pair = |(name, value): &(&str, &str)| format!("{{name: {name}, value: {value}}}");
        let pairs: Vec<_> = pairs.iter().map(pair).collect();
        format!("headers: [{}]", pairs.join(", "))
    };
    let manifests = rules(&[
        (&headers(&[("version", "one")]), "v1"),
        (&headers(&[("version", "two")]), "v2"),
        (&headers(&[("version", "two"), ("color", "orange")]), "v1"),
        (&headers(&[("color", "blue")]), "v3"),
        (
            "headers: [{type: RegularExpression, name: shade, value: \"gr[ae]y\"}]",
            "v2",
        ),
    ]);
    check(
        &lab,
        &manifests,
        vec![
            ("a header", get("/").header("version", "one"), By("v1")),
            (
                "its name in any case",
                get("/").header("VERSION", "two"),
                By("v2"),
            ),
            (
                "its value as it is",
                get("/").header("version", "TWO"),
                Status(404),
            ),
            (
                "two headers before one",
                get("/").header("version", "two").header("color", "orange"),
                By("v1"),
            ),
            (
                "of two rules alike the first",
                get("/").header("version", "two").header("color", "blue"),
                By("v2"),
            ),
            (
                "the other header",
                get("/").header("color", "blue"),
                By("v3"),
            ),
            ("neither", get("/").header("color", "purple"), Status(404)),
            ("an expression", get("/").header("shade", "grey"), By("v2")),
            (
                "an expression matches whole values",
                get("/").header("shade", "greyish"),
                Status(404),
            ),
        ],
    );
}

/// HTTPRouteMatchingAcrossRoutes: the rules of several objects are one table, the older before the newer.
#[test]
fn routes_of_one_service_are_one_table() {
    let lab = lab();
    let rule =
        |matches: &str, server: &str| format!("- matches: [{{{matches}}}]\n  {}", backend(server));
    let header = "headers: [{name: version, value: one}]";
    let prefix = "path: {type: PathPrefix, value: /v2}";
    let all = "path: {type: PathPrefix, value: /}";
    let older = http_route("z-older", "echo", &rule(all, "v1"));
    lab.apply(&older);
    let second = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_secs()
    };
    let created = second();
    eventually("the next second", Duration::from_secs(5), || {
        (second() > created).then_some(())
    });
    let newer = http_route(
        "a-newer",
        "echo",
        &[rule(all, "v2"), rule(prefix, "v2"), rule(header, "v3")].join("\n"),
    );
    check(
        &lab,
        &newer,
        vec![
            ("the older of two alike", get("/"), By("v1")),
            ("the longer path of the newer", get("/v2/x"), By("v2")),
            (
                "the header of the newer",
                get("/").header("version", "one"),
                By("v3"),
            ),
        ],
    );
    // Without it, what the older says is all there is.
    assert_eq!(get("/v2/x").answer(&lab).server(), "v1");
    lab.delete(&older);
    // HTTPRouteHostnameIntersection and the like: with a Service as parent, its address is the host.
    let hostnames = http_route("named", "echo", &rule(all, "v3"))
        .replace("  rules:", "  hostnames: [example.com]\n  rules:");
    let said = lab.try_apply(&hostnames).success();
    assert!(said.contains("spec.hostnames has no effect"), "{said}");
    assert_eq!(get("/").answer(&lab).server(), "v3");
}

/// GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteNamedRule, and what no rule matches.
#[test]
fn calls_are_matched_by_service_method_and_header() {
    let lab = lab();
    let to = |server: &str| format!("backendRefs: [{{name: {server}, port: 7070}}]");
    let rules = [
        format!("- matches: [{{method: {{service: ambit.echo.Echo, method: Unary}}}}]\n  {}", to("v1")),
        format!("- name: second\n  matches: [{{method: {{service: ambit.echo.Echo, method: ServerStream}}}}]\n  {}", to("v2")),
        format!("- matches: [{{method: {{service: ambit.echo.Echo, method: Unary}}, headers: [{{name: version, value: two}}]}}]\n  {}", to("v2")),
        format!("- matches: [{{method: {{type: RegularExpression, service: \"ambit[.].*\", method: \"Cli.*\"}}}}]\n  {}", to("v3")),
    ]
    .join("\n");
    lab.apply(&route(
        "GRPCRoute",
        "mesh",
        "calls",
        "name: echo, port: 7070",
        &rules,
    ));
    let call = |method: &str, more: &[&str]| {
        let fixed = ["grpc", "--json", "-n", "1", "--method", method];
        let arguments = [&fixed[..], more, &["http://echo.mesh:7070"]].concat();
        lab.load(CLIENT, &arguments)
    };
    for (method, more, server) in [
        ("unary", &[][..], "v1"),
        ("server-stream", &[], "v2"),
        ("unary", &["-H", "version: two"], "v2"),
        ("unary", &["-H", "Version: three"], "v1"),
        ("client-stream", &[], "v3"),
    ] {
        let report = call(method, more).json();
        assert_eq!(
            report["about"]["hostname"], server,
            "{method} {more:?}: {report}"
        );
        assert_eq!(report["about"]["namespace"], "mesh");
        assert_eq!(report["about"]["method"], "POST");
    }
    let none = call("bidi", &[]);
    assert!(
        none.stdout.contains("grpc status 12"),
        "UNIMPLEMENTED: {none}"
    );
}
