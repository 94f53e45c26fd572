//! The nodes' agents are killed and stay away for a while: what runs goes on, what starts waits, what ends is forgotten.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Ending, Lab, eventually};
use ambit_lab::metrics;
use serde_json::Value;

use crate::faults::{errors, report};
use crate::fixtures::{ambient_shop, client, echo, service};
use crate::flows::{metric, start, tunnelled};
use crate::processes::component;

const PATIENCE: Duration = Duration::from_secs(30);
const NODES: [&str; 2] = ["node-1", "node-2"];
/// So many ends in a row, and the lab waits for three seconds before it starts an agent again.
const ENDS: u64 = 5;

/// From where, to which server, and how: far and near, on connections that are kept and on new ones.
const LOADS: [(&str, &str, &[&str]); 4] = [
    ("client-1", "echo-2", KEPT),
    ("client-1", "echo-2", NEW),
    ("client-2", "echo-2", KEPT),
    ("client-2", "echo-2", NEW),
];
const KEPT: &[&str] = &["-c", "4", "--rate", "60"];
const NEW: &[&str] = &["-c", "4", "--rate", "60", "--new-connections"];
/// Longer than all of that takes on a machine with much to do.
const LOAD: &str = "40s";

/// Kills every agent that runs until `done`, as something would that the lab knows nothing of: it waits longer each
/// time before it starts one again.
fn keep_away(lab: &Lab, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for node in NODES {
            let agent = component(lab, &format!("agent/{node}"));
            if let Some(pid) = agent["pid"].as_u64() {
                // One that has ended meanwhile cannot be killed.
                let kill = format!("kill -9 {pid}");
                let _ = lab.exec(&format!("node/{node}"), &["sh", "-c", &kill]);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// How many pods the agent and the proxy of node-2 have.
fn known(lab: &Lab) -> Option<[f64; 2]> {
    let url = "http://127.0.0.1:15022/metrics";
    let page = lab.load("node/node-2", &["get", "--fail", url]);
    (page.code == 0).then(|| {
        let agent = metrics::sum(&page.stdout, "ambit_agent_pods", &[]);
        [agent, metric(lab, "node-2", "ambit_pods", &[])]
    })
}

/// The network namespaces of pods.
fn namespaces(lab: &Lab) -> BTreeSet<String> {
    let listed = lab.exec("node/node-2", &["ls", "/run/netns"]).success();
    let names = listed.lines().filter(|name| name.starts_with("cni-"));
    names.map(str::to_owned).collect()
}

#[test]
fn agents_that_are_away_are_missed_by_no_connection() {
    let leaver = client("shop", "leaver", "node-2");
    let lab = start(ambient_shop() + &leaver, &[]);
    let late = client("shop", "late", "node-2")
        + &echo("shop", "echo-late", "node-2")
        + &service("shop", "echo-late", "name: echo-late");
    let before = known(&lab).expect("an agent");
    assert_eq!(before, [3.0; 2], "the pods of node-2");
    let had = namespaces(&lab);

    let done = AtomicBool::new(false);
    let reports: Vec<Value> = thread::scope(|scope| {
        let (lab, done, late) = (&lab, &done, &late);
        let running = LOADS.map(|(from, to, how)| {
            scope.spawn(move || {
                let url = format!("http://{to}/");
                let arguments = [&["http", &url, "--json", "-d", LOAD], how].concat();
                report(&lab.load(&format!("shop/{from}"), &arguments).success())
            })
        });
        eventually("the loads to begin", PATIENCE, || {
            let opened = metric(lab, "node-2", "istio_tcp_connections_opened_total", &[]);
            (opened > 20.0).then_some(())
        });
        let ending = Ending(done);
        let killing = scope.spawn(move || keep_away(lab, done));
        eventually("the agents to be away", PATIENCE, || {
            let away = |node: &&str| {
                let agent = component(lab, &format!("agent/{node}"));
                agent["pid"].is_null() && agent["restarts"].as_u64() >= Some(ENDS)
            };
            NODES.iter().all(away).then_some(())
        });
        let applied = scope.spawn(move || lab.apply(late));
        for pod in ["late", "echo-late"] {
            eventually(&format!("{pod} to be put off"), PATIENCE, || {
                let mut found = lab.objects("pod", "shop").into_iter();
                let status = found.find(|it| it["metadata"]["name"] == pod)?["status"].clone();
                let message = status["message"].as_str()?;
                assert_eq!(status["reason"], "FailedCreatePodSandBox", "{status}");
                // CNI: try again later.
                message.contains("(CNI error 11)").then_some(())
            });
        }
        // The end of a pod waits for nobody.
        lab.delete(&leaver);
        drop(ending);
        killing.join().expect("an outage");
        assert!(
            running.iter().all(|load| !load.is_finished()),
            "the loads ended before the outage"
        );
        applied
            .join()
            .expect("pods that start when the agent is back");
        running
            .map(|load| load.join().expect("a report"))
            .into_iter()
            .collect()
    });
    for (report, load) in reports.iter().zip(LOADS) {
        assert_eq!(errors(report), 0, "{load:?}: {report}");
        assert!(
            report["requests"].as_u64() > Some(500),
            "{load:?}: {report}"
        );
    }

    // Who started meanwhile is in the mesh.
    for pod in ["shop/late", "shop/echo-late"] {
        let mark =
            &lab.object("pod", pod)["metadata"]["annotations"]["ambient.istio.io/redirection"];
        assert_eq!(mark, "enabled", "{pod}");
    }
    let answer = lab.get("shop/client-1", "http://echo-late/");
    assert_eq!(answer["hostname"], "echo-late");
    let way = [("client-1", "node-1"), ("echo-late", "node-2")];
    tunnelled(&lab, "shop", way, 8080);
    assert_eq!(lab.get("shop/late", "http://echo-1/")["hostname"], "echo-1");
    tunnelled(
        &lab,
        "shop",
        [("late", "node-2"), ("echo-1", "node-1")],
        8080,
    );
    // And who has gone has left nothing, nor have the attempts.
    let pods = |count: f64| {
        eventually(&format!("{count} pods on node-2"), PATIENCE, || {
            known(&lab).filter(|known| *known == [count; 2])
        })
    };
    let _ = pods(4.0);
    lab.delete(&late);
    let _ = pods(2.0);
    let left = namespaces(&lab);
    assert!(left.is_subset(&had), "{left:?} of {had:?}");
    assert_eq!(left.len() + 1, had.len(), "{left:?} of {had:?}");
    let ends = NODES.map(|node| component(&lab, &format!("agent/{node}"))["restarts"].clone());
    let requests: Vec<_> = reports.iter().map(|report| &report["requests"]).collect();
    eprintln!("agents ended {ends:?} times, {requests:?} requests, no errors");
}
