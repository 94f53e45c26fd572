//! Waypoints and servers that are replaced or added while requests go on: none fails, and who is new takes part.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use super::call::Call;
use super::resilience::attempts;
use super::scene::{CLIENT, gateway, lab, manifests, service};
use super::told::line;
use crate::flows::start;

/// How long requests go on, and for how much of it things are replaced.
const LOAD: &str = "20s";
const ROLLING: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(20);

/// The lab of all tests with a waypoint that is told so.
fn told(variable: &str) -> Lab {
    let variables = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: told, namespace: mesh}}\n\
         data: {{{variable}}}\n"
    );
    start(manifests() + &waypoint() + &variables, &[])
}

/// The waypoint of the ConfigMap `told`.
fn waypoint() -> String {
    let parameters =
        "spec: {infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: told}}, ";
    gateway("mesh", "waypoint", "").replace("spec: {", parameters)
}

/// Requests of every kind over connections that last as long as they may.
pub(super) const KEPT: [&[&str]; 5] = [
    &["http", "-c", "4", "--rate", "40"],
    &["http", "-c", "2", "--rate", "20", "--body-size", "1Ki"],
    &["http", "-c", "4", "--rate", "40", "--h2"],
    &["grpc", "-c", "2", "--rate", "20"],
    &["grpc", "-c", "2", "--rate", "10", "--method", "bidi"],
];
/// And over a connection each.
pub(super) const NEW: &[&str] = &["http", "-c", "2", "--rate", "20", "--new-connections"];

/// The arguments of `load` for these requests to a service.
fn loads(service: &str, kinds: &[&[&str]]) -> Vec<Vec<String>> {
    let load = |kind: &&[&str]| {
        let port = if kind[0] == "grpc" { 7070 } else { 80 };
        let url = format!("http://{service}.mesh:{port}/");
        let more = ["--json", "-d", LOAD, &url];
        let all = kind.iter().chain(&more).map(|it| (*it).to_owned());
        all.collect()
    };
    kinds.iter().map(load).collect()
}

/// Makes requests of these kinds to a service while `meanwhile` happens. None may fail.
pub(super) fn under_load<T>(
    lab: &Lab,
    service: &str,
    kinds: &[&[&str]],
    meanwhile: impl FnOnce() -> T,
) -> T {
    let loads = loads(service, kinds);
    thread::scope(|scope| {
        let running = loads.iter().map(|load| {
            let arguments: Vec<&str> = load.iter().map(String::as_str).collect();
            scope.spawn(move || lab.load(CLIENT, &arguments))
        });
        let running: Vec<_> = running.collect();
        let result = meanwhile();
        for load in running {
            let ran = load.join().expect("a report");
            let report = serde_json::from_str::<Value>(&ran.stdout);
            let report = report.unwrap_or_else(|error| panic!("{error}: {ran}"));
            assert_eq!(report["errors"]["total"], 0, "{ran}");
            assert!(report["requests"].as_u64() > Some(100), "{ran}");
        }
        result
    })
}

/// Applies one version after the other, each when the one before is in force.
fn roll(lab: &Lab, version: impl Fn(u32) -> String) -> u32 {
    let began = Instant::now();
    let mut rolled = 0;
    while began.elapsed() < ROLLING {
        rolled += 1;
        lab.apply(&version(rolled));
    }
    rolled
}

/// The pods of the waypoint that are there to stay.
fn instances(lab: &Lab) -> Vec<String> {
    let label = "gateway.networking.k8s.io/gateway-name";
    let pods = lab.objects("pod", "mesh").into_iter().filter(|pod| {
        let metadata = &pod["metadata"];
        metadata["labels"][label] == "waypoint" && metadata["deletionTimestamp"].is_null()
    });
    let names = pods.map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned());
    names.collect()
}

/// The requests that an instance has answered.
fn answered(lab: &Lab, instance: &str) -> f64 {
    let url = "http://127.0.0.1:15020/stats/prometheus";
    let page = lab.load(&format!("mesh/{instance}"), &["get", "--fail", url]);
    metrics::sum(&page.success(), "istio_requests_total", &[])
}

/// The client has not left: that is another flag.
#[test]
fn what_a_drain_cuts_off_says_so() {
    let lab = told("CONNECTION_TERMINATION_DEADLINE: 1s");
    thread::scope(|scope| {
        let cut = scope.spawn(|| Call::get(CLIENT, "v1.mesh/cut?delay=1m").try_answer(&lab));
        eventually("the request at its server", PATIENCE, || {
            (attempts(&lab, "v1", "/cut") == 1).then_some(())
        });
        let restart = ["restart", "-n", "mesh", "waypoint/waypoint"];
        let _ = lab.run(restart).success();
        let answer = cut.join().expect("an outcome");
        assert!(answer.is_err(), "{answer:?}");
    });
    let told = line(&lab, &["GET /cut", "\" 0 LR "]);
    assert!(told.contains("\"the waypoint ends\""), "{told}");
}

#[test]
fn a_rollout_of_the_waypoint_fails_no_request() {
    // What has not ended by then is cut, while requests go on.
    let lab = told("CONNECTION_TERMINATION_DEADLINE: 4s");
    let before = instances(&lab);
    let version = |version: u32| {
        let infrastructure = format!("infrastructure: {{annotations: {{version: v{version}}}, ");
        waypoint().replace("infrastructure: {", &infrastructure)
    };
    let kinds = [&KEPT[..], &[NEW]].concat();
    let rolled = under_load(&lab, "echo", &kinds, || roll(&lab, version));
    let after = instances(&lab);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(before, after, "{rolled} rollouts");
}

#[test]
fn a_rollout_of_the_servers_fails_no_request() {
    let lab = lab();
    let web = |version: u32| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: mesh}}\n\
             spec:\n  replicas: 3\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 10\n      \
             containers:\n      - name: web\n        image: ambit/echo\n        \
             ports: [{{name: web, containerPort: 8080}}, {{name: raw, containerPort: 9090}}]\n        \
             env: [{{name: VERSION_LABEL, value: v{version}}}]\n        \
             lifecycle: {{preStop: {{exec: {{command: [sleep, \"4\"]}}}}}}\n        \
             readinessProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1}}\n"
        )
    };
    lab.apply(&(web(0) + &service("mesh", "web", "app: web")));
    let kinds = [&KEPT[..], &[NEW]].concat();
    let rolled = under_load(&lab, "web", &kinds, || roll(&lab, web));
    let answer = lab.get(CLIENT, "http://web.mesh/");
    assert_eq!(answer["version"], format!("v{rolled}"), "{answer}");
}

#[test]
fn a_waypoint_that_is_added_takes_part() {
    let lab = told("AMBIT_CONNECTION_AGE: 2s");
    under_load(&lab, "echo", &KEPT, || {
        let mut deployment = lab.object("deployment", "mesh/waypoint");
        deployment["spec"]["replicas"] = 2.into();
        lab.apply(&deployment.to_string());
        let instances = instances(&lab);
        assert_eq!(instances.len(), 2, "{instances:?}");
        eventually("requests at every instance", PATIENCE, || {
            let mut all = instances.iter().map(|it| answered(&lab, it));
            all.all(|answered| answered > 10.0).then_some(())
        });
    });
}
