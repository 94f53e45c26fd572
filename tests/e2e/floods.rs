//! One pod of a node is flooded, or reads nothing, or comes and goes without end: its neighbours are served as before, and the proxy
//! keeps nothing of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Ending, Lab, eventually, eventually_ok};
use serde_json::Value;

use crate::faults::{errors, report};
use crate::fixtures::{addresses, ambient_shop, client, namespace, neighbour};
use crate::flows::{metric, open, start};
use crate::processes::{holds, process};

const PATIENCE: Duration = Duration::from_secs(40);
/// What the pod may have of each, and how many the flood opens at a time.
const MOST: u32 = 500;
const FLOOD: u32 = 800;
/// How much slower the slowest of a hundred answers may be than they were before, or are at the same time on the other
/// node, which has the same CPUs and no flood; and what is never too slow, in microseconds. Who waited behind the flooded pod would
/// wait for handshakes that take three seconds.
const FACTOR: f64 = 10.0;
const FAST_ENOUGH: f64 = 1_000_000.0;
/// What the proxy may have more of afterwards: descriptors, and memory in KiB.
const DESCRIPTORS: u64 = 20;
const MEMORY: u64 = 16 * 1024;
const NODES: [&str; 2] = ["node-1", "node-2"];

/// Who calls whom, and how: the neighbour from the other node and from its own, and a server on the other node.
const LOADS: [(&str, &str, &[&str]); 4] = [
    ("shop/client-1", "neighbour", KEPT),
    ("shop/client-1", "neighbour", NEW),
    ("shop/client-2", "neighbour", NEW),
    ("shop/client-1", "echo-1", NEW),
];
const KEPT: &[&str] = &["-c", "4", "--rate", "100"];
const NEW: &[&str] = &["-c", "4", "--rate", "40", "--new-connections"];

/// Serves all of them for so long.
fn served(lab: &Lab, duration: &str) -> Vec<Value> {
    thread::scope(|scope| {
        let running = LOADS.map(|(from, to, how)| {
            scope.spawn(move || {
                let url = format!("http://{to}/");
                let arguments = ["http", &url, "--json", "-d", duration];
                report(&lab.load(from, &[&arguments, how].concat()).success())
            })
        });
        running
            .map(|load| load.join().expect("a report"))
            .into_iter()
            .collect()
    })
}

fn p99(report: &Value) -> f64 {
    report["latency_us"]["p99"].as_f64().expect("a latency")
}

#[test]
fn a_flood_of_one_pod_is_felt_by_no_other() {
    let limits = [
        format!("--ztunnel-env=AMBIT_HBONE_CONNECTIONS_PER_POD={MOST}"),
        format!("--ztunnel-env=AMBIT_CONNECTIONS_PER_POD={MOST}"),
        "--ztunnel-env=AMBIT_HANDSHAKE_TIMEOUT=3s".to_owned(),
    ];
    let mut manifests = ambient_shop();
    manifests += &neighbour();
    manifests += &namespace("outside", "");
    manifests += &client("outside", "stranger", "node-1");
    let lab = start(manifests, &limits.each_ref().map(String::as_str));
    let victim = &addresses(&lab, "shop/echo-2")[0];
    let pid = process(&lab, "ztunnel/node-2");

    let calm = served(&lab, "4s");
    let before = holds(&lab, "node-2", &pid);
    // Handshakes that never begin, and connections in plain text that do nothing.
    let floods: [(u16, &[&str]); 2] = [
        (15008, &["--silent", "--for", "4s"]),
        (8080, &["--for", "3s", "--timeout", "2s"]),
    ];
    let done = AtomicBool::new(false);
    let (flooded, most, waves) = thread::scope(|scope| {
        let flooding = floods.map(|(port, how)| {
            let (lab, done) = (&lab, &done);
            scope.spawn(move || {
                let (to, count) = (format!("{victim}:{port}"), FLOOD.to_string());
                let most = ["-c", &count, "--max-errors", &count, "--json"];
                let arguments = [&["hold", &to], &most[..], how].concat();
                let mut waves = 0;
                while !done.load(Ordering::Relaxed) {
                    let _ = lab.load("outside/stranger", &arguments).success();
                    waves += 1;
                }
                waves
            })
        });
        let ending = Ending(&done);
        let limit = [("reason", "limit")];
        let met = "ambit_peer_handshakes_failed_total";
        eventually("the limit to be met", PATIENCE, || {
            (metric(&lab, "node-2", met, &limit) > 0.0).then_some(())
        });
        let most = holds(&lab, "node-2", &pid);
        let flooded = served(&lab, "12s");
        drop(ending);
        let waves = flooding.map(|flood| flood.join().expect("a flood"));
        (flooded, most, waves)
    });
    let counted = |name: &str, label| metric(&lab, "node-2", name, &[label]);
    for (name, label) in [
        ("ambit_peer_handshakes_failed_total", ("reason", "timeout")),
        (
            "ambit_pod_limits_reached_total",
            ("limit", "AMBIT_CONNECTIONS_PER_POD"),
        ),
    ] {
        assert!(counted(name, label) > 0.0, "{name} {label:?}");
    }
    let elsewhere = p99(flooded.last().expect("the other node"));
    for ((calm, flooded), load) in calm.iter().zip(&flooded).zip(LOADS) {
        assert_eq!(errors(calm), 0, "{load:?}: {calm}");
        assert_eq!(errors(flooded), 0, "{load:?}: {flooded}");
        let (usual, slow) = (p99(calm).max(elsewhere), p99(flooded));
        assert!(
            slow < (usual * FACTOR).max(FAST_ENOUGH),
            "{load:?}: {slow} us in the flood, {usual} us without"
        );
    }
    // The flooded pod is served again, by the same process, which gives back what it took.
    let answer = eventually("the flooded pod to be served", PATIENCE, || {
        let got = lab.load("shop/client-1", &["get", "--fail", "http://echo-2/"]);
        (got.code == 0).then_some(got.stdout)
    });
    assert!(answer.contains("echo-2"), "{answer}");
    let after = eventually_ok("what the flood took to be given back", PATIENCE, || {
        let after = holds(&lab, "node-2", &pid);
        let back = after[0] <= before[0] + DESCRIPTORS && after[1] <= before[1] + MEMORY;
        back.then_some(after)
            .ok_or_else(|| format!("{after:?} after {before:?}"))
    });
    assert_eq!(process(&lab, "ztunnel/node-2"), pid);
    let tails = |reports: &[Value]| reports.iter().map(p99).collect::<Vec<_>>();
    eprintln!(
        "p99 of the neighbour, and last of the other node: {:?} us before, {:?} us in {waves:?} waves of {FLOOD}; descriptors and KiB of the \
         proxy: {before:?} before, {most:?} at the limit, {after:?} after",
        tails(&calm),
        tails(&flooded)
    );
}

/// How many connections come and go; the figure of a release is 100,000.
const CHURN: &str = "AMBIT_TEST_CHURN";

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let count: u64 = std::env::var(CHURN).map_or(4_000, |it| it.parse().expect("a number"));
    let lab = start(ambient_shop(), &[]);
    let pids = NODES.map(|node| process(&lab, &format!("ztunnel/{node}")));
    let churn = |count: u64| {
        let count = count.to_string();
        let fixed = ["http", "http://echo-2/", "--json", "--new-connections"];
        let arguments = [&fixed[..], &["-c", "16", "-n", &count]].concat();
        let report = lab.load("shop/client-1", &arguments).json();
        assert_eq!(errors(&report), 0, "{report}");
    };
    // What is kept once is no growth.
    churn(count / 4);
    let held = || [0, 1].map(|at| holds(&lab, NODES[at], &pids[at]));
    let before = held();
    churn(count);
    let after = eventually_ok("what came to be gone", PATIENCE, || {
        let after = held();
        let back = after.iter().zip(&before).all(|(after, before)| {
            after[0] <= before[0] + DESCRIPTORS && after[1] <= before[1] + MEMORY
        });
        let open = NODES.map(|node| open(&lab, node, &[]));
        let all = back && open == [0.0; 2];
        all.then_some(after)
            .ok_or_else(|| format!("{after:?} after {before:?}, {open:?} open"))
    });
    assert_eq!(
        NODES.map(|node| process(&lab, &format!("ztunnel/{node}"))),
        pids
    );
    eprintln!(
        "descriptors and KiB of the proxies: {before:?} after {}, {after:?} after {count} connections more",
        count / 4
    );
}

const READERS: u64 = 100;
/// Of memory that one who does not read may cost a proxy, in KiB.
const EACH: u64 = 1024;

#[test]
fn who_does_not_read_costs_little_and_nobody_else() {
    let lab = start(ambient_shop() + &neighbour(), &[]);
    let pids = NODES.map(|node| process(&lab, &format!("ztunnel/{node}")));
    let resident = || [0, 1].map(|at| holds(&lab, NODES[at], &pids[at])[1]);
    let ask = |duration: &str| {
        let arguments = "http http://neighbour/ -c 4 --rate 100 --json -d";
        let arguments: Vec<_> = arguments.split(' ').chain([duration]).collect();
        report(&lab.load("shop/client-1", &arguments).success())
    };
    assert_eq!(errors(&ask("1s")), 0);
    let before = resident();
    let count = READERS.to_string();
    let slow = ["slow", "--json", "-c", &count, "--rate", "64", "-d", "10s"];
    let slow = [&slow[..], &["http://echo-2/?size=1Gi"]].concat();
    let (most, asked, slow) = thread::scope(|scope| {
        let lab = &lab;
        let reading = scope.spawn(move || report(&lab.load("shop/client-1", &slow).success()));
        let asking = scope.spawn(|| ask("6s"));
        let mut most = before;
        while !reading.is_finished() {
            let now = resident();
            most = [0, 1].map(|at| most[at].max(now[at]));
            thread::sleep(Duration::from_millis(100));
        }
        let joined = (asking.join(), reading.join());
        (
            most,
            joined.0.expect("a report"),
            joined.1.expect("a report"),
        )
    });
    assert_eq!(slow["requests"], READERS, "{slow}");
    assert_eq!(errors(&asked), 0, "a neighbour of the same node: {asked}");
    for (most, before) in most.iter().zip(before) {
        let grown = most - before;
        assert!(grown < READERS * EACH, "{before} KiB, and then {most}");
    }
    let after = eventually_ok("their memory to be given back", PATIENCE, || {
        let after = resident();
        let back = after
            .iter()
            .zip(before)
            .all(|(after, before)| *after <= before + MEMORY);
        back.then_some(after)
            .ok_or_else(|| format!("{after:?} after {before:?}"))
    });
    eprintln!(
        "KiB of the proxies: {before:?} before, {most:?} with {READERS} that do not read, {after:?} after"
    );
}
