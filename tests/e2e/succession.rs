//! A node proxy ends: what it carries lives to the end of the grace period, and a successor that is there already takes what is
//! new.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, Ran, eventually};

use crate::faults::errors;
use crate::fixtures::ambient_shop;
use crate::flows::{open, start};
use crate::processes::process;

const PATIENCE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(8);

fn lab() -> Lab {
    let grace = format!(
        "--ztunnel-env=CONNECTION_TERMINATION_DEADLINE={}s",
        GRACE.as_secs()
    );
    start(ambient_shop(), &[&grace])
}

/// Waits for so many connections to `echo-2`.
fn stay(lab: &Lab, node: &str, many: f64) {
    eventually("connections that stay", PATIENCE, || {
        (open(lab, node, &[("destination_workload", "echo-2")]) >= many).then_some(())
    });
}

/// Runs `load` from node-1 with these words.
fn load(lab: &Lab, words: &str) -> Ran {
    let words: Vec<_> = words.split(' ').collect();
    lab.load("shop/client-1", &words)
}

#[test]
fn new_connections_find_the_successor_and_old_ones_have_their_grace_period() {
    let lab = lab();
    // The one talks for almost as long as it may. The other waits for its server to end it, which will not.
    let talk = "websocket http://echo-2/ --json --rate 20 -d 7s";
    let wait = "tcp echo-2:80 --send hello --keep-open --timeout 60s";
    let ask = "http http://echo-2/ --json --new-connections --rate 40 -c 4 -d 16s";
    for node in ["node-2", "node-1"] {
        let lab = &lab;
        let (talked, (waited, ended), asked, began) = thread::scope(|scope| {
            let waiting = scope.spawn(move || (load(lab, wait), Instant::now()));
            let talking = scope.spawn(move || load(lab, talk).json());
            stay(lab, node, 2.0);
            let asking = scope.spawn(move || load(lab, ask).json());
            let began = Instant::now();
            let replace = ["replace", &format!("ztunnel/{node}"), "--env"];
            let _ = lab
                .run([&replace[..], &["LOG_FORMAT=json"]].concat())
                .success();
            assert!(!asking.is_finished(), "the load was over before the change");
            let talked = talking.join().expect("a talk");
            let waited = waiting.join().expect("an end");
            (talked, waited, asking.join().expect("a load"), began)
        });
        for (of, report, least) in [("new", &asked, 300), ("kept", &talked, 70)] {
            assert_eq!(errors(report), 0, "{node}, {of}: {report}");
            let requests = report["requests"].as_u64();
            assert!(requests > Some(least), "{node}, {of}: {report}");
        }
        let lived = ended - began;
        assert_ne!(waited.code, 0, "{node}: {waited}");
        let said = &waited.stderr;
        assert!(
            !said.contains("sent nothing for"),
            "{node}: it outlived its proxy"
        );
        assert!(lived >= GRACE, "{node}: {lived:?}, {said}");
        eprintln!("{node}: the kept connection lived {lived:?} more, grace period {GRACE:?}");
    }
}

#[test]
fn a_proxy_that_is_told_to_end_drains_and_is_started_again() {
    let lab = lab();
    let pid = process(&lab, "ztunnel/node-2");
    let talked = thread::scope(|scope| {
        let talk = "websocket http://echo-2/ --json --rate 20 -d 5s";
        let talking = scope.spawn(|| load(&lab, talk).json());
        stay(&lab, "node-2", 1.0);
        let url = "http://127.0.0.1:15000/quitquitquit";
        let ask = |method| lab.load("node/node-2", &["get", "-i", "-X", method, url]);
        let refused = ask("GET").success();
        assert!(refused.contains("405"), "{refused}");
        let told = ask("POST").success();
        assert!(
            told.contains("200") && told.ends_with("draining\n"),
            "{told}"
        );
        talking.join().expect("a talk")
    });
    assert_eq!(errors(&talked), 0, "{talked}");
    eventually("the next proxy", PATIENCE, || {
        (process(&lab, "ztunnel/node-2") != pid).then_some(())
    });
    eventually("an answer through the next proxy", PATIENCE, || {
        let got = lab.load("shop/client-1", &["get", "--fail", "http://echo-2/"]);
        (got.code == 0).then_some(())
    });
}
