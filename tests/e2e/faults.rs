//! What goes wrong around a mesh that carries traffic: servers are replaced, a proxy runs out of descriptors,
//! a pod is cut off.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};
use serde_json::Value;

use crate::fixtures::{AMBIENT, addresses, ambient_shop, client, namespace, neighbour, service};
use crate::flows::{metric, open, start};
use crate::processes::{holds, process, ticks};

const PATIENCE: Duration = Duration::from_secs(20);

/// How long a network is not whole. Who waits twice as long after every attempt, from 200 ms on, has made one after 6.2 s and makes
/// the next one after 12.6 s.
const OUTAGE: Duration = Duration::from_secs(7);
/// How many requests at a time: so many that every worker of a proxy has to do with them.
const AT_ONCE: usize = 6;

const ROUNDS: usize = 3;
/// Connections of the neighbour of a pod for which a proxy has no descriptors.
const KEPT: f64 = 4.0;
/// What that may cost the proxy, in KiB.
const MEMORY: u64 = 16 * 1024;

/// How long a network may be whole again before a proxy has noticed that: in most rounds, as a process may have to wait that long for
/// a CPU of a machine that is busy with other tests.
fn noticed_within() -> Duration {
    let most = Duration::from_secs(3);
    // Linux before 6.15 cannot be told to try again every second: it waits as long as it has waited so far.
    match Path::new("/proc/sys/net/ipv4/tcp_rto_max_ms").exists() {
        true => most,
        false => OUTAGE + most,
    }
}

/// Asserts that the client does not reach `echo-2` after `cut`, and does at once after `heal`.
pub(crate) fn whole_again_at_once(lab: &Lab, cut: impl Fn(), heal: impl Fn()) {
    let get = |server: &str, within: &str| {
        let url = format!("http://{server}/");
        let arguments = ["get", "--fail", "--timeout", within, &url];
        lab.load("shop/client-1", &arguments).code == 0
    };
    let answered = |within: &'static str| {
        thread::scope(|scope| {
            let asked = [(); AT_ONCE].map(|()| scope.spawn(move || get("echo-2", within)));
            let answers = asked.into_iter().map(|it| it.join().expect("an answer"));
            answers.filter(|it| *it).count()
        })
    };
    let mut took = [(); ROUNDS].map(|()| {
        assert_eq!(answered("10s"), AT_ONCE);
        cut();
        let begun = Instant::now();
        assert_eq!(answered("1s"), 0, "answers came through the cut");
        assert!(get("echo-1", "10s"), "the rest of the mesh goes on");
        while begun.elapsed() + Duration::from_secs(2) < OUTAGE {
            assert_eq!(answered("1s"), 0, "answers came through the cut");
        }
        thread::sleep(OUTAGE.saturating_sub(begun.elapsed()));
        heal();
        let healed = Instant::now();
        eventually("the server to be reached", PATIENCE, || {
            (answered("2s") == AT_ONCE).then_some(())
        });
        healed.elapsed()
    });
    took.sort();
    eprintln!("reached {took:?} after {OUTAGE:?}");
    assert!(took[ROUNDS / 2] < noticed_within(), "{took:?}");
}

/// Runs `load` in a pod while `meanwhile` happens, and gives both results.
fn during<T>(
    lab: &Lab,
    pods: &[&str],
    arguments: &[&str],
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Value>, T) {
    thread::scope(|scope| {
        let running: Vec<_> = pods
            .iter()
            .map(|pod| {
                let target = format!("shop/{pod}");
                scope.spawn(move || report(&lab.load(&target, arguments).success()))
            })
            .collect();
        let result = meanwhile();
        let reports = running.into_iter().map(|it| it.join().expect("a report"));
        (reports.collect(), result)
    })
}

/// The last line of what `load` prints; the ones before tell how it goes.
pub(crate) fn report(printed: &str) -> Value {
    let last = printed.lines().last().expect("a report");
    serde_json::from_str(last).expect("JSON")
}

pub(crate) fn errors(report: &Value) -> u64 {
    report["errors"]["total"].as_u64().unwrap_or(u64::MAX)
}

/// Three servers, which take a second to go after they are no endpoints any more.
fn web(version: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  replicas: 3\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 5\n      \
         containers:\n      - name: web\n        image: ambit/echo\n        \
         ports: [{{name: web, containerPort: 8080}}]\n        \
         env: [{{name: VERSION_LABEL, value: {version}}}]\n        \
         lifecycle: {{preStop: {{exec: {{command: [sleep, \"1\"]}}}}}}\n        \
         readinessProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1}}\n"
    )
}

#[test]
fn a_rollout_of_the_destination_fails_no_request() {
    let mut manifests =
        namespace("shop", AMBIENT) + &web("v0") + &service("shop", "web", "app: web");
    for node in [1, 2] {
        manifests += &client("shop", &format!("client-{node}"), &format!("node-{node}"));
    }
    let lab = start(manifests, &[]);
    let arguments = [
        "http",
        "http://web/",
        "-c",
        "4",
        "--rate",
        "50",
        "--new-connections",
        "-d",
        "15s",
        "--json",
    ];
    let (reports, rolled) = during(&lab, &["client-1", "client-2"], &arguments, || {
        let began = Instant::now();
        let mut rolled = 0;
        while began.elapsed() < Duration::from_secs(8) {
            rolled += 1;
            lab.apply(&web(&format!("v{rolled}")));
        }
        rolled
    });
    for report in &reports {
        assert_eq!(errors(report), 0, "{rolled} rollouts: {report}");
        assert!(report["requests"].as_u64() > Some(500), "{report}");
    }
    let answer = lab.get("shop/client-1", "http://web/");
    assert_eq!(answer["version"], format!("v{rolled}"), "{answer}");
}

#[test]
fn a_proxy_out_of_descriptors_waits_and_recovers() {
    let lab = start(ambient_shop() + &neighbour(), &[]);
    let get = |url: &str| lab.load("shop/client-1", &["get", "--fail", url]);
    assert_eq!(get("http://echo-2/").code, 0);
    let pid = process(&lab, "ztunnel/node-2");
    let from = [
        ("reporter", "destination"),
        ("destination_workload", "neighbour"),
    ];
    let neighbours = || {
        let opened = "istio_tcp_connections_opened_total";
        metric(&lab, "node-2", opened, &from)
    };
    let bound = |limit: String| {
        let limit = format!("--nofile={limit}:");
        let argv = ["prlimit", "--pid", &pid, &limit];
        let _ = lab.exec("node/node-2", &argv).success();
    };
    let before = lab.exec(
        "node/node-2",
        &[
            "prlimit",
            "--pid",
            &pid,
            "--nofile",
            "-o",
            "SOFT",
            "--noheadings",
        ],
    );
    let before = before.success().trim().to_owned();
    // Each takes a descriptor towards the server: most of them have to wait.
    let hold = [
        "hold",
        "echo-2:80",
        "-c",
        "200",
        "--for",
        "4s",
        "--timeout",
        "3s",
        "--max-errors",
        "200",
        "--json",
    ];
    // Another pod of the node, with connections that were there before, as many as are asked for at a time.
    let kept = "http http://neighbour/ -c 4 --rate 50 -d 20s --json";
    let kept: Vec<_> = kept.split(' ').collect();
    let (held, reports, (spent, most), kept) = thread::scope(|scope| {
        let kept = scope.spawn(|| lab.load("shop/client-1", &kept).json());
        eventually("the neighbour's connections", PATIENCE, || {
            (neighbours() >= KEPT).then_some(())
        });
        let held = holds(&lab, "node-2", &pid);
        bound((held[0] + 20).to_string());
        let (reports, met) = during(&lab, &["client-1"], &hold, || {
            eventually("the limit to be met", PATIENCE, || {
                lab.logs("ztunnel/node-2")
                    .contains("Too many open files")
                    .then_some(())
            });
            let (began, from) = (Instant::now(), ticks(&lab, "node-2", &pid));
            thread::sleep(Duration::from_secs(2));
            let spent = (ticks(&lab, "node-2", &pid) - from) as f64 / 100.0;
            let spent = spent / began.elapsed().as_secs_f64();
            let most = holds(&lab, "node-2", &pid);
            assert!(!kept.is_finished(), "the neighbour's load was over before");
            (spent, most)
        });
        (held, reports, met, kept.join().expect("a report"))
    });
    assert_eq!(errors(&kept), 0, "the neighbour of the node: {kept}");
    let grown = most[1].saturating_sub(held[1]);
    assert!(grown < MEMORY, "{held:?} before, {most:?} at the limit");
    assert!(
        errors(&reports[0]) > 0,
        "the limit was never met: {}",
        reports[0]
    );
    assert!(
        spent < 0.5,
        "the proxy used {spent} CPUs while it had no descriptors"
    );
    let lines = lab
        .logs("ztunnel/node-2")
        .matches("Too many open files")
        .count();
    assert!(lines < 1000, "{lines} log lines");
    bound(before);
    eventually("the proxy to serve again", PATIENCE, || {
        (get("http://echo-2/").code == 0).then_some(())
    });
    assert_eq!(process(&lab, "ztunnel/node-2"), pid, "it was started again");
    eventually("the connections to end", PATIENCE, || {
        (open(&lab, "node-2", &[]) == 0.0).then_some(())
    });
}

#[test]
fn who_was_cut_off_is_reached_again_at_once() {
    let lab = start(ambient_shop(), &[]);
    // What node-2 sends to the client is lost, without a word to anybody.
    let hosts = addresses(&lab, "shop/client-1").map(|it| match it.contains(':') {
        true => format!("{it}/128"),
        false => format!("{it}/32"),
    });
    let route = |verb: &str| {
        for host in &hosts {
            let argv = ["ip", "route", verb, "blackhole", host];
            let _ = lab.exec("node/node-2", &argv).success();
        }
    };
    whole_again_at_once(&lab, || route("add"), || route("del"));
}
