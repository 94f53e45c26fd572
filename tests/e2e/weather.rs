//! A network that is slow, loses packets, or is gone for a while.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};
use serde_json::Value;

use crate::faults::noticed_within;
use crate::fixtures::ambient_shop;
use crate::flows::start;

const PATIENCE: Duration = Duration::from_secs(30);

fn lab() -> Lab {
    start(ambient_shop(), &[])
}

fn weather(lab: &Lab, arguments: &[&str]) {
    let all = [&["network", "node/node-2"], arguments].concat();
    let _ = lab.run(all).success();
}

/// Load from node-1 on a server; what `load` says of it.
fn ask(lab: &Lab, server: &str, more: &[&str]) -> Value {
    let url = format!("http://{server}/");
    let arguments = [
        "http", &url, "--json", "-d", "4s", "-c", "4", "--rate", "40",
    ];
    lab.load("shop/client-1", &[&arguments, more].concat())
        .json()
}

fn median(report: &Value) -> Duration {
    let median = report["latency_us"]["p50"].as_f64();
    Duration::from_secs_f64(median.expect("a median") / 1e6)
}

#[test]
fn a_slow_and_lossy_network_costs_time_and_no_request() {
    let lab = lab();
    let fair = ask(&lab, "echo-2", &[]);
    assert_eq!(fair["errors"]["total"], 0, "{fair}");
    weather(&lab, &["--delay", "30ms", "--loss", "2%"]);
    let status = lab.run(["status"]).success();
    assert!(status.contains("node-2: 30ms late, 2 % lost"), "{status}");
    let (kept, new, beside) = thread::scope(|scope| {
        let kept = scope.spawn(|| ask(&lab, "echo-2", &[]));
        let new = scope.spawn(|| ask(&lab, "echo-2", &["--new-connections"]));
        let beside = scope.spawn(|| ask(&lab, "echo-1", &[]));
        (
            kept.join().expect("a report"),
            new.join().expect("a report"),
            beside.join().expect("a report"),
        )
    });
    for report in [&kept, &new, &beside] {
        assert_eq!(report["errors"]["total"], 0, "{report}");
        assert!(report["requests"].as_u64() > Some(40), "{report}");
    }
    // There and back: the weather is real, and one crossing is enough for a request.
    let [kept, new, beside, before] = [&kept, &new, &beside, &fair].map(median);
    let crossing = Duration::from_millis(60);
    for late in [kept, new] {
        assert!(late >= crossing, "{late:?}");
    }
    assert!(
        beside < crossing,
        "a neighbour's pods are as near as ever: {beside:?}"
    );
    weather(&lab, &[]);
    let after = ask(&lab, "echo-2", &[]);
    assert_eq!(after["errors"]["total"], 0, "{after}");
    let after = median(&after);
    assert!(after < crossing, "{after:?}");
    eprintln!(
        "p50 {before:?} in fair weather; 30 ms late and 2 % lost: {kept:?} on kept connections, {new:?} on new ones, \
         {beside:?} on the own node; {after:?} afterwards"
    );
}

#[test]
fn a_partition_is_over_as_soon_as_it_is_over() {
    let lab = lab();
    let get = |server: &str| {
        let url = format!("http://{server}/");
        let arguments = ["get", "--fail", "--timeout", "2s", &url];
        lab.load("shop/client-1", &arguments).code == 0
    };
    assert!(get("echo-2"));
    weather(&lab, &["--loss", "100"]);
    let cut = Instant::now();
    assert!(!get("echo-2"), "there is a way through the partition");
    assert!(get("echo-1"), "the node that is left goes on");
    let outage = Duration::from_secs(6);
    while cut.elapsed() < outage {
        assert!(!get("echo-2"), "there is a way through the partition");
    }
    weather(&lab, &[]);
    let healed = Instant::now();
    eventually("the server to be reached", PATIENCE, || {
        get("echo-2").then_some(())
    });
    let took = healed.elapsed();
    eprintln!("reached {took:?} after a partition of {outage:?}");
    let limit = noticed_within(outage);
    assert!(took < limit, "{took:?} after a partition of {outage:?}");
    // What the other side has to say is heard again, too.
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: deny, namespace: shop}\nspec: {action: DENY, rules: [{}]}\n";
    lab.apply(deny);
    assert!(
        !get("echo-2") && !get("echo-1"),
        "a policy that is in force is not enforced"
    );
}
