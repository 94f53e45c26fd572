//! A node proxy ends: what it carries lives to the end of the grace period, and a successor that is there already takes what is
//! new.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, Ran, eventually};

use crate::faults::errors;
use crate::fixtures::{addresses, ambient_shop, client, host, namespace};
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
            let _ = lab.run(["replace", &format!("ztunnel/{node}")]).success();
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

/// Where a node's proxy answers operators, scrapers and probes: from a pod, what every node's addresses lead to.
fn answers_where_it_is_known(lab: &Lab, node: &str, when: &str) {
    let inside = format!("node/{node}");
    let ask = ["ambit", "ztunnel", "services", "-o", "json"];
    let known = lab.exec(&inside, &ask).success();
    assert!(known.contains("echo-2"), "{when}: {known}");
    let addresses = addresses(lab, &format!("ambit-system/ztunnel-{node}"));
    let hosts = addresses.each_ref().map(|it| host(it));
    let ask = |from: &str, url: String| {
        let got = lab.load(from, &["get", "--fail", &url]);
        assert_eq!(got.code, 0, "{when}, {url} from {from}: {got}");
    };
    for own in ["127.0.0.1", "[::1]", &hosts[0], &hosts[1]] {
        ask(&inside, format!("http://{own}:15020/stats/prometheus"));
        ask(&inside, format!("http://{own}:15021/healthz/ready"));
    }
    for own in ["127.0.0.1", "[::1]"] {
        ask(&inside, format!("http://{own}:15000/config_dump"));
    }
    for own in &hosts {
        ask(
            "outside/probe",
            format!("http://{own}:15020/stats/prometheus"),
        );
        ask("outside/probe", format!("http://{own}:15021/healthz/ready"));
        let url = format!("http://{own}:15000/config_dump");
        let told = lab.load("outside/probe", &["get", "--fail", &url]);
        assert_ne!(told.code, 0, "{when}: operators alone are told, {told}");
    }
}

#[test]
fn a_successor_answers_where_the_earlier_one_did() {
    let manifests =
        ambient_shop() + &namespace("outside", "") + &client("outside", "probe", "node-1");
    let lab = start(manifests, &[]);
    answers_where_it_is_known(&lab, "node-2", "at first");
    // The second goes where the first was not, the third where the first was.
    for when in ["first", "second", "third"] {
        let before = process(&lab, "ztunnel/node-2");
        let _ = lab.run(["replace", "ztunnel/node-2"]).success();
        assert_ne!(process(&lab, "ztunnel/node-2"), before, "{when}");
        answers_where_it_is_known(&lab, "node-2", when);
    }
    let _ = lab.run(["restart", "ztunnel/node-2"]).success();
    answers_where_it_is_known(&lab, "node-2", "restarted");
    answers_where_it_is_known(&lab, "node-1", "another node");

    let can = "control and ztunnel/node-1, ztunnel/node-2 can be replaced";
    for (target, why) in [
        ("ztunnel/node-7", "no part of the mesh is called"),
        ("agent/node-1", "agent/node-1 cannot be replaced"),
    ] {
        let refused = lab.run(["replace", target]);
        assert_ne!(refused.code, 0, "{refused}");
        let said = &refused.stderr;
        assert!(said.contains(why) && said.contains(can), "{said}");
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
