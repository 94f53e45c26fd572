//! Which server a request reaches, and what is done to it on its way.

use ambit_lab::harness::Lab;

use super::call::{Answer, Call};
use super::scene::{CLIENT, CONSUMER, http_route, lab, route};
use crate::fixtures::{addresses, host};

/// What a row expects.
enum Want {
    /// This server answers.
    By(&'static str),
    /// This server answers and received this path and query.
    Sent(&'static str, &'static str),
    /// The waypoint answers with this status.
    Status(u16),
    /// The waypoint redirects with this status, to this place.
    Redirect(u16, &'static str),
}
use Want::{By, Redirect, Sent, Status};

type Row = (&'static str, Call, Want);

fn get(url: &str) -> Call {
    Call::get(CLIENT, url)
}

/// Applies `manifests`, checks every row at once (what `apply` returned from is in force), and takes
/// them away again.
fn check(lab: &Lab, manifests: &str, rows: Vec<Row>) {
    lab.apply(manifests);
    for (name, call, want) in rows {
        let answer = call.answer(lab);
        match want {
            By(server) => assert_eq!(answer.server(), server, "{name}: {answer:?}"),
            Sent(server, target) => {
                assert_eq!(answer.server(), server, "{name}: {answer:?}");
                assert_eq!(answer.received()["target"], target, "{name}");
            }
            Status(status) => {
                assert_eq!(answer.status, status, "{name}: {answer:?}");
                assert_eq!(answer.server(), "", "{name}: a server answered");
            }
            Redirect(status, location) => {
                assert_eq!(answer.status, status, "{name}: {answer:?}");
                assert_eq!(
                    answer.header("location").as_deref(),
                    Some(location),
                    "{name}"
                );
            }
        }
    }
    lab.delete(manifests);
}

fn backend(name: &str) -> String {
    format!("backendRefs: [{{name: {name}, port: 8080}}]")
}

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

/// MeshFrontend, MeshFrontendHostname, MeshPorts: the address that was dialled decides, not `Host`.
#[test]
fn a_route_belongs_to_the_address_that_was_dialled() {
    let lab = lab();
    let mark = |value: &str, server: &str| {
        format!(
            "- filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-route, value: {value}}}]}}}}]\n  {}",
            backend(server)
        )
    };
    let marked = |answer: &Answer| answer.header("x-route");
    let frontend = http_route("frontend", "v2", &mark("v2", "v2"));
    lab.apply(&frontend);
    assert_eq!(marked(&get("v2.mesh/").answer(&lab)).as_deref(), Some("v2"));
    let wrong_host = get("v2.mesh/").header("Host", "v1.mesh").answer(&lab);
    assert_eq!(marked(&wrong_host).as_deref(), Some("v2"));
    assert_eq!(
        wrong_host.received()["authority"],
        "v1.mesh",
        "the host is left alone"
    );
    let other = get("v1.mesh/").header("Host", "v2.mesh").answer(&lab);
    assert_eq!((other.server(), marked(&other)), ("v1".to_owned(), None));
    for address in addresses(&lab, "mesh/v2") {
        let pod = get(&format!("{}:8080/", host(&address))).answer(&lab);
        assert_eq!(
            (pod.server(), marked(&pod)),
            ("v2".to_owned(), None),
            "{address}"
        );
    }
    lab.delete(&frontend);

    let at_port =
        |name: &str, parent: &str, rules: &str| route("HTTPRoute", "mesh", name, parent, rules);
    lab.apply(
        &(at_port("one", "name: v1, port: 80", &mark("v1", "v1"))
            + &at_port("all", "name: v2", &mark("v2", "v2"))),
    );
    for (url, route) in [
        ("v1.mesh/", Some("v1")),
        ("v1.mesh:8080/", None),
        ("v2.mesh/", Some("v2")),
        ("v2.mesh:8080/", Some("v2")),
    ] {
        let answer = get(url).answer(&lab);
        assert_eq!(marked(&answer).as_deref(), route, "{url}");
        assert_eq!(answer.server(), url[..2], "{url}");
    }
}

/// MeshConsumerRoute.
#[test]
fn a_consumer_s_route_is_for_its_own_namespace() {
    let lab = lab();
    let rules = "- filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: consumer}]}}]\n  \
                 backendRefs: [{name: v1, namespace: mesh, port: 80}]";
    let consumer = route("HTTPRoute", "consumer", "mine", "name: v1", rules);
    lab.apply(&consumer);
    let from = |client| Call::get(client, "v1.mesh/").answer(&lab);
    assert_eq!(
        from(CONSUMER).header("x-route").as_deref(),
        Some("consumer")
    );
    assert_eq!(from(CONSUMER).server(), "v1");
    assert_eq!(from(CLIENT).header("x-route"), None);
    assert_eq!(from(CLIENT).server(), "v1");
}

#[test]
fn what_cannot_be_routed_is_answered_and_not_guessed() {
    let lab = lab();
    let rules = format!(
        "- matches: [{{path: {{type: PathPrefix, value: /none}}}}]\n\
         - matches: [{{path: {{type: PathPrefix, value: /missing}}}}]\n  {}\n\
         - matches: [{{path: {{type: PathPrefix, value: /zero}}}}]\n  backendRefs: [{{name: v1, port: 8080, weight: 0}}]\n\
         - matches: [{{path: {{type: PathPrefix, value: /kind}}}}]\n  backendRefs: [{{kind: Widget, group: example.com, name: v1, port: 8080}}]\n\
         - matches: [{{path: {{type: PathPrefix, value: /foreign}}}}]\n  backendRefs: [{{name: other, namespace: elsewhere, port: 80}}]\n\
         - matches: [{{path: {{type: PathPrefix, value: /good}}}}]\n  backendRefs:\n  - {{name: v1, port: 8080, weight: 1}}\n  - {{name: gone, port: 8080, weight: 0}}",
        backend("gone")
    );
    let manifests = http_route("odd", "echo", &rules);
    // The author is told; what is right is in force all the same.
    let said = lab.try_apply(&manifests).success();
    assert!(said.contains("warning: HTTPRoute mesh/odd"), "{said}");
    for (path, status) in [
        ("/none", 500),
        ("/missing", 500),
        ("/zero", 500),
        ("/kind", 500),
        ("/foreign", 500),
        ("/good", 200),
        ("/else", 404),
    ] {
        let answer = get(path).answer(&lab);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.server().is_empty(), status != 200, "{path}");
    }
    // A grant lets the route refer to the other namespace, and its end ends that.
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
         metadata: {name: from-mesh, namespace: elsewhere}\nspec:\n  \
         from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: mesh}]\n  \
         to: [{group: \"\", kind: Service, name: other}]\n";
    lab.apply(grant);
    let granted = get("/foreign").answer(&lab);
    assert_eq!(
        (granted.status, granted.server()),
        (200, "other".to_owned())
    );
    lab.delete(grant);
    assert_eq!(get("/foreign").answer(&lab).status, 500);
}
