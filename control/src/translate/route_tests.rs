//! Routes: what each rule becomes, and what its author is told.

use ambit_http::model::route::{BackendRef, PathMatch, ValueMatch};
use ambit_http::model::{Filter, Resource, RouteRule};

use crate::index::Index;
use crate::translate::testing::{
    SERVICES, apply, conditions, index, names, notices, problems, resource, status,
};

/// An HTTPRoute `r` of namespace `shop` for Service `web` with this rest of its spec.
fn http(spec: &str) -> Index {
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop, generation: 7, creationTimestamp: '2026-01-02T03:04:05Z'}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: web}}]\n{spec}"
    );
    index(&format!("{SERVICES}---\n{route}"))
}

fn rule(index: &Index, name: &str) -> RouteRule {
    match resource(index, name) {
        Some(Resource::Route(rule)) => (*rule).clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn parent_conditions(index: &Index, object: &str) -> Vec<Vec<String>> {
    let status = status(index, object).unwrap_or_default();
    let parents = status["parents"].as_array().cloned().unwrap_or_default();
    parents
        .iter()
        .map(|p| conditions(&p["conditions"]))
        .collect()
}

const GOOD: [&str; 2] = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];

#[test]
fn a_rule_is_a_resource_that_points_to_its_services() {
    let index = http(
        "  rules:\n  - backendRefs: [{name: web, port: 80, weight: 9}, {name: web-v2, port: 80}]\n  - backendRefs: [{name: web-v2, port: 80}]\n",
    );
    assert_eq!(
        names(&index),
        ["route/http/shop/r/0", "route/http/shop/r/1"]
    );
    let rule = rule(&index, "route/http/shop/r/0");
    assert_eq!(rule.parents.len(), 1);
    assert_eq!(
        rule.parents[0].service.to_string(),
        "shop/web.shop.svc.cluster.local"
    );
    assert_eq!(
        (rule.parents[0].port, rule.consumer.as_deref()),
        (None, None)
    );
    assert_eq!(rule.created, 1_767_323_045);
    assert_eq!(rule.matches, [], "everything");
    let weights: Vec<_> = rule.backends.iter().map(|b| b.weight).collect();
    assert_eq!(weights, [9, 1]);
    assert_eq!(rule.invalid, None);
    assert_eq!(problems(&index, "HTTPRoute shop/r"), [""; 0]);
    assert_eq!(parent_conditions(&index, "HTTPRoute shop/r"), [GOOD]);
    let status = status(&index, "HTTPRoute shop/r").expect("a status");
    assert_eq!(
        status["parents"][0]["conditions"][0]["observedGeneration"],
        7
    );
}

#[test]
fn without_rules_there_is_one_that_matches_everything() {
    let index = http("");
    let rule = rule(&index, "route/http/shop/r/0");
    assert_eq!((rule.matches.len(), rule.backends.len()), (0, 0));
}

#[test]
fn a_route_of_a_service_without_a_waypoint_says_that_nothing_follows_it() {
    let rules = "  rules:\n  - backendRefs: [{name: web, port: 80}]\n";
    let told = |index: &Index| {
        let status = status(index, "HTTPRoute shop/r").unwrap_or_default();
        status["parents"][0]["conditions"][0]["message"].to_string()
    };
    let mut index = http(rules);
    let message = told(&index);
    let why = "Service shop/web is not bound to a waypoint: label it or its namespace istio.io/use-waypoint=NAME";
    assert!(
        message.contains("nothing follows the route yet"),
        "{message}"
    );
    assert!(message.contains(why), "{message}");
    apply(
        &mut index,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/use-waypoint: w}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: w, namespace: shop}\nspec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n",
    );
    assert_eq!(told(&index), "\"the route is in force\"");
}

#[test]
fn parents() {
    let not = "Accepted=False/NoMatchingParent";
    // What a parent is, the port it stands for (`Some(None)`: all), the condition.
    type Case<'a> = (&'a str, &'a str, Option<Option<u16>>, Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (
            "a service",
            "group: '', kind: Service, name: web",
            Some(None),
            Some(GOOD[0]),
        ),
        (
            "core is the same group",
            "group: core, kind: Service, name: web",
            Some(None),
            Some(GOOD[0]),
        ),
        (
            "a port",
            "group: '', kind: Service, name: web, port: 81",
            Some(Some(81)),
            Some(GOOD[0]),
        ),
        (
            "a port by name",
            "group: '', kind: Service, name: web, sectionName: admin",
            Some(Some(81)),
            Some(GOOD[0]),
        ),
        (
            "both alike",
            "group: '', kind: Service, name: web, port: 81, sectionName: admin",
            Some(Some(81)),
            Some(GOOD[0]),
        ),
        (
            "both different",
            "group: '', kind: Service, name: web, port: 80, sectionName: admin",
            None,
            Some(not),
        ),
        (
            "no such port",
            "group: '', kind: Service, name: web, port: 99",
            None,
            Some(not),
        ),
        (
            "no such name",
            "group: '', kind: Service, name: web, sectionName: x",
            None,
            Some(not),
        ),
        (
            "no such service",
            "group: '', kind: Service, name: gone",
            None,
            Some(not),
        ),
        (
            "an external name",
            "group: '', kind: Service, name: dns-only",
            None,
            Some(not),
        ),
        ("a waypoint itself", "name: waypoint", None, Some(not)),
        ("somebody else's gateway", "name: edge", None, None),
        ("a gateway nobody has", "name: nobody", None, None),
        (
            "something else",
            "group: x.io, kind: Y, name: web",
            None,
            None,
        ),
    ];
    for (case, parent, port, condition) in cases {
        let index = index(&format!(
            "{SERVICES}---\n{GATEWAYS}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\nspec: {{parentRefs: [{{{parent}}}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        ));
        let found = resource(&index, "route/http/shop/r/0").map(|found| match found {
            Resource::Route(rule) => rule.parents[0].port,
            other => panic!("{other:?}"),
        });
        assert_eq!(found, *port, "{case}");
        let found = parent_conditions(&index, "HTTPRoute shop/r");
        assert_eq!(found.first().map(|c| c[0].as_str()), *condition, "{case}");
    }
}

const GATEWAYS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: nginx, listeners: [{name: http, port: 80, protocol: HTTP}]}
";

#[test]
fn a_route_for_a_service_of_another_namespace_is_a_consumers() {
    let route = |parents: &str| {
        index(&format!(
            "{SERVICES}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\nspec: {{parentRefs: [{parents}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        ))
    };
    let other = "{group: '', kind: Service, name: far, namespace: other}";
    let own = "{group: '', kind: Service, name: web}";
    let index = route(other);
    assert_eq!(
        rule(&index, "route/http/shop/r/0").consumer.as_deref(),
        Some("shop")
    );
    let index = route(&format!("{own}, {other}"));
    assert_eq!(
        names(&index),
        ["route/http/shop/r/0", "route/http/shop/r/32768"]
    );
    assert_eq!(rule(&index, "route/http/shop/r/0").consumer, None);
    let consumer = rule(&index, "route/http/shop/r/32768");
    assert_eq!(consumer.consumer.as_deref(), Some("shop"));
    assert_eq!(
        consumer.parents[0].service.to_string(),
        "other/far.other.svc.cluster.local"
    );
}

#[test]
fn backends() {
    let grant = |from: &str, to: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: other}}\nspec: {{from: [{from}], to: [{to}]}}\n"
        )
    };
    let ours = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    let far = "{name: far, namespace: other, port: 80}";
    let any = "{group: '', kind: Service}";
    let cases: Vec<(&str, &str, String, Option<&str>)> = vec![
        ("there", "{name: web, port: 80}", String::new(), None),
        (
            "no such service",
            "{name: gone, port: 80}",
            String::new(),
            Some("BackendNotFound"),
        ),
        (
            "no such port",
            "{name: web, port: 99}",
            String::new(),
            Some("BackendNotFound"),
        ),
        (
            "no port",
            "{name: web}",
            String::new(),
            Some("BackendNotFound"),
        ),
        (
            "an external name",
            "{name: dns-only, port: 80}",
            String::new(),
            Some("BackendNotFound"),
        ),
        (
            "another kind",
            "{group: x.io, kind: Bucket, name: web, port: 80}",
            String::new(),
            Some("InvalidKind"),
        ),
        (
            "another namespace",
            far,
            String::new(),
            Some("RefNotPermitted"),
        ),
        ("granted", far, grant(ours, any), None),
        (
            "granted by name",
            far,
            grant(ours, "{group: '', kind: Service, name: far}"),
            None,
        ),
        (
            "granted for another name",
            far,
            grant(ours, "{group: '', kind: Service, name: near}"),
            Some("RefNotPermitted"),
        ),
        (
            "granted to another kind of route",
            far,
            grant(
                "{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: shop}",
                any,
            ),
            Some("RefNotPermitted"),
        ),
        (
            "granted to another namespace",
            far,
            grant(
                "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: x}",
                any,
            ),
            Some("RefNotPermitted"),
        ),
    ];
    for (case, backend, grants, reason) in cases {
        let index = http(&format!(
            "  rules: [{{backendRefs: [{backend}]}}]\n{grants}"
        ));
        let rule = rule(&index, "route/http/shop/r/0");
        assert_eq!(rule.invalid, None, "{case}: only its share is refused");
        let valid = matches!(rule.backends[0].backend, BackendRef::Service { .. });
        assert_eq!(valid, reason.is_none(), "{case}");
        let resolved = parent_conditions(&index, "HTTPRoute shop/r")[0][1].clone();
        let expected = match reason {
            None => GOOD[1].to_owned(),
            Some(reason) => format!("ResolvedRefs=False/{reason}"),
        };
        assert_eq!(resolved, expected, "{case}");
        assert_eq!(
            problems(&index, "HTTPRoute shop/r").len(),
            usize::from(reason.is_some()),
            "{case}"
        );
    }
}

#[test]
fn matches_of_requests() {
    let one = |spec: &str| {
        let index = http(&format!(
            "  rules: [{{matches: [{spec}], backendRefs: [{{name: web, port: 80}}]}}]\n"
        ));
        let found = resource(&index, "route/http/shop/r/0").map(|found| match found {
            Resource::Route(rule) => rule.matches[0].clone(),
            other => panic!("{other:?}"),
        });
        (
            found,
            parent_conditions(&index, "HTTPRoute shop/r")[0][0].clone(),
        )
    };
    let path = |spec: &str| one(&format!("{{path: {spec}}}")).0.map(|m| m.path);
    let exact = |text: &str| Some(Some(PathMatch::Exact(text.into())));
    let prefix = |text: &str| Some(Some(PathMatch::Prefix(text.into())));
    assert_eq!(path("{type: Exact, value: /a/}"), exact("/a/"));
    assert_eq!(path("{value: /a}"), prefix("/a"));
    assert_eq!(path("{type: PathPrefix, value: /a/b/}"), prefix("/a/b"));
    assert_eq!(path("{type: PathPrefix, value: /}"), Some(None));
    assert_eq!(path("{}"), Some(None));
    assert!(matches!(
        path("{type: RegularExpression, value: '/a/[0-9]+'}"),
        Some(Some(PathMatch::Regex(regex))) if regex.matches("/a/17") && !regex.matches("/a/17/b")
    ));
    for wrong in [
        "{path: {type: RegularExpression, value: '('}}",
        "{path: {type: Exact, value: a}}",
        "{path: {type: Exact, value: '/a/../b'}}",
        "{path: {type: Exact, value: '//a'}}",
        "{path: {type: Exact, value: '/a?b=c'}}",
        "{path: {type: Glob, value: /a}}",
        "{method: 'G T'}",
        "{headers: [{name: 'a b', value: x}]}",
        "{headers: [{name: a, value: '(', type: RegularExpression}]}",
        "{queryParams: [{name: a, value: x, type: Glob}]}",
    ] {
        let (found, accepted) = one(wrong);
        assert_eq!(found, None, "{wrong}");
        assert_eq!(accepted, "Accepted=False/UnsupportedValue", "{wrong}");
    }
    let (found, _) = one(
        "{method: POST, headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}], queryParams: [{name: q, value: '.*', type: RegularExpression}, {name: Q, value: x}]}",
    );
    let found = found.expect("a match");
    assert_eq!(found.method, Some(http::Method::POST));
    assert_eq!(found.headers.len(), 1, "the first of a name counts");
    assert_eq!(found.headers[0].value, ValueMatch::Exact("1".into()));
    assert_eq!(found.query.len(), 2, "query keys are case-sensitive");
}

#[test]
fn a_rule_that_cannot_be_understood_is_dropped_and_the_others_stay() {
    let index = http(
        "  rules:\n  - matches: [{path: {type: RegularExpression, value: '('}}]\n    backendRefs: [{name: web, port: 80}]\n  - backendRefs: [{name: web-v2, port: 80}]\n",
    );
    assert_eq!(names(&index), ["route/http/shop/r/1"]);
    assert_eq!(
        parent_conditions(&index, "HTTPRoute shop/r"),
        [[
            "Accepted=True/Accepted",
            "PartiallyInvalid=True/UnsupportedValue",
            GOOD[1]
        ]]
    );
    assert!(problems(&index, "HTTPRoute shop/r")[0].starts_with("Dropped Rule spec.rules[0]"));
}

#[test]
fn filters() {
    let read = |filter: &str| {
        let index = http(&format!("  rules: [{{filters: [{filter}]}}]\n{EXTENSIONS}"));
        let rule = rule(&index, "route/http/shop/r/0");
        (rule.filters, rule.invalid)
    };
    let good = [
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], add: [{name: x-b, value: c}], remove: [x-c]}}",
        "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-A, value: b}]}}",
        "{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.b, port: 8443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x}}}",
        "{type: RequestRedirect, requestRedirect: {}}",
        "{type: URLRewrite, urlRewrite: {hostname: a.b, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}, percent: 5}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}, fraction: {numerator: 1, denominator: 3}}}",
        "{type: CORS, cors: {allowOrigins: ['*'], allowCredentials: true, allowMethods: [GET], allowHeaders: [x-a], exposeHeaders: ['*'], maxAge: 7}}",
        "{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: web-v2, port: 80}, http: {path: /check, allowedHeaders: [cookie]}}}",
        "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: limit}}",
        "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: FaultInjection, name: fault}}",
        "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: ExternalAuthorizer, name: opa}}",
    ];
    for filter in good {
        let (filters, invalid) = read(filter);
        assert_eq!((filters.len(), invalid), (1, None), "{filter}");
    }
    let bad = [
        "{type: RequestHeaderModifier}",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: 'a b', value: c}]}}",
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\r\\nc\"}]}}",
        "{type: RequestRedirect, requestRedirect: {statusCode: 304}}",
        "{type: RequestRedirect, requestRedirect: {scheme: ftp}}",
        "{type: RequestRedirect, requestRedirect: {port: 0}}",
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}",
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}}",
        "{type: URLRewrite, urlRewrite: {hostname: 'a/b'}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}, percent: 101}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}, percent: 1, fraction: {numerator: 1}}}",
        "{type: CORS, cors: {maxAge: -1}}",
        "{type: ExternalAuth, externalAuth: {protocol: SOAP, backendRef: {name: web, port: 80}}}",
        "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: gone}}",
        "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: wrong}}",
        "{type: ExtensionRef, extensionRef: {group: x.io, kind: Y, name: z}}",
        "{type: Teleport}",
        "{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}",
    ];
    for filter in bad {
        let (_, invalid) = read(filter);
        assert!(invalid.is_some(), "{filter}");
    }
}

const EXTENSIONS: &str = "
---
apiVersion: ambit.dev/v1alpha1
kind: RateLimit
metadata: {name: limit, namespace: shop}
spec: {requests: 10, interval: 1m, per: Client}
---
apiVersion: ambit.dev/v1alpha1
kind: RateLimit
metadata: {name: wrong, namespace: shop}
spec: {requests: 0}
---
apiVersion: ambit.dev/v1alpha1
kind: FaultInjection
metadata: {name: fault, namespace: shop}
spec: {delay: {duration: 100ms, percent: 50}, abort: {status: 503, percent: 0.1}}
---
apiVersion: ambit.dev/v1alpha1
kind: ExternalAuthorizer
metadata: {name: opa, namespace: shop}
spec: {protocol: GRPC, backendRef: {name: web-v2, port: 80}}
";

#[test]
fn an_external_auth_filter_brings_its_authorizer() {
    let index = http(
        "  rules: [{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: web-v2, port: 80}}}]}]\n",
    );
    assert_eq!(
        names(&index),
        ["route/http/shop/r/0", "authorizer/shop/http:r:0:0"]
    );
    let rule = rule(&index, "route/http/shop/r/0");
    assert!(
        matches!(&rule.filters[0], Filter::ExternalAuth(key) if key.to_string() == "shop/http:r:0:0")
    );
}

#[test]
fn filters_at_a_backend() {
    for (filter, valid) in [
        (
            "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}",
            true,
        ),
        (
            "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}",
            true,
        ),
        ("{type: URLRewrite, urlRewrite: {hostname: a}}", true),
        (
            "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}",
            true,
        ),
        ("{type: RequestRedirect, requestRedirect: {}}", false),
        ("{type: CORS, cors: {}}", false),
        (
            "{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: limit}}",
            false,
        ),
    ] {
        let index = http(&format!(
            "  rules: [{{backendRefs: [{{name: web, port: 80, filters: [{filter}]}}]}}]\n{EXTENSIONS}"
        ));
        let rule = rule(&index, "route/http/shop/r/0");
        assert_eq!(
            rule.invalid.is_none(),
            valid,
            "{filter}: {:?}",
            rule.invalid
        );
        assert_eq!(
            rule.backends[0].filters.len(),
            usize::from(valid),
            "{filter}"
        );
    }
}

#[test]
fn timeouts_and_retries() {
    let millis = |found: Option<std::time::Duration>| found.map(|d| d.as_millis());
    let cases = [
        ("{}", None, None, true),
        (
            "{request: 10s, backendRequest: 250ms}",
            Some(10_000),
            Some(250),
            true,
        ),
        ("{request: 0s}", None, None, true),
        ("{request: 1.5s}", None, None, false),
        ("{backendRequest: soon}", None, None, false),
    ];
    for (timeouts, request, backend, valid) in cases {
        let index = http(&format!("  rules: [{{timeouts: {timeouts}}}]\n"));
        let rule = rule(&index, "route/http/shop/r/0");
        let found = (
            millis(rule.timeouts.request),
            millis(rule.timeouts.backend_request),
        );
        assert_eq!(found, (request, backend), "{timeouts}");
        assert_eq!(rule.invalid.is_none(), valid, "{timeouts}");
    }
    // Attempts, how many codes, the wait in milliseconds.
    type Retry = Option<(u32, usize, u128)>;
    let cases: [(&str, Retry); 6] = [
        ("{}", Some((2, 0, 25))),
        (
            "{attempts: 5, codes: [500, 503], backoff: 100ms}",
            Some((5, 2, 100)),
        ),
        ("{attempts: 0}", Some((0, 0, 25))),
        ("{attempts: 101}", None),
        ("{codes: [200]}", None),
        ("{backoff: fast}", None),
    ];
    for (retry, expected) in cases {
        let index = http(&format!("  rules: [{{retry: {retry}}}]\n"));
        let rule = rule(&index, "route/http/shop/r/0");
        let found = rule
            .retry
            .map(|r| (r.attempts, r.codes.len(), r.backoff.as_millis()));
        assert_eq!(found, expected, "{retry}");
        assert_eq!(rule.invalid.is_none(), expected.is_some(), "{retry}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let index = http("  hostnames: [a.b]\n  rules: [{sessionPersistence: {sessionName: x}}]\n");
    assert_eq!(notices(&index, "HTTPRoute shop/r").len(), 2);
}

#[test]
fn methods_of_grpc_are_paths() {
    let exact = |text: &str| Some(PathMatch::Exact(text.into()));
    let cases = [
        ("{service: a.B, method: C}", exact("/a.B/C")),
        ("{service: a.B}", Some(PathMatch::Prefix("/a.B".into()))),
        ("{}", None),
    ];
    let path = |method: &str| {
        let index = index(&format!(
            "{SERVICES}---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: g, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{{matches: [{{method: {method}}}]}}]}}\n"
        ));
        resource(&index, "route/grpc/shop/g/0").map(|found| match found {
            Resource::Route(rule) => rule.matches[0].path.clone(),
            other => panic!("{other:?}"),
        })
    };
    for (method, expected) in cases {
        assert_eq!(path(method), Some(expected), "{method}");
    }
    for (method, yes, no) in [
        ("{method: C}", "/x.Y/C", "/x/y/C"),
        (
            "{type: RegularExpression, service: 'a\\..*', method: 'G.*'}",
            "/a.B/Get",
            "/a.B/Put",
        ),
        (
            "{type: RegularExpression, method: 'G.*'}",
            "/a.B/Get",
            "/a.B/Put",
        ),
    ] {
        let Some(Some(PathMatch::Regex(regex))) = path(method) else {
            panic!("{method}");
        };
        assert!(regex.matches(yes) && !regex.matches(no), "{method}");
    }
    assert_eq!(
        path("{type: RegularExpression, service: 'a)|(b'}"),
        None,
        "dropped"
    );
}

#[test]
fn streams_go_by_server_name_and_weight() {
    let route = |kind: &str, rest: &str| {
        index(&format!(
            "{SERVICES}---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: {kind}\nmetadata: {{name: s, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web, port: 80}}], {rest} rules: [{{backendRefs: [{{name: web, port: 80, weight: 3}}, {{name: gone, port: 1}}]}}]}}\n"
        ))
    };
    let index = route("TCPRoute", "");
    let found = rule(&index, "route/tcp/shop/s/0");
    assert_eq!((found.backends.len(), found.backends[0].weight), (2, 3));
    assert!(matches!(
        found.backends[1].backend,
        BackendRef::Invalid { .. }
    ));
    let index = route("TLSRoute", "hostnames: [A.b, '*.c'],");
    let sni: Vec<_> = rule(&index, "route/tls/shop/s/0").sni;
    assert_eq!(sni, ["a.b".into(), "*.c".into()]);
    let index = route("TLSRoute", "hostnames: ['a/b'],");
    assert_eq!(names(&index), [""; 0]);
    assert_eq!(
        parent_conditions(&index, "TLSRoute shop/s")[0][0],
        "Accepted=False/UnsupportedValue"
    );
}

/// GEP-1294: of the kinds at a port one counts.
#[test]
fn kinds_of_routes_do_not_share_a_port() {
    let route = |kind: &str, port: Option<u16>| {
        let version = if matches!(kind, "TCPRoute" | "TLSRoute") {
            "v1alpha2"
        } else {
            "v1"
        };
        let port = port
            .map(|port| format!(", port: {port}"))
            .unwrap_or_default();
        format!(
            "---\napiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r, namespace: shop}}\n\
             spec: {{parentRefs: [{{group: '', kind: Service, name: web{port}}}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}\n"
        )
    };
    for (winner, at, loser, port, conflicted) in [
        ("GRPCRoute", None, "HTTPRoute", None, true),
        ("GRPCRoute", None, "HTTPRoute", Some(80), true),
        ("GRPCRoute", Some(80), "HTTPRoute", Some(80), true),
        ("GRPCRoute", Some(80), "HTTPRoute", Some(81), false),
        ("GRPCRoute", Some(80), "HTTPRoute", None, false),
        ("HTTPRoute", Some(80), "TLSRoute", Some(80), true),
        ("HTTPRoute", Some(80), "TCPRoute", Some(80), true),
        ("HTTPRoute", None, "TCPRoute", Some(80), false),
        ("TLSRoute", Some(80), "TCPRoute", Some(80), true),
        ("TLSRoute", Some(81), "TCPRoute", Some(80), false),
    ] {
        let index = index(&format!(
            "{SERVICES}{}{}",
            route(winner, at),
            route(loser, port)
        ));
        let name = format!("{winner} {at:?}, {loser} {port:?}");
        let wins = parent_conditions(&index, &format!("{winner} shop/r"));
        assert_eq!(wins, [GOOD], "{name}");
        let loses = parent_conditions(&index, &format!("{loser} shop/r"));
        let wanted = if conflicted {
            "Accepted=False/Conflicted"
        } else {
            GOOD[0]
        };
        assert_eq!(loses, [[wanted, GOOD[1]]], "{name}");
        let of = if loser == "HTTPRoute" {
            "http"
        } else {
            &loser[..3].to_lowercase()
        };
        let there = resource(&index, &format!("route/{of}/shop/r/0")).is_some();
        assert_eq!(there, !conflicted, "{name}");
    }
}
