//! What a rule sends to, and what happens when that cannot be.

use super::rows::{backend, get};
use super::scene::{CLIENT, http_route, lab, route};
use crate::fixtures::addresses;

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
    assert!(said.contains(": HTTPRoute mesh/odd: "), "{said}");
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

/// HTTPRouteInvalidReferenceGrant, HTTPRoutePartiallyInvalidViaInvalidReferenceGrant: a grant is for what it
/// says and no more, and the rules beside stay.
#[test]
fn a_grant_lets_in_what_it_says() {
    let lab = lab();
    let rules = format!(
        "- matches: [{{path: {{type: PathPrefix, value: /there}}}}]\n  backendRefs: [{{name: other, namespace: elsewhere, port: 80}}]\n\
         - matches: [{{path: {{type: PathPrefix, value: /here}}}}]\n  {}",
        backend("v1")
    );
    let _ = lab.try_apply(&http_route("far", "echo", &rules)).success();
    let good = (
        "gateway.networking.k8s.io",
        "HTTPRoute",
        "mesh",
        "Service",
        "other",
    );
    for (name, (group, kind, from, to, service), status) in [
        (
            "another group",
            ("example.com", good.1, good.2, good.3, good.4),
            500,
        ),
        (
            "another kind",
            (good.0, "GRPCRoute", good.2, good.3, good.4),
            500,
        ),
        (
            "another namespace",
            (good.0, good.1, "consumer", good.3, good.4),
            500,
        ),
        (
            "to another kind",
            (good.0, good.1, good.2, "Secret", good.4),
            500,
        ),
        (
            "to another service",
            (good.0, good.1, good.2, good.3, "v1"),
            500,
        ),
        ("all of it", good, 200),
    ] {
        let grant = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
             metadata: {{name: g, namespace: elsewhere}}\nspec:\n  \
             from: [{{group: {group}, kind: {kind}, namespace: {from}}}]\n  \
             to: [{{group: \"\", kind: {to}, name: {service}}}]\n"
        );
        lab.apply(&grant);
        let there = get("/there").answer(&lab);
        assert_eq!(there.status, status, "{name}: {there:?}");
        if status == 200 {
            assert_eq!(there.received()["namespace"], "elsewhere", "{name}");
        }
        assert_eq!(get("/here").answer(&lab).server(), "v1", "{name}");
        let granted = lab.object("httproute", "mesh/far")["status"]["parents"][0].clone();
        let resolved = if status == 200 { "True" } else { "False" };
        assert_eq!(
            granted["conditions"][1]["status"], resolved,
            "{name}: {granted}"
        );
        lab.delete(&grant);
    }
}

/// HTTPRouteServiceTypes: without an address, without a selector, without both.
#[test]
fn services_of_every_type_are_backends() {
    let lab = lab();
    let address = addresses(&lab, "mesh/v3")[0].clone();
    let service = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: mesh}}\n\
             spec: {{{spec}ports: [{{name: http, port: 8080, targetPort: 8080}}]}}\n"
        )
    };
    let slice = |name: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: mesh, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080, protocol: TCP}}]\n\
             endpoints: [{{addresses: [\"{address}\"], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: v3, namespace: mesh}}}}]\n"
        )
    };
    let rule = |name: &str| {
        let path = format!("path: {{type: PathPrefix, value: /{name}}}");
        format!("- matches: [{{{path}}}]\n  {}\n", backend(name))
    };
    let cases = [
        (
            "headless",
            "clusterIP: None, selector: {version: v2}, ",
            "v2",
        ),
        ("manual", "", "v3"),
        ("headless-manual", "clusterIP: None, ", "v3"),
    ];
    let services = cases.map(|(name, spec, _)| service(name, spec)).concat();
    let slices = slice("manual") + &slice("headless-manual");
    let rules = cases.map(|(name, ..)| rule(name)).concat();
    lab.apply(&(services + &slices + &http_route("types", "echo", rules.trim_end())));
    for (name, _, server) in cases {
        let answer = get(&format!("/{name}")).answer(&lab);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(answer.server(), server, "{name}");
    }
}

/// What gRPC callers learn of backends that are none: UNAVAILABLE, as their share has it.
#[test]
fn callers_of_grpc_learn_it_in_their_own_way() {
    let lab = lab();
    let rules = "- backendRefs: [{name: gone, port: 7070}]";
    let _ = lab
        .try_apply(&route(
            "GRPCRoute",
            "mesh",
            "odd",
            "name: echo, port: 7070",
            rules,
        ))
        .success();
    let ran = lab.load(
        CLIENT,
        &["grpc", "--json", "-n", "3", "http://echo.mesh:7070"],
    );
    assert!(ran.stdout.contains("grpc status 14"), "{ran}");
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("a report");
    assert_eq!(report["errors"]["total"], 3, "{report}");
}
