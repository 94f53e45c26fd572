//! One HBONE connection with many streams, and what a second worker is worth to it.

use std::path::Path;

use ambit_lab::harness::{Lab, Options, program};
use anyhow::ensure;

use crate::Cli;
use crate::figures::{median, significant};
use crate::rows::number;
use crate::scene::{self, CLIENT, NODES, Way};

/// Streams of the connection, each of an HTTP/1.1 connection in a closed loop.
const STREAMS: usize = 100;
/// Enough that everything else takes a few percent of the CPU time.
const ROUTES: usize = 8_000;
const WAYPOINT: &str = "mesh/deploy/ambit-waypoint";

/// Requests a second with one worker and with several, in turns.
pub(crate) fn measure(cli: &Cli, waypoint: &Path) -> anyhow::Result<String> {
    let routes = if cli.smoke { 100 } else { ROUTES };
    let labs = [1, cli.workers].map(|workers| start(waypoint, workers, routes));
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..cli.rounds {
        for (lab, rates) in labs.iter().zip(&mut rates) {
            rates.push(rate(lab, cli)?);
        }
    }
    let [one, all] = rates.map(|it| median(&it).unwrap_or(f64::NAN));
    Ok(format!(
        "{STREAMS} streams of one HBONE connection, {routes} costly routes: {} requests/s with 1 worker, {} with {}: {}x",
        significant(one),
        significant(all),
        cli.workers,
        significant(all / one)
    ))
}

fn start(waypoint: &Path, workers: usize, routes: usize) -> Lab {
    let worker_threads = format!("WAYPOINT_WORKER_THREADS={workers}");
    Lab::start(&Options {
        mesh: true,
        manifests: scene::objects(&program("echo"), &[Way::Ambit], &[])
            + &scene::costly_routes(routes),
        arguments: vec![
            format!("--nodes={NODES}"),
            "--ztunnel-env=ZTUNNEL_WORKER_THREADS=1".to_owned(),
            "--ztunnel-env=AMBIT_POOL_SPREAD=1".to_owned(),
            format!("--ztunnel-env=POOL_MAX_STREAMS_PER_CONNECTION={STREAMS}"),
            format!(
                "--image=ambit/waypoint=env {worker_threads} {}",
                waypoint.display()
            ),
        ],
        ..Options::default()
    })
}

fn rate(lab: &Lab, cli: &Cli) -> anyhow::Result<f64> {
    let (url, streams) = (Way::Ambit.url("size=128"), STREAMS.to_string());
    let time = format!("{}ms", cli.time.as_millis());
    let words = ["http", &url, "--json", "-d", &time, "-c", &streams];
    let report = lab.load(CLIENT, &words).json();
    let connections = lab.hbone_peers(WAYPOINT).len();
    ensure!(
        connections == 1,
        "the waypoint has {connections} HBONE connections, not one"
    );
    Ok(number(&report, "/requests_per_second"))
}
