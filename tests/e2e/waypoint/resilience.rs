//! Retries and timeouts: what a waypoint does when a server does not do well.

use std::time::{Duration, Instant};

use ambit_lab::harness::Lab;

use super::call::Call;
use super::scene::{CLIENT, http_route, lab};
use super::told::so_many_lines;

/// Of a body that is kept for another attempt, in bytes.
const DEFAULT_REPLAY: usize = 64 * 1024;

pub(super) fn attempts(lab: &Lab, server: &str, path: &str) -> u64 {
    let counts = lab.get(&format!("mesh/{server}"), "http://127.0.0.1:8080/requests");
    counts[path].as_u64().unwrap_or_default()
}

#[test]
fn failed_attempts_are_made_again_as_the_route_says() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /three}}]\n  retry: {codes: [500], attempts: 3, backoff: 10ms}\n  \
         backendRefs: [{name: v1, port: 8080}]\n\
         - matches: [{path: {type: PathPrefix, value: /}}]\n  backendRefs: [{name: v1, port: 8080}]";
    lab.apply(&http_route("retry", "echo", rules));
    for (path, query, status, tries) in [
        ("/three/good", "fail=2&status=500&key=a", 200, 3),
        ("/three/bad", "fail=9&status=500&key=b", 500, 4),
        ("/three/other", "fail=1&status=503&key=c", 503, 1),
        ("/plain/error", "fail=1&status=500&key=d", 500, 1),
        ("/three/none", "", 200, 1),
        // HTTPRouteRetryConnectionError.
        ("/three/reset", "fail=2&reset=request&key=f", 200, 3),
    ] {
        let answer = Call::get(CLIENT, &format!("{path}?{query}")).answer(&lab);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(attempts(&lab, "v1", path), tries, "{path}");
    }
    // A server that may have acted on it gets it once, unless the route says otherwise or a second time does no harm.
    let answer = Call::get(CLIENT, "/plain/reset?fail=1&reset=request&key=h").method("POST");
    assert_eq!(answer.answer(&lab).status, 503);
    assert_eq!(attempts(&lab, "v1", "/plain/reset"), 1);
    // What has begun to go to the client is not begun anew. A reset may overtake the head: then nothing has begun.
    let cut = Call::get(CLIENT, "/three/cut?fail=1&reset=body&size=4Mi").try_answer(&lab);
    let begun = cut.is_err();
    let tries = attempts(&lab, "v1", "/three/cut");
    assert_eq!(tries, if begun { 1 } else { 2 }, "{begun}");
    // The body is sent again, whole.
    let body = "x".repeat(5000);
    let answer = Call::get(CLIENT, "/three/body?fail=2&status=500&key=e")
        .data(&body)
        .answer(&lab);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received()["body"]["bytes"], 5000);
    assert_eq!(attempts(&lab, "v1", "/three/body"), 3);
    // One that is longer than what is kept is sent once.
    let answer = Call::get(CLIENT, "/three/long?fail=1&status=500&key=l")
        .data(&"x".repeat(DEFAULT_REPLAY + 1))
        .answer(&lab);
    assert_eq!(answer.status, 500);
    assert_eq!(attempts(&lab, "v1", "/three/long"), 1);
    // And one that is as long is sent again.
    let answer = Call::get(CLIENT, "/three/just?fail=1&status=500&key=j")
        .data(&"x".repeat(DEFAULT_REPLAY))
        .answer(&lab);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.received()["body"]["bytes"], DEFAULT_REPLAY);
    assert_eq!(attempts(&lab, "v1", "/three/just"), 2);
}

#[test]
fn time_is_limited_as_the_route_says() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /whole}}]\n  timeouts: {request: 2s}\n  backendRefs: [{name: v1, port: 8080}]\n\
         - matches: [{path: {type: PathPrefix, value: /each}}]\n  timeouts: {backendRequest: 2s}\n  backendRefs: [{name: v1, port: 8080}]\n\
         - matches: [{path: {type: PathPrefix, value: /zero}}]\n  timeouts: {request: 0s}\n  backendRefs: [{name: v1, port: 8080}]";
    lab.apply(&http_route("slow", "echo", rules));
    for (path, delay, status) in [
        ("/whole", "10ms", 200),
        ("/whole", "10s", 504),
        ("/each", "10s", 504),
        ("/zero", "1s", 200),
    ] {
        let start = Instant::now();
        let answer = Call::get(CLIENT, &format!("{path}?delay={delay}")).answer(&lab);
        assert_eq!(answer.status, status, "{path} {delay}: {answer:?}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(8), "{path} {delay}: {took:?}");
    }
}

/// HTTPRouteRetryWithTimeouts: an attempt that takes too long is a failed one, and all of them have the
/// time of the request.
#[test]
fn attempts_share_the_time_of_their_request() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /each}}]\n  timeouts: {request: 10s, backendRequest: 1s}\n  \
         retry: {attempts: 3, backoff: 10ms}\n  backendRefs: [{name: v1, port: 8080}]\n\
         - matches: [{path: {type: PathPrefix, value: /all}}]\n  timeouts: {request: 2500ms, backendRequest: 1s}\n  \
         retry: {attempts: 9, backoff: 10ms}\n  backendRefs: [{name: v1, port: 8080}]";
    lab.apply(&http_route("slow", "echo", rules));
    for (path, query, status, tries) in [
        ("/each/late", "fail=2&delay=20s&key=a", 200, 3..=3),
        ("/each/never", "fail=9&delay=20s&key=b", 504, 4..=4),
        ("/all/never", "fail=9&delay=20s&key=c", 504, 2..=3),
    ] {
        let start = Instant::now();
        let answer = Call::get(CLIENT, &format!("{path}?{query}")).answer(&lab);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{path}: {took:?}");
        let made = attempts(&lab, "v1", path);
        assert!(tries.contains(&made), "{path}: {made} attempts");
    }
}

/// A response that another attempt was due for does not pass once the service's budget is spent.
#[test]
fn retries_beyond_the_budget_are_503() {
    let lab = lab();
    let rules = "- retry: {codes: [500], attempts: 1, backoff: 1ms}\n  backendRefs: [{name: v1, port: 8080}]";
    let budget = "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
         metadata: {name: budget, namespace: mesh}\nspec:\n  \
         targetRefs: [{group: \"\", kind: Service, name: v1}]\n  \
         retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 1, interval: 1s}}\n";
    lab.apply(&(http_route("retry", "echo", rules) + budget));
    let load = [
        "http",
        "--json",
        "-n",
        "40",
        "-c",
        "4",
        "--max-errors",
        "40",
    ];
    let load = [&load[..], &["http://echo.mesh/spent?status=500"]].concat();
    let report = lab.load(CLIENT, &load).json();
    let count = |kind: &str| report["errors"]["kinds"][kind].as_u64().unwrap_or_default();
    let (passed, refused) = (count("status 500"), count("status 503"));
    assert_eq!(passed + refused, 40, "{report}");
    assert!(refused > 0, "{report}");
    assert_eq!(attempts(&lab, "v1", "/spent"), 40 + passed, "{report}");
    let told = so_many_lines(&lab, refused as usize, &["GET /spent", "\" 503 UO "]);
    assert!(told[0].contains("retry budget is spent"), "{told:#?}");
}

#[test]
fn another_attempt_is_made_at_another_endpoint() {
    let lab = lab();
    let rules = "- retry: {codes: [500], attempts: 1, backoff: 10ms}\n  backendRefs: [{name: echo, port: 8080}]";
    lab.apply(&http_route("retry", "echo", rules));
    for number in 0..8 {
        let path = format!("/twice/{number}");
        let answer = Call::get(CLIENT, &format!("{path}?fail=9&status=500")).answer(&lab);
        assert_eq!(answer.status, 500, "{answer:?}");
        let tries = ["v1", "v2"].map(|server| attempts(&lab, server, &path));
        assert_eq!(tries, [1, 1], "{path}");
    }
}

/// Without any route: an endpoint that cannot be reached costs no request.
#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let lab = lab();
    let dead = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: dead, namespace: mesh, labels: {app: echo, group: both}}\n\
         spec:\n  nodeName: node-1\n  terminationGracePeriodSeconds: 1\n  \
         containers: [{name: dead, command: [sleep, infinity], ports: [{name: web, containerPort: 8080}]}]\n";
    lab.apply(dead);
    let slices = lab.objects("endpointslice", "mesh");
    let endpoints = slices
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "echo")
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    assert_eq!(endpoints.count(), 2 * 3, "both families of three pods");
    let load = [
        "http",
        "--json",
        "-n",
        "300",
        "-c",
        "4",
        "http://echo.mesh/dead",
    ];
    let report = lab.load(CLIENT, &load).json();
    assert_eq!(report["errors"]["total"], 0, "{report}");
    assert_eq!(
        attempts(&lab, "v1", "/dead") + attempts(&lab, "v2", "/dead"),
        300
    );
}
