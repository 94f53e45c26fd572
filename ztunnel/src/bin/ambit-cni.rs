//! The node agent (`ambit-cni agent`), and the CNI plugin when a container runtime calls it.

use std::process::ExitCode;

use ambit_telemetry::log::{Format, Logging};
use ambit_ztunnel::agent::{self, cni};
use anyhow::Context;
use clap::Parser;

/// The node agent and CNI plugin of Ambit. As a plugin it is called with CNI_COMMAND set.
#[derive(Debug, Parser)]
#[command(name = "ambit-cni", version)]
enum Cli {
    /// Runs the node agent.
    Agent {
        #[command(flatten)]
        config: Box<agent::Config>,
        /// What is logged: LEVEL or TARGET=LEVEL, separated by commas.
        #[arg(long, env = "RUST_LOG", default_value = "info")]
        log: String,
        /// How lines look: plain or json.
        #[arg(long, env = "LOG_FORMAT", default_value = "plain")]
        log_format: Format,
    },
}

fn main() -> ExitCode {
    if cni::is_called() {
        return cni::main();
    }
    let Cli::Agent {
        config,
        log,
        log_format,
    } = Cli::parse();
    match agent(*config, &log, log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ambit-cni agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn agent(config: agent::Config, log: &str, format: Format) -> anyhow::Result<()> {
    let logging = Logging::install(format, log).with_context(|| format!("--log {log:?}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(agent::run(config));
    logging.sink().flush();
    done
}
