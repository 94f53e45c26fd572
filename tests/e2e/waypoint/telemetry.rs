//! What a waypoint counts and logs: every request once, with who, what and why.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};
use ambit_lab::metrics;

use super::call::Call;
use super::rows::get;
use super::scene::{CLIENT, OTHER, http_route, lab, service};
use crate::flows::identity;

const PATIENCE: Duration = Duration::from_secs(10);
const REQUESTS: &str = "istio_requests_total";

fn page(lab: &Lab) -> String {
    let url = "http://127.0.0.1:15020/stats/prometheus";
    lab.load("mesh/deploy/waypoint", &["get", "--fail", url])
        .success()
}

/// Waits until the requests with these labels are so many.
fn counted(lab: &Lab, labels: &[(&str, &str)], wanted: f64) {
    let labels = [&[("reporter", "waypoint")], labels].concat();
    eventually(&format!("{wanted} of {labels:?}"), PATIENCE, || {
        (metrics::sum(&page(lab), REQUESTS, &labels) == wanted).then_some(())
    });
}

fn log_line(lab: &Lab, fragments: &[&str]) -> String {
    eventually(&format!("a line with {fragments:?}"), PATIENCE, || {
        let log = lab.logs("mesh/deploy/waypoint");
        let mut fits = log
            .lines()
            .filter(|line| fragments.iter().all(|it| line.contains(it)));
        fits.next().map(str::to_owned)
    })
}

#[test]
fn every_request_is_counted_with_who_and_what() {
    let lab = lab();
    for from in [CLIENT, CLIENT, OTHER] {
        assert_eq!(Call::get(from, "v1.mesh/").answer(&lab).status, 200);
    }
    let report = lab
        .load(
            CLIENT,
            &["grpc", "--json", "-n", "5", "http://v1.mesh:7070"],
        )
        .json();
    assert_eq!(report["errors"]["total"], 0, "{report}");
    let caller = identity("mesh", "client");
    let server = identity("mesh", "v1");
    let whole = [
        ("source_workload", "client"),
        ("source_workload_namespace", "mesh"),
        ("source_principal", caller.as_str()),
        ("destination_principal", server.as_str()),
        ("destination_workload", "v1"),
        ("destination_workload_namespace", "mesh"),
        ("destination_service_name", "v1"),
        ("destination_service_namespace", "mesh"),
        ("destination_service", "v1.mesh.svc.cluster.local"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
    ];
    counted(&lab, &whole, 2.0);
    counted(
        &lab,
        &[("source_workload", "other"), ("response_code", "200")],
        1.0,
    );
    counted(
        &lab,
        &[("request_protocol", "grpc"), ("grpc_response_status", "0")],
        5.0,
    );
    let page = page(&lab);
    let labels = &whole[..1];
    for (name, wanted) in [
        ("istio_request_duration_milliseconds_count", 7.0),
        ("istio_request_bytes_count", 7.0),
        ("istio_response_bytes_count", 7.0),
    ] {
        assert_eq!(metrics::sum(&page, name, labels), wanted, "{name}");
    }
}

/// What the waypoint answers by itself: the status, the flag, and the reason in the log.
#[test]
fn every_refusal_says_why() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /missing}}]\n  backendRefs: [{name: gone, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /empty}}]\n  backendRefs: [{name: empty, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /slow}}]\n  timeouts: {request: 200ms}\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /limited}}]\n  backendRefs: [{name: v1, port: 80}]\n  \
           filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: one}}]\n\
         - matches: [{path: {type: PathPrefix, value: /faulty}}]\n  backendRefs: [{name: v1, port: 80}]\n  \
           filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: FaultInjection, name: tea}}]\n\
         - matches: [{path: {type: PathPrefix, value: /denied}}]\n  backendRefs: [{name: v1, port: 80}]";
    let extensions = "---\napiVersion: ambit.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: one, namespace: mesh}\n\
         spec: {requests: 1, interval: 1h}\n\
         ---\napiVersion: ambit.dev/v1alpha1\nkind: FaultInjection\nmetadata: {name: tea, namespace: mesh}\n\
         spec: {abort: {status: 418}}\n\
         ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: never, namespace: mesh}\n\
         spec: {targetRefs: [{kind: Service, group: \"\", name: echo}], action: DENY, rules: [{to: [{operation: {paths: [\"/denied\"]}}]}]}\n";
    let manifests =
        service("mesh", "empty", "app: nobody") + extensions + &http_route("r", "echo", rules);
    let _ = lab.try_apply(&manifests).success();
    assert_eq!(get("/limited").answer(&lab).status, 200);
    for (path, status, flag, reason) in [
        ("/nothing", 404, "NR", ""),
        ("/missing", 500, "NC", "Service mesh/gone"),
        ("/empty", 503, "UH", "empty"),
        ("/slow?delay=3s", 504, "UT", "time"),
        ("/limited", 429, "RL", "mesh/one"),
        ("/faulty", 418, "FI", "fault"),
        ("/denied", 403, "RBAC", "mesh/never"),
    ] {
        assert_eq!(get(path).answer(&lab).status, status, "{path}");
        let code = status.to_string();
        let line = log_line(&lab, &[&format!("\"GET {path} "), &format!(" {code} ")]);
        let flagged = format!(" {code} {flag} ");
        assert!(line.contains(&flagged), "{path}: {line}");
        counted(
            &lab,
            &[("response_code", &code), ("response_flags", flag)],
            1.0,
        );
        assert!(line.contains(reason), "{path}: {line}");
        assert!(line.contains(&identity("mesh", "client")), "{path}: {line}");
    }
}
