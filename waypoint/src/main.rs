//! `waypoint`: the L7 proxy.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_waypoint::app;
use ambit_waypoint::command::{self, Command};
use ambit_waypoint::config::Config;
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit status for a command line or an environment that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match command::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => return fail(&error, USAGE),
    };
    match command {
        Command::Help => return print(&command::help()),
        Command::Version => return print(&command::version()),
        Command::Run | Command::PrintConfig => {}
    }
    let config = match Config::from_env(ambit_proxy::config::environment(std::env::vars_os())) {
        Ok(config) => config,
        Err(problems) => return fail(&problems, USAGE),
    };
    if command == Command::PrintConfig {
        return match serde_json::to_string_pretty(&config) {
            Ok(text) => print(&(text + "\n")),
            Err(error) => fail(&error, 1),
        };
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let logging = Logging::install(config.log.format, &config.log.filter.0)?;
    let metrics = Metrics::install();
    ambit_proxy::raise_descriptor_limit();
    ambit_proxy::heap::give_back_when_idle();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        gateway = config.gateway,
        namespace = config.mesh.pod_namespace,
        workers = config.workers,
        "waypoint starts"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread")?;
    let sink = logging.sink().clone();
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("told to end by SIGTERM"),
                _ = interrupt.recv() => tracing::info!("told to end by SIGINT"),
            }
        };
        app::run(config, logging, metrics, end).await
    });
    sink.flush();
    result
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    // Nothing is left to do about a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "waypoint: {error}");
    ExitCode::from(status)
}
