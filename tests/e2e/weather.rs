//! A network that is slow, loses packets, or is gone for a while.

use std::thread;
use std::time::Duration;

use ambit_lab::harness::Lab;
use serde_json::Value;

use crate::faults::whole_again_at_once;
use crate::fixtures::ambient_shop;
use crate::flows::start;

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
        "http", &url, "--json", "-d", "4s", "-c", "16", "--rate", "40",
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
    weather(&lab, &["--delay", "150ms", "--loss", "2%"]);
    let status = lab.run(["status"]).success();
    assert!(status.contains("node-2: 150ms late, 2 % lost"), "{status}");
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
    let crossing = Duration::from_millis(300);
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
        "p50 {before:?} in fair weather; 150 ms late and 2 % lost: {kept:?} on kept connections, {new:?} on new ones, \
         {beside:?} on the own node; {after:?} afterwards"
    );
}

#[test]
fn a_partition_is_over_as_soon_as_it_is_over() {
    let lab = lab();
    let get = |server: &str| {
        let url = format!("http://{server}/");
        let arguments = ["get", "--fail", "--timeout", "10s", &url];
        lab.load("shop/client-1", &arguments).code == 0
    };
    whole_again_at_once(
        &lab,
        || weather(&lab, &["--loss", "100"]),
        || weather(&lab, &[]),
    );
    // What the other side has to say is heard again, too.
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: deny, namespace: shop}\nspec: {action: DENY, rules: [{}]}\n";
    lab.apply(deny);
    assert!(
        !get("echo-2") && !get("echo-1"),
        "a policy that is in force is not enforced"
    );
}
