//! Measures our waypoint beside an Envoy that does the same work, in one lab. See ../README.md.

#![forbid(unsafe_code)]

#[path = "../figures.rs"]
mod figures;
#[path = "../machine.rs"]
mod machine;
mod one;
mod peer;
#[path = "../process.rs"]
mod process;
mod rows;
mod scene;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_lab::harness::{Lab, Options, program};
use ambit_lab::programs::units::parse_duration;
use anyhow::Context as _;
use clap::Parser as _;

use machine::Machine;
use process::Processes;
use rows::{Bench, Variant};
use scene::Way;

/// Measures CPU, latency and memory of waypoints in the lab.
#[derive(Debug, clap::Parser)]
#[command(name = "bench-waypoint")]
struct Cli {
    /// An Envoy to measure beside our waypoint (`tests/envoy` installs one and says where).
    #[arg(long, value_name = "BIN")]
    envoy: Option<PathBuf>,
    /// Threads of each waypoint.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How often every row is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, value_parser = parse_duration, default_value = "5s")]
    time: Duration,
    /// Readers of the row of slow readers.
    #[arg(long, default_value_t = 100)]
    readers: u32,
    /// Connections of the row of held connections, up to 5,000 from one client; each needs three descriptors in its client and one in
    /// the node proxy there (`ulimit -n`).
    #[arg(long, default_value_t = 5_000)]
    connections: u32,
    /// Routes of the rows of many routes.
    #[arg(long, default_value_t = 10_000)]
    routes: usize,
    /// One short round of everything, to see that it runs; its numbers mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Write all samples to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let mut cli = Cli::parse();
    if cli.smoke {
        cli.rounds = 1;
        cli.time = Duration::from_millis(400);
        (cli.readers, cli.connections, cli.routes) = (10, 100, 200);
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    // Copies of their own: other labs may run the same programs.
    let copy = |of: &Path, name: &str| -> anyhow::Result<PathBuf> {
        let own = folder.path().join(name);
        std::fs::copy(of, &own).with_context(|| format!("cannot copy {}", of.display()))?;
        Ok(own)
    };
    let waypoint = copy(&program("waypoint"), "waypoint")?;
    let envoy = cli
        .envoy
        .as_deref()
        .map(|it| copy(it, "envoy"))
        .transpose()?;
    let mut ways = vec![Way::Direct, Way::Ambit];
    ways.extend(envoy.as_ref().map(|_| Way::Envoy));
    let machine = Machine::observe(Duration::from_secs(1));
    let clients = cli.connections.div_ceil(rows::HELD_BY_ONE).max(1) as usize;
    let more_clients = scene::more_clients(clients - 1);
    let lab = Lab::start(&Options {
        mesh: true,
        manifests: scene::objects(&program("echo"), &ways, &more_clients),
        arguments: vec![
            format!("--nodes={}", scene::NODES + more_clients.len()),
            format!(
                "--image=ambit/waypoint=env WAYPOINT_WORKER_THREADS={} {}",
                cli.workers,
                waypoint.display()
            ),
        ],
        ..Options::default()
    });
    if let Some(envoy) = &envoy {
        start_envoy(&lab, envoy, folder.path(), cli.workers)?;
    }
    let variants = ways.into_iter().map(|way| Variant {
        way,
        process: match way {
            Way::Direct => None,
            Way::Ambit => Some(Processes::of(waypoint.clone())),
            Way::Envoy => envoy.clone().map(Processes::of),
        },
    });
    let bench = Bench {
        lab: &lab,
        more_clients,
        variants: variants.collect(),
        time: cli.time,
    };
    let table = bench.run(&cli)?;
    drop(lab);
    let one = one::measure(&cli, &waypoint)?;
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_string_pretty(&table)?)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}\n{}\n{one}",
        about(&machine, &cli),
        table.markdown("ambit")
    )?;
    Ok(())
}

fn about(machine: &Machine, cli: &Cli) -> String {
    let mut text = format!(
        "{} CPUs ({}), Linux {}, {:.0} % idle before; {} workers, medians of {} rounds of {:?}; {} slow readers, \
         {} held connections, {} routes\n",
        machine.cpus,
        machine.model,
        machine.kernel,
        machine.idle * 100.0,
        cli.workers,
        cli.rounds,
        cli.time,
        cli.readers,
        cli.connections,
        cli.routes,
    );
    if cli.smoke {
        text += "a smoke run: the numbers mean nothing\n";
    }
    text
}

/// Its configuration names the server's pod, so it starts last.
fn start_envoy(lab: &Lab, envoy: &Path, folder: &Path, workers: usize) -> anyhow::Result<()> {
    let server = lab.object("pod", "mesh/server-envoy");
    let server = server["status"]["podIP"].as_str();
    let certificate = "/tmp/certificate";
    let config = peer::Peer {
        certificate,
        server: server.context("the server has no address")?,
        identity: "spiffe://cluster.local/ns/mesh/sa/server-envoy",
        port: 8080,
    };
    let file = folder.join("envoy.json");
    std::fs::write(&file, config.config().to_string())?;
    let command = format!(
        "mkdir -p {certificate}; {} issue {certificate} --identity spiffe://cluster.local/ns/mesh/sa/envoy-waypoint; \
         exec {} -c {} --disable-hot-restart --concurrency {workers} --log-level warning",
        program("peer").display(),
        envoy.display(),
        file.display(),
    );
    lab.apply(&scene::envoy(&command));
    Ok(())
}
