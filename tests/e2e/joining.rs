//! A namespace joins the mesh while its pods run and are called, and leaves it again.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use crate::faults::errors;
use crate::fixtures::{AMBIENT, client, echo, namespace, service};
use crate::flows::{flows, start, tunnelled};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long the loads go on while something changes.
const LOAD: Duration = Duration::from_secs(25);
const MARK: &str = "ambient.istio.io/redirection";

/// `shop` has servers and a client on both nodes, and is not in the mesh yet. `mesh` is, `outside` never.
fn lab() -> Lab {
    let mut manifests = namespace("shop", "") + &namespace("mesh", AMBIENT);
    manifests += &namespace("outside", "");
    for number in [1, 2] {
        let (name, node) = (format!("echo-{number}"), format!("node-{number}"));
        manifests += &echo("shop", &name, &node);
        manifests += &service("shop", &name, &format!("name: {name}"));
    }
    manifests += &echo("mesh", "echo-m", "node-2");
    manifests += &service("mesh", "echo-m", "name: echo-m");
    manifests += &client("mesh", "client", "node-1");
    manifests += &client("shop", "inner", "node-1");
    manifests += &client("outside", "stranger", "node-1");
    start(manifests, &[])
}

/// One that calls all the while: from where, to where, and how.
type Load = (&'static str, &'static str, &'static [&'static str]);

const NEW: &[&str] = &["-c", "4", "--rate", "60", "--new-connections"];
const KEPT: &[&str] = &["-c", "2", "--rate", "40"];

/// Who opens connections: near and far, in the mesh and outside, and a pod of the namespace itself.
const OPENING: [Load; 5] = [
    ("mesh/client", "echo-2.shop", NEW),
    ("mesh/client", "echo-1.shop", NEW),
    ("outside/stranger", "echo-2.shop", NEW),
    ("shop/inner", "echo-m.mesh", NEW),
    ("shop/inner", "echo-2.shop", NEW),
];
/// Who keeps them.
const KEEPING: [Load; 3] = [
    ("mesh/client", "echo-2.shop", KEPT),
    ("outside/stranger", "echo-2.shop", KEPT),
    ("shop/inner", "echo-m.mesh", KEPT),
];

/// What loads say at the end, in whose middle `change` was made.
fn under_load(lab: &Lab, loads: &[Load], change: impl FnOnce()) -> Vec<Value> {
    thread::scope(|scope| {
        let began = Instant::now();
        let before = connections(lab);
        let running: Vec<_> = loads
            .iter()
            .map(|(from, to, how)| {
                let (url, duration) = (format!("http://{to}/"), format!("{}s", LOAD.as_secs()));
                scope.spawn(move || {
                    let more = ["--json", "--max-errors", "1000000", "-d", &duration];
                    let arguments: Vec<&str> = ["http", &url]
                        .into_iter()
                        .chain(how.iter().copied())
                        .chain(more)
                        .collect();
                    lab.load(from, &arguments).json()
                })
            })
            .collect();
        eventually("the loads to begin", PATIENCE, || {
            (connections(lab) > before + 20.0).then_some(())
        });
        change();
        assert!(began.elapsed() < LOAD, "the loads have ended meanwhile");
        let reports = running.into_iter().map(|thread| thread.join());
        reports.map(|report| report.expect("a report")).collect()
    })
}

/// The connections of `mesh/client` to the far server: in tunnels, and all of them.
fn in_tunnels(lab: &Lab) -> (f64, f64) {
    let labels = [
        ("reporter", "source"),
        ("source_workload", "client"),
        ("destination_workload", "echo-2"),
        ("connection_security_policy", "mutual_tls"),
    ];
    let url = "http://127.0.0.1:15020/metrics";
    let page = lab.load("node/node-1", &["get", "--fail", url]).success();
    let opened = |labels| metrics::sum(&page, "istio_tcp_connections_opened_total", labels);
    (opened(&labels), opened(&labels[..3]))
}

fn connections(lab: &Lab) -> f64 {
    in_tunnels(lab).1
}

/// What the pods of `shop` say of themselves.
fn marks(lab: &Lab) -> Vec<Value> {
    let pods = lab.objects("pod", "shop").into_iter();
    pods.map(|pod| pod["metadata"]["annotations"][MARK].clone())
        .collect()
}

#[test]
fn a_namespace_joins_and_leaves_under_load_without_a_failed_request() {
    let lab = lab();
    assert_eq!(marks(&lab), [(); 3].map(|()| Value::Null));
    let all: Vec<Load> = OPENING.into_iter().chain(KEEPING).collect();
    let mut joined = (0.0, 0.0);
    let reports = under_load(&lab, &all, || {
        lab.apply(&namespace("shop", AMBIENT));
        joined = in_tunnels(&lab);
        assert_eq!(marks(&lab), ["enabled"; 3]);
    });
    for (report, load) in reports.iter().zip(&all) {
        assert_eq!(errors(report), 0, "{load:?}: {report}");
        assert!(
            report["requests"].as_u64() > Some(100),
            "{load:?}: {report}"
        );
    }
    // From the moment that the label was in force, every new connection was in a tunnel.
    let now = in_tunnels(&lab);
    assert!(now.0 > joined.0 + 20.0, "{joined:?} {now:?}");
    assert_eq!(now.0 - joined.0, now.1 - joined.1, "{joined:?} {now:?}");
    tunnelled(
        &lab,
        "shop",
        [("inner", "node-1"), ("echo-2", "node-2")],
        8080,
    );

    let mut left = (0.0, 0.0);
    let reports = under_load(&lab, &all, || {
        lab.apply(&namespace("shop", ""));
        left = in_tunnels(&lab);
        assert_eq!(marks(&lab), [(); 3].map(|()| Value::Null));
    });
    for (report, load) in reports.iter().zip(&all) {
        // A kept connection ends with the proxies that carry it, and its client is told.
        let kept = if load.2 == KEPT { 2 } else { 0 };
        assert!(errors(report) <= kept, "{load:?}: {report}");
        assert!(
            report["requests"].as_u64() > Some(100),
            "{load:?}: {report}"
        );
    }
    let now = in_tunnels(&lab);
    assert_eq!(now.0, left.0, "no tunnel after the label had gone");
    assert!(now.1 > left.1 + 20.0, "{left:?} {now:?}");
    eprintln!(
        "joined: {joined:?} in tunnels and in all, left: {left:?}; errors of kept connections: {:?}",
        reports[OPENING.len()..]
            .iter()
            .map(errors)
            .collect::<Vec<_>>()
    );
}

/// What nobody watched while the agent or the control plane were away is as it should be afterwards.
#[test]
fn a_label_changes_while_the_agent_or_the_control_plane_is_away() {
    let lab = lab();
    for killed in ["agent/node-2", "control"] {
        for (labels, mark) in [(AMBIENT, Some("enabled")), ("", None)] {
            let _ = lab.run(["kill", killed]).success();
            lab.apply(&namespace("shop", labels));
            assert_eq!(marks(&lab), [mark; 3].map(Value::from), "{killed}");
            let answer = lab.get("mesh/client", "http://echo-2.shop/");
            assert_eq!(answer["hostname"], "echo-2", "{killed}");
        }
    }
    // An agent that starts again says what is so already to nobody.
    lab.apply(&namespace("shop", AMBIENT));
    let _ = lab.run(["restart", "agent/node-2"]).success();
    lab.apply(&namespace("shop", AMBIENT));
    assert_eq!(marks(&lab), ["enabled"; 3]);
    let log = lab.logs("agent/node-2");
    assert!(
        log.contains("pod taken over from an earlier agent"),
        "{log}"
    );
    let _ = lab.get("mesh/client", "http://echo-2.shop/");
    eventually("a tunnel to a pod that was taken over", PATIENCE, || {
        let inbound = flows(&lab, "node-2");
        let tunnel = |flow: &crate::flows::Flow| {
            flow.text("dst.workload") == "echo-2" && !flow.text("dst.hbone_addr").is_empty()
        };
        inbound.iter().any(tunnel).then_some(())
    });
}
