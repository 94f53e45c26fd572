//! What slow clients make a waypoint hold.

use std::time::Duration;

use ambit_lab::harness::Lab;

use super::call::Call;
use super::scene::{CLIENT, lab};
use super::told::WAYPOINT;
use crate::processes::named;

const READERS: u64 = 100;
/// Of memory that a reader may cost.
const EACH: u64 = 1 << 20;

/// Resident memory of the waypoint in bytes.
fn resident(lab: &Lab) -> u64 {
    named(lab, WAYPOINT, "waypoint").resident
}

#[test]
fn a_hundred_slow_readers_cost_less_than_a_mebibyte_each() {
    let lab = lab();
    assert_eq!(Call::get(CLIENT, "v1.mesh/").answer(&lab).status, 200);
    let before = resident(&lab);
    let (readers, rate) = (READERS.to_string(), 16 << 10);
    let rate_of_each = rate.to_string();
    // So many that it does not count how long a busy machine takes to connect them all.
    let seconds = 20;
    let duration = format!("{seconds}s");
    let arguments = [
        "slow",
        "--json",
        "-c",
        &readers,
        "--rate",
        &rate_of_each,
        "-d",
        &duration,
        "http://v1.mesh/?size=1Gi",
    ];
    let (most, report) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| lab.load(CLIENT, &arguments).success());
        let mut most = before;
        while !reading.is_finished() {
            most = most.max(resident(&lab));
            std::thread::sleep(Duration::from_millis(100));
        }
        (most, reading.join().expect("readers"))
    });
    let report: serde_json::Value =
        serde_json::from_str(report.lines().last().unwrap_or_default()).expect("a report");
    assert_eq!(report["requests"], READERS, "{report}");
    let read = report["received_bytes"].as_u64().expect("a number");
    // All the time all of them have something to read.
    let wanted = READERS * rate * seconds;
    assert!(read > wanted * 7 / 10, "{read} of {wanted} bytes");
    let grown = most - before;
    assert!(grown < READERS * EACH, "{before} bytes, and then {most}");
}

/// A gibibyte each with `AMBIT_TEST_TRANSFER_BYTES=1073741824`.
#[test]
fn large_bodies_pass_in_both_directions_and_are_not_kept() {
    let size =
        std::env::var("AMBIT_TEST_TRANSFER_BYTES").unwrap_or_else(|_| (64 << 20).to_string());
    let bytes: u64 = size.parse().expect("a number of bytes");
    let lab = lab();
    assert_eq!(Call::get(CLIENT, "v1.mesh/").answer(&lab).status, 200);
    let before = resident(&lab);
    let fixed = ["http", "--json", "-n", "1", "--timeout", "120s"];
    let down = format!("http://v1.mesh/?size={bytes}");
    let report = lab.load(CLIENT, &[&fixed[..], &[&down]].concat()).json();
    assert_eq!(report["received_bytes"], bytes, "{report}");
    // A file with nothing in it.
    let up = format!(
        "file=$(mktemp) && truncate -s {bytes} $file && curl -sf --max-time 120 -T $file http://v1.mesh/up; rm $file"
    );
    let seen = lab.exec(CLIENT, &["bash", "-c", &up]).success();
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("what the server has seen");
    assert_eq!(seen["body"]["bytes"], bytes, "{seen}");
    let grown = resident(&lab).saturating_sub(before);
    assert!(grown < 32 << 20, "{before} bytes, and {grown} more");
}
