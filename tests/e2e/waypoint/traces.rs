//! Spans of requests, and the traces that servers learn of.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually, program};
use serde_json::{Value, json};

use super::call::Call;
use super::scene::{CLIENT, STRANGER, manifests, program_pod};
use crate::fixtures::text;
use crate::flows::{identity, start};

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The lab of all tests with a collector, which its waypoint is told of as any other of its variables: in the
/// ConfigMap that the Gateway's `infrastructure.parametersRef` names.
fn traced() -> Lab {
    let container = format!("command: [{}, collect]", program("peer").display());
    let parameters = "spec: {infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: tracing}}, gatewayClassName";
    let manifests = manifests().replace("spec: {gatewayClassName", parameters)
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: tracing, namespace: mesh}\ndata:\n  \
           OTEL_EXPORTER_OTLP_ENDPOINT: http://collector.outside.svc.cluster.local:4317\n  \
           OTEL_TRACES_SAMPLER_ARG: \"1\"\n  AMBIT_EXEMPLARS: \"true\"\n  GATEWAY_NAME: what the waypoint is told itself wins\n\
           ---\napiVersion: v1\nkind: Service\nmetadata: {name: collector, namespace: outside}\n\
           spec: {selector: {app: collector}, ports: [{name: otlp, port: 4317}, {name: http, port: 8080}]}\n\
           ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
           metadata: {name: closed, namespace: mesh}\nspec:\n  \
           targetRefs: [{kind: Service, group: \"\", name: v1}]\n  action: DENY\n  \
           rules: [{to: [{operation: {paths: [/closed]}}]}]\n"
        + &program_pod("outside", "collector", 4317, &container);
    start(manifests, &[])
}

#[test]
fn every_request_of_a_recorded_trace_has_one_span() {
    let lab = traced();
    let call = |path: &str, sampled: &str| {
        let parent = format!("00-{TRACE}-{CALLER}-{sampled}");
        Call::get(CLIENT, &format!("v1.mesh{path}")).header("traceparent", &parent)
    };
    let sent = |answer: &super::call::Answer| {
        let parent = answer.sent("traceparent").expect("a traceparent");
        let parts: Vec<String> = parent.split('-').map(ToOwned::to_owned).collect();
        <[String; 4]>::try_from(parts).expect("four parts")
    };
    let [version, trace, parent, flags] = sent(&call("/good?a=b", "01").answer(&lab));
    assert_eq!([&*version, &*trace, &*flags], ["00", TRACE, "01"]);
    assert_ne!(parent, CALLER, "the server's parent is the waypoint's span");
    let unrecorded = sent(&call("/unrecorded", "00").answer(&lab));
    assert_eq!([&*unrecorded[1], &*unrecorded[3]], [TRACE, "00"]);
    let own = sent(&Call::get(CLIENT, "v1.mesh/own").answer(&lab));
    assert_ne!(own[1], TRACE);
    assert_eq!(call("/closed", "01").answer(&lab).status, 403);
    assert_eq!(call("/broken?status=503", "01").answer(&lab).status, 503);

    let spans = eventually("four spans", PATIENCE, || {
        let url = "http://collector.outside:8080/";
        let spans = lab.get(STRANGER, url);
        let spans = spans.as_array().cloned().unwrap_or_default();
        (spans.len() >= 4).then_some(spans)
    });
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let of = |path: &str| {
        let found = spans.iter().find(|it| it["attributes"]["url.path"] == path);
        found.unwrap_or_else(|| panic!("no span of {path}: {spans:#?}"))
    };
    for (path, trace, caller, status, flags, error) in [
        ("/good", TRACE, CALLER, 200, "-", Value::Null),
        ("/own", &*own[1], "", 200, "-", Value::Null),
        ("/closed", TRACE, CALLER, 403, "RBAC", Value::Null),
        ("/broken", TRACE, CALLER, 503, "-", json!("status 503 -")),
    ] {
        let span = of(path);
        assert_eq!(span["kind"], 2, "SERVER: {span:#}");
        assert_eq!(span["name"], "GET", "{span:#}");
        assert_eq!(span["trace"], trace, "{span:#}");
        assert_eq!(span["parent"], caller, "{span:#}");
        assert_eq!(span["error"], error, "{span:#}");
        assert_eq!(
            span["resource"]["service.name"], "waypoint.mesh",
            "{span:#}"
        );
        let attributes = &span["attributes"];
        assert_eq!(attributes["http.response.status_code"], status, "{span:#}");
        assert_eq!(attributes["ambit.response_flags"], flags, "{span:#}");
        let caller = identity("mesh", "client");
        assert_eq!(attributes["ambit.source.identity"], caller, "{span:#}");
    }
    assert_eq!(of("/good")["span"], parent);
    assert_eq!(of("/good")["attributes"]["url.query"], "a=b");
    assert_eq!(of("/own")["span"], own[2]);
    exemplars(&lab, &own[1]);
}

/// Durations are shown with the traces that were recorded, to those who ask for OpenMetrics.
fn exemplars(lab: &Lab, own: &str) {
    let pods = lab.objects("pod", "mesh");
    let names = pods.iter().map(|pod| text(&pod["metadata"]["name"]));
    let mut waypoints = names.filter(|name| name.starts_with("waypoint"));
    let waypoint = format!("mesh/{}", waypoints.next().expect("a waypoint"));
    let page = |accept: &str| {
        let accept = format!("accept: {accept}");
        let url = "http://127.0.0.1:15020/stats/prometheus";
        lab.exec(&waypoint, &["curl", "-s", "-H", &accept, url])
            .success()
    };
    let open = page("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(open.ends_with("# EOF\n"), "{open}");
    let shown = |code: u16, traces: &[&str]| {
        let code = format!("response_code=\"{code}\"");
        let traces = traces.iter().map(|it| format!(" # {{trace_id=\"{it}\"}} "));
        let traces: Vec<_> = traces.collect();
        open.lines().any(|line| {
            line.starts_with("istio_request_duration_milliseconds_bucket{")
                && line.contains(&code)
                && traces.iter().any(|it| line.contains(it))
        })
    };
    // Which of two is the later one of a bucket depends on how long they took.
    assert!(shown(200, &[TRACE, own]), "{open}");
    assert!(shown(403, &[TRACE]), "{open}");
    assert!(shown(503, &[TRACE]), "{open}");
    let plain = page("text/plain");
    assert!(
        !plain.contains("trace_id") && !plain.contains("# EOF"),
        "{plain}"
    );
}
