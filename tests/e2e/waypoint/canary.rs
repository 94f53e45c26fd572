//! A canary of a waypoint: its share of new connections, and that it is as much of a waypoint as the other.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use super::call::Call;
use super::rollouts::{KEPT, NEW, under_load};
use super::scene::{CLIENT, OTHER, gateway, http_route, lab, service};
use crate::fixtures::{addresses, host};

const PATIENCE: Duration = Duration::from_secs(30);
/// The waypoint and its canary.
const BOTH: [&str; 2] = ["mesh/deploy/waypoint", "mesh/deploy/second"];

/// The service `echo`, which has pods on both nodes, with `second` as its canary.
fn canary(weight: &str) -> String {
    let metadata = format!(
        "namespace: mesh, labels: {{istio.io/use-waypoint-canary: second}}, \
         annotations: {{istio.io/use-waypoint-canary-weight: \"{weight}\"}}}}"
    );
    service("mesh", "echo", "app: echo, group: both").replace("namespace: mesh}", &metadata)
}

/// A lab whose waypoint has a canary with this weight.
fn started(weight: &str) -> Lab {
    let lab = lab();
    lab.apply(&(gateway("mesh", "second", "") + &canary(weight)));
    lab
}

/// The requests that each of them has answered.
fn answered(lab: &Lab) -> [f64; 2] {
    BOTH.map(|waypoint| {
        let url = "http://127.0.0.1:15020/stats/prometheus";
        let page = lab.load(waypoint, &["get", "--fail", url]).success();
        metrics::sum(&page, "istio_requests_total", &[])
    })
}

/// How many of `count` requests over a connection each take the waypoint, and how many its canary. None fails.
fn shares(lab: &Lab, from: &'static str, count: u32) -> [u32; 2] {
    let before = answered(lab);
    let requests = count.to_string();
    let url = "http://echo.mesh/";
    let kind = ["http", "--new-connections", "-c", "4", "--json"];
    let load = [&kind[..], &["-n", &requests, url]].concat();
    let report: Value = serde_json::from_str(&lab.load(from, &load).success()).expect("JSON");
    assert_eq!(report["errors"]["total"], 0, "{report}");
    let after = answered(lab);
    let share = |at: usize| (after[at] - before[at]).round() as u32;
    let shares = [share(0), share(1)];
    assert_eq!(shares[0] + shares[1], count);
    shares
}

fn condition(lab: &Lab, name: &str) -> [String; 3] {
    let status = lab.object("service", "mesh/echo")["status"]["conditions"].take();
    let all = status.as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|it| it["type"] == name);
    let found = found.unwrap_or_default();
    ["status", "reason", "message"].map(|it| found[it].as_str().unwrap_or_default().to_owned())
}

#[test]
fn new_connections_are_shared_out_as_the_weight_says() {
    let lab = started("0");
    assert_eq!(shares(&lab, CLIENT, 100), [100, 0]);
    lab.apply(&canary("30"));
    for from in [CLIENT, OTHER] {
        // Three in ten, give or take seven times the deviation.
        let [_, second] = shares(&lab, from, 1_000);
        assert!((200..400).contains(&second), "{from}: {second}");
    }
    lab.apply(&canary("100"));
    for from in [CLIENT, OTHER] {
        assert_eq!(shares(&lab, from, 100), [0, 100], "{from}");
    }
    let [status, _, said] = condition(&lab, "istio.io/WaypointBound");
    let both = "bound to waypoint mesh/waypoint; canary mesh/second takes 100 % of new connections";
    assert_eq!([&*status, &*said], ["True", both]);

    // A pod that is called itself is behind the waypoint alone.
    let before = answered(&lab);
    let pod = host(&addresses(&lab, "mesh/v1")[0]) + ":8080/";
    assert_eq!(Call::get(CLIENT, &pod).answer(&lab).status, 200);
    let after = answered(&lab);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1.0, 0.0]);

    // What is no weight is nothing.
    let said = lab.try_apply(&canary("3o")).success();
    assert!(said.contains("is \"3o\", and not an integer"), "{said}");
    assert_eq!(shares(&lab, CLIENT, 100), [100, 0]);
    let [status, reason, _] = condition(&lab, "ambit.dev/WaypointCanaryBound");
    assert_eq!([&*status, &*reason], ["False", "InvalidWeight"]);
    lab.apply(&canary("100"));
    assert_eq!(shares(&lab, CLIENT, 100), [0, 100]);
}

/// The routes, the policies and the word on callers of the one are those of the other.
#[test]
fn a_canary_does_what_the_waypoint_does() {
    let lab = started("0");
    let rule = "- filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-route, value: echo}]}}]\n  \
                backendRefs: [{name: echo, port: 80}]";
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: l7, namespace: mesh}\nspec:\n  \
                  targetRefs: [{kind: Service, group: \"\", name: echo}]\n  action: DENY\n  \
                  rules: [{to: [{operation: {paths: [/denied]}}]}]\n";
    // Of the pods' node proxies, which know callers by the waypoint's word.
    let callers = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                   metadata: {name: l4, namespace: mesh}\nspec:\n  selector: {matchLabels: {group: both}}\n  \
                   rules: [{from: [{source: {principals: [cluster.local/ns/mesh/sa/client]}}]}]\n";
    lab.apply(&(http_route("echo", "echo", rule) + policy + callers));
    for weight in ["0", "100"] {
        lab.apply(&canary(weight));
        let before = answered(&lab);
        for _ in 0..6 {
            let answer = Call::get(CLIENT, "echo.mesh/").answer(&lab);
            assert_eq!(answer.status, 200, "{weight}: {answer:?}");
            assert_eq!(answer.sent("x-route").as_deref(), Some("echo"), "{weight}");
            let denied = Call::get(CLIENT, "echo.mesh/denied").answer(&lab);
            assert_eq!(denied.status, 403, "{weight}");
            let other = Call::get(OTHER, "echo.mesh/").try_answer(&lab);
            assert!(!matches!(&other, Ok(it) if it.status == 200), "{other:?}");
        }
        let after = answered(&lab);
        let taken = [after[0] > before[0], after[1] > before[1]];
        assert_eq!(taken, [weight == "0", weight == "100"]);
    }
}

#[test]
fn a_change_of_the_weight_fails_no_request() {
    let lab = started("0");
    let kinds = [&KEPT[..], &[NEW]].concat();
    under_load(&lab, "echo", &kinds, || {
        for weight in [30, 100, 70, 0, 50, 100] {
            lab.apply(&canary(&weight.to_string()));
            let before = answered(&lab);
            let all_that_share = format!("requests to all that share at {weight}");
            eventually(&all_that_share, PATIENCE, || {
                let now = answered(&lab);
                let takes_part = |at: usize| now[at] >= before[at] + 5.0;
                ((weight == 100 || takes_part(0)) && (weight == 0 || takes_part(1))).then_some(())
            });
        }
    });
}

/// A canary that cannot take its share leaves it to the waypoint.
#[test]
fn a_canary_that_is_away_costs_nobody_a_connection() {
    let lab = started("100");
    assert_eq!(shares(&lab, CLIENT, 50), [0, 50]);
    let reached = |case: &str| {
        for from in [CLIENT, OTHER] {
            for _ in 0..10 {
                let answer = Call::get(from, "echo.mesh/").answer(&lab);
                assert_eq!(answer.status, 200, "{case}");
            }
        }
    };
    let mut deployment = lab.object("deployment", "mesh/second");
    deployment["spec"]["replicas"] = 0.into();
    lab.apply(&deployment.to_string());
    reached("no instance");
    let [status, reason, _] = condition(&lab, "ambit.dev/WaypointCanaryBound");
    assert_eq!([&*status, &*reason], ["True", "WaypointAccepted"]);

    lab.delete(&gateway("mesh", "second", ""));
    eventually("a word on the missing canary", PATIENCE, || {
        reached("no Gateway");
        let [status, reason, _] = condition(&lab, "ambit.dev/WaypointCanaryBound");
        ([&*status, &*reason] == ["False", "WaypointMissing"]).then_some(())
    });
    reached("no Gateway");
    let [status, ..] = condition(&lab, "istio.io/WaypointBound");
    assert_eq!(status, "True");

    // Without the waypoint itself nothing is gone around.
    lab.delete(&gateway("mesh", "waypoint", ""));
    eventually("the waypoint's end", PATIENCE, || {
        let refused = Call::get(CLIENT, "echo.mesh/").try_answer(&lab);
        (!matches!(&refused, Ok(it) if it.status == 200)).then_some(())
    });
}
