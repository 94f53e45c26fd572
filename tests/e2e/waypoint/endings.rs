//! How connections end: a reset stays a reset, and one direction ends without the other, whatever carries them.

use std::time::Duration;

use ambit_lab::harness::eventually;

use super::scene::{CLIENT, OPAQUE, OTHER, manifests};
use super::told::lines;
use crate::fixtures::{addresses, cluster_ips, host};
use crate::flows::{flow, flow_that, start};
use crate::ways::Way;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn resets_and_half_closes_stay_what_they_are() {
    let lab = start(manifests() + OPAQUE, &[]);
    let direct = addresses(&lab, "elsewhere/other").map(|ip| format!("{}:8080", host(&ip)));
    let through = cluster_ips(&lab, "mesh/opaque").map(|ip| format!("{}:9000", host(&ip)));
    for (from, server, targets) in [
        // On the server's node, and from the other one.
        (CLIENT, "elsewhere/other", &direct),
        (OTHER, "elsewhere/other", &direct),
        (CLIENT, "mesh/v2", &through),
    ] {
        for to in targets {
            Way {
                lab: &lab,
                from,
                to: to.clone(),
                server,
            }
            .check();
        }
    }
    // Each went where it was meant to.
    let near = [("security", "node_local"), ("dst.workload", "other")];
    let _ = flow(&lab, "node-1", &near);
    let _ = flow_that(&lab, "node-1", "a tunnel", |flow| {
        flow.text("src.workload") == "other"
            && flow.text("dst.workload") == "other"
            && !flow.text("dst.hbone_addr").is_empty()
    });
    eventually("a line of each at the waypoint", PATIENCE, || {
        (lines(&lab, &["\"- - -\""]).len() >= 10).then_some(())
    });
}
