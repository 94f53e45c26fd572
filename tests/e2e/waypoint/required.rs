//! Bound means required: a service with a waypoint is reached through it or not at all; and who called
//! stays known behind it.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

use super::call::Call;
use super::scene::{CLIENT, CONSUMER, OTHER, STRANGER, lab};
use crate::fixtures::{addresses, host};
use crate::flows::{flow_that, identity};

const PATIENCE: Duration = Duration::from_secs(30);

fn spec(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: mesh}}\nspec: {{{spec}}}\n"
    )
}

fn reached(lab: &Lab, from: &'static str, url: &str) -> bool {
    let call = Call::get(from, url);
    matches!(call.try_answer(lab), Ok(answer) if answer.status == 200)
}

#[test]
fn nobody_gets_around_a_waypoint() {
    let lab = lab();
    let direct = |pod: &str| host(&addresses(&lab, pod)[0]) + ":8080/";
    assert!(reached(&lab, CLIENT, "v1.mesh/"));
    assert!(
        reached(&lab, CLIENT, &direct("mesh/v1")),
        "through the waypoint"
    );
    // From outside the mesh nobody can be sent through it.
    assert!(!reached(&lab, STRANGER, "v1.mesh/"));
    assert!(!reached(&lab, STRANGER, &direct("mesh/v1")));
    // What is not bound stays open.
    assert!(reached(&lab, STRANGER, "other.elsewhere/"));
    assert!(reached(&lab, CLIENT, "other.elsewhere/"));

    // Without its waypoint it is refused, and nobody falls back to the direct way.
    let gateway = super::scene::gateway("mesh", "waypoint", "");
    lab.delete(&gateway);
    eventually("the waypoint's end", PATIENCE, || {
        (!reached(&lab, CLIENT, "v1.mesh/")).then_some(())
    });
    assert!(!reached(&lab, CLIENT, &direct("mesh/v1")));
    assert!(
        !reached(&lab, CLIENT, &direct("mesh/v2")),
        "also on the node of the server"
    );
    let _ = flow_that(&lab, "node-1", "a line that says why", |flow| {
        flow.text("direction") == "outbound"
            && flow.text("src.workload") == "client"
            && flow.text("error").contains("waypoint")
    });
    lab.apply(&gateway);
    assert!(reached(&lab, CLIENT, "v1.mesh/"));
}

/// A waypoint that is there and not ready is as good as none; a service may say that its waypoint can be gone around.
#[test]
fn a_waypoint_without_instances_lets_nobody_through() {
    let lab = lab();
    assert!(reached(&lab, CLIENT, "v1.mesh/"));
    let mut deployment = lab.object("deployment", "mesh/waypoint");
    deployment["spec"]["replicas"] = 0.into();
    lab.apply(&deployment.to_string());
    assert!(!reached(&lab, CLIENT, "v1.mesh/"));
    assert!(!reached(&lab, CLIENT, "v2.mesh/"), "also on another node");

    let labelled = "namespace: mesh, labels: {ambit.dev/waypoint-bypass: allowed}}";
    let bypass =
        super::scene::service("mesh", "v3", "version: v3").replace("namespace: mesh}", labelled);
    lab.apply(&bypass);
    assert!(reached(&lab, CLIENT, "v3.mesh/"), "by itself");
    assert!(reached(&lab, STRANGER, "v3.mesh/"));
    assert!(!reached(&lab, CLIENT, "v1.mesh/"));
    deployment["spec"]["replicas"] = 1.into();
    lab.apply(&deployment.to_string());
    assert!(reached(&lab, CLIENT, "v1.mesh/"));
}

/// A policy of a service that no waypoint serves: node proxies stand in, and deny what they cannot judge.
#[test]
fn a_policy_without_its_waypoint_fails_closed() {
    let lab = lab();
    let allow = |rule: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: closed, namespace: elsewhere}}\n\
             spec: {{targetRefs: [{{kind: Service, group: \"\", name: other}}], rules: [{{{rule}}}]}}\n"
        )
    };
    let url = "other.elsewhere/";
    assert!(reached(&lab, CLIENT, url));
    let from = allow("from: [{source: {namespaces: [mesh]}}]");
    let said = lab.try_apply(&from).success();
    assert!(said.contains("is not bound to a waypoint"), "{said}");
    assert!(reached(&lab, CLIENT, url));
    assert!(!reached(&lab, CONSUMER, url));
    let only_get = allow("to: [{operation: {methods: [GET]}}]");
    let _ = lab.try_apply(&only_get).success();
    assert!(!reached(&lab, CLIENT, url));

    // Its waypoint comes, and judges it.
    let labelled = "namespace: elsewhere, labels: {istio.io/use-waypoint: w}}";
    let bound = super::scene::service("elsewhere", "other", "version: other");
    let bound = bound.replace("namespace: elsewhere}", labelled);
    let waypoint = super::scene::gateway("elsewhere", "w", "");
    // Of the other class that is ours to serve.
    let waypoint = waypoint.replace("ambit-waypoint", "istio-waypoint");
    lab.apply(&(waypoint + &bound));
    assert!(reached(&lab, CLIENT, url));
    assert!(reached(&lab, CONSUMER, url));
    let posted = Call::get(CLIENT, url).data("x").answer(&lab);
    assert_eq!(posted.status, 403, "{posted:?}");
}

#[test]
fn the_caller_is_known_behind_the_waypoint() {
    let lab = lab();
    let answer = Call::get(CLIENT, "v2.mesh/who")
        .header(
            "X-Forwarded-Client-Cert",
            "URI=spiffe://cluster.local/ns/mesh/sa/admin",
        )
        .header("X-Forwarded-For", "192.0.2.1")
        .header("X-Envoy-Original-Path", "/x")
        .header("X-Ambit-Caller", "spiffe://cluster.local/ns/mesh/sa/admin")
        .answer(&lab);
    let certificate = answer.sent("x-forwarded-client-cert").unwrap_or_default();
    assert!(
        certificate.contains(&format!("URI={}", identity("mesh", "client"))),
        "{certificate}"
    );
    assert!(!certificate.contains("sa/admin"), "{certificate}");
    let forwarded = answer.sent("x-forwarded-for").unwrap_or_default();
    assert!(addresses(&lab, CLIENT).contains(&forwarded), "{forwarded}");
    assert_eq!(answer.sent("x-envoy-original-path"), None);
    assert_eq!(answer.sent("x-ambit-caller"), None);
    assert!(answer.sent("x-request-id").is_some());

    // The destination's node proxy knows the caller as well, and judges it.
    let deny = "selector: {matchLabels: {version: v2}}, action: DENY, \
                rules: [{from: [{source: {principals: [cluster.local/ns/mesh/sa/client]}}]}]";
    lab.apply(&spec("l4", deny));
    assert!(!reached(&lab, CLIENT, "v2.mesh/"));
    assert!(reached(&lab, OTHER, "v2.mesh/"));
    lab.delete(&spec("l4", deny));
    let allow = "selector: {matchLabels: {version: v2}}, action: ALLOW, \
                 rules: [{from: [{source: {principals: [cluster.local/ns/mesh/sa/client]}}]}]";
    lab.apply(&spec("l4", allow));
    assert!(reached(&lab, CLIENT, "v2.mesh/"));
    assert!(!reached(&lab, OTHER, "v2.mesh/"));
    // As with Istio, the waypoint itself may be named.
    let waypoint = allow.replace("sa/client", "sa/waypoint");
    lab.apply(&spec("l4", &waypoint));
    assert!(reached(&lab, OTHER, "v2.mesh/"));
}
