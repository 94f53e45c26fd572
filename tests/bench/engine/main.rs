//! Measures the L7 engine of the waypoint alone, plain connections in and out, beside nginx and haproxy. See ../README.md.

#![forbid(unsafe_code)]

#[path = "../figures.rs"]
#[allow(dead_code, reason = "the other benchmarks use all of it")]
mod figures;
#[path = "../machine.rs"]
mod machine;
#[path = "../process.rs"]
#[allow(dead_code, reason = "memory is not looked at here")]
mod process;
mod proxies;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ambit_lab::harness::program;
use ambit_lab::programs::units::parse_duration;
use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_waypoint::{config, plain};
use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use machine::Machine;
use process::Processes;
use proxies::Proxy;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures requests for each second of CPU time: our engine, nginx and haproxy, where they are installed.
#[derive(Debug, Parser)]
#[command(name = "bench-engine")]
struct Cli {
    #[command(subcommand)]
    command: Option<Engine>,
    /// How often every row is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    time: Duration,
    /// One short round, to see that it runs; its numbers mean nothing.
    #[arg(long)]
    smoke: bool,
}

#[derive(Debug, Subcommand)]
enum Engine {
    /// Be the engine.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    listen: SocketAddr,
    backend: SocketAddr,
    #[arg(long)]
    h2c: bool,
}

fn main() -> anyhow::Result<()> {
    let mut cli = Cli::parse();
    if let Some(Engine::Serve(options)) = &cli.command {
        return serve(options);
    }
    if cli.smoke {
        (cli.rounds, cli.time) = (1, Duration::from_millis(300));
    }
    bench(&cli)
}

/// The engine with one worker, as the others have it.
fn serve(options: &Serve) -> anyhow::Result<()> {
    let variables = [
        ("POD_NAME", "engine"),
        ("POD_NAMESPACE", "bench"),
        ("SERVICE_ACCOUNT", "engine"),
        ("WAYPOINT_WORKER_THREADS", "1"),
        ("RUST_LOG", "error"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = config::Config::from_env(BTreeMap::from(variables));
    let config = config.map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let logging = Logging::install(config.log.format, "error")?;
    let metrics = Metrics::install();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let running = plain::run(
        config,
        &logging,
        &metrics,
        options.listen,
        options.backend,
        options.h2c,
    );
    runtime.block_on(running)
}

/// A process that ends with this one.
struct Running {
    child: Child,
    processes: Processes,
    at: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx and haproxy take their workers with them.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// The samples of each proxy: requests a second, and microseconds of CPU for each.
type Row = BTreeMap<&'static str, Vec<[f64; 2]>>;

fn bench(cli: &Cli) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let machine = Machine::observe(Duration::from_secs(1));
    let mut rows: Vec<(&str, Row)> = Vec::new();
    let mut absent = Vec::new();
    for h2c in [false, true] {
        // nginx speaks HTTP/1.1 to servers, whatever clients speak.
        let [plain, same] =
            [false, h2c].map(|h2c| start(Proxy::Backend { h2c }, folder.path(), None, h2c));
        let (plain, same) = (plain?, same?);
        let mut running = Vec::new();
        for proxy in [Proxy::Ambit, Proxy::Nginx, Proxy::Haproxy] {
            let backend = if proxy == Proxy::Nginx { &plain } else { &same };
            match start(proxy, folder.path(), Some(backend.at), h2c) {
                Ok(started) => running.push((proxy.name(), started)),
                Err(error) if proxy == Proxy::Ambit => return Err(error),
                Err(error) => absent.push(format!("{}: {error:#}", proxy.name())),
            }
        }
        let mut row = Row::new();
        for round in 0..=cli.rounds {
            for (name, proxy) in &running {
                let sample = measure(proxy, h2c, cli.time)?;
                // The first warms up.
                if round > 0 {
                    eprintln!(
                        "bench-engine: {name}: {:.0}/s, {:.1} us/request",
                        sample[0], sample[1]
                    );
                    row.entry(*name).or_default().push(sample);
                }
            }
        }
        let protocol = if h2c { "h2c" } else { "HTTP/1.1" };
        rows.push((protocol, row));
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} CPUs ({}), Linux {}, {:.0} % idle before; one worker each, 64 requests under way, answers of 128 bytes, medians of {} \
         rounds of {:?}",
        machine.cpus,
        machine.model,
        machine.kernel,
        machine.idle * 100.0,
        cli.rounds,
        cli.time
    )?;
    writeln!(
        out,
        "\n| protocol | proxy | requests/s | CPU (us/request) | requests for each second of CPU | ambit's share |"
    )?;
    writeln!(out, "|---|---|---:|---:|---:|---:|")?;
    for (protocol, row) in &rows {
        let middle = |name: &str, at| row.get(name).and_then(|samples| median(samples, at));
        for name in ["ambit", "nginx", "haproxy"] {
            let (Some(rate), Some(cost), Some(ours)) =
                (middle(name, 0), middle(name, 1), middle("ambit", 1))
            else {
                continue;
            };
            writeln!(
                out,
                "| {protocol} | {name} | {rate:.0} | {cost:.1} | {:.0} | {:.2}x |",
                1e6 / cost,
                cost / ours
            )?;
        }
    }
    for absent in absent {
        writeln!(out, "\nnot measured: {absent}")?;
    }
    Ok(())
}

fn start(
    proxy: Proxy,
    folder: &Path,
    backend: Option<SocketAddr>,
    h2c: bool,
) -> anyhow::Result<Running> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let name = proxy.name();
    let folder = folder.join(format!("{name}-{}", at.port()));
    std::fs::create_dir_all(&folder)?;
    let program = match proxy {
        Proxy::Ambit => std::env::current_exe()?,
        _ => find(proxy.program())?,
    };
    // A copy of its own: what it costs is told from what others of the same program do.
    let own: PathBuf = folder.join(proxy.program());
    std::fs::copy(&program, &own)?;
    let mut command = Command::new(&own);
    command.args(proxy.arguments(&folder, at, backend, h2c)?);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {}", own.display()))?;
    let mut running = Running {
        child,
        processes: Processes::of(own),
        at,
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(at).is_err() {
        if let Some(status) = running.child.try_wait()? {
            bail!("{name} ended ({status})");
        }
        anyhow::ensure!(Instant::now() < deadline, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

/// Requests a second, and microseconds of the proxy's CPU time for each.
fn measure(proxy: &Running, h2c: bool, time: Duration) -> anyhow::Result<[f64; 2]> {
    let url = format!("http://{}/?size=128", proxy.at);
    let time = format!("{}ms", time.as_millis());
    let mut arguments = vec!["http", &url, "--json", "-d", &time];
    arguments.extend(match h2c {
        true => &["--h2", "-c", "4", "--streams", "16"][..],
        false => &["-c", "64"],
    });
    let before = proxy.processes.cpu()?;
    let output = Command::new(program("load")).args(&arguments).output()?;
    let spent = proxy.processes.cpu()? - before;
    if !output.status.success() {
        bail!("load: {}", String::from_utf8_lossy(&output.stdout));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| report[name].as_f64().context("load reports no number");
    Ok([
        number("requests_per_second")?,
        spent.as_secs_f64() * 1e6 / number("requests")?,
    ])
}

fn median(samples: &[[f64; 2]], at: usize) -> Option<f64> {
    figures::median(&samples.iter().map(|it| it[at]).collect::<Vec<_>>())
}

fn find(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|it| it.join(program)).find(|it| it.is_file());
    found.with_context(|| format!("{program} is not installed"))
}

/// A port that nobody has now.
fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
