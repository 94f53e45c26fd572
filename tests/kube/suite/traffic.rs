//! Requests that go on while something happens to the cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ambit_lab::harness::{Ending, Lab};

/// Who asks whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow<'a> {
    pub(crate) client: &'a str,
    pub(crate) url: &'a str,
}

/// Requests a second, of each kind.
const RATE: &str = "40";
/// A run is told how it went when it is over.
const RUN: &str = "1500ms";

/// Does `work` while all flows are under load, over connections that stay and over a new one for every request. No
/// request may fail.
///
/// # Panics
/// With the failures by flow and kind.
pub(crate) fn under_load<T>(
    lab: &Lab,
    what: &str,
    flows: &[Flow<'_>],
    work: impl FnOnce() -> T,
) -> T {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let (done, tallies) = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for flow in flows {
            for new_connections in [true, false] {
                let stop = &stop;
                let run = move || {
                    (
                        *flow,
                        new_connections,
                        load(lab, *flow, new_connections, stop),
                    )
                };
                running.push(scope.spawn(run));
            }
        }
        let ending = Ending(&stop);
        let done = work();
        drop(ending);
        let joined = running.into_iter().map(|thread| thread.join());
        (done, joined.collect::<Vec<_>>())
    });
    let mut failed = Vec::new();
    let mut requests = 0;
    for tally in tallies {
        let (flow, new_connections, tally) = tally.expect("a client that reports");
        assert!(tally.requests > 0, "{what}: {flow:?} was not asked");
        requests += tally.requests;
        if !tally.failures.is_empty() {
            failed.push(format!(
                "{flow:?}, new connections {new_connections}: {:?}",
                tally.failures
            ));
        }
    }
    eprintln!(
        "{what}: {requests} requests in {:.1?}, {} flows failed",
        began.elapsed(),
        failed.len()
    );
    assert!(failed.is_empty(), "{what}: {}", failed.join("\n"));
    done
}

#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    failures: BTreeMap<String, u64>,
}

fn load(lab: &Lab, flow: Flow<'_>, new_connections: bool, stop: &AtomicBool) -> Tally {
    let mut arguments = vec![
        "--json",
        "--max-errors",
        "1000000",
        "http",
        "-c",
        "4",
        "--rate",
        RATE,
        "-d",
        RUN,
        flow.url,
    ];
    if new_connections {
        arguments.push("--new-connections");
    }
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let report = lab.load(flow.client, &arguments).json();
        tally.requests += report["requests"].as_u64().unwrap_or_default();
        for (kind, count) in report["errors"]["kinds"].as_object().into_iter().flatten() {
            *tally.failures.entry(kind.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    tally
}
