//! The `ambit` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use ambit_control::cli::{Cli, Command};
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Some(command) = Cli::parse().command else {
        return match Cli::command().print_long_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    match command {
        Command::Explain(flags) => explain(*flags),
        Command::Install(flags) => print(&flags.print()),
        Command::Uninstall(flags) => print(&ambit_control::install::uninstall(flags.crds)),
        Command::Control(flags) => {
            if let Err(error) = start_log() {
                eprintln!("RUST_LOG: {error}");
                return ExitCode::from(2);
            }
            let settings = match flags.check() {
                Ok(settings) => settings,
                Err(mistakes) => {
                    eprintln!("{mistakes}");
                    return ExitCode::from(2);
                }
            };
            match run(settings) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("ambit control: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn explain(flags: ambit_control::cli::explain::Flags) -> ExitCode {
    use std::io::Write;
    match flags.run() {
        Ok((explanation, problems)) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            match write!(std::io::stdout(), "{explanation}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("ambit explain: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(settings: ambit_control::cli::control::Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ambit_control::app::run(settings))
}

fn start_log() -> Result<(), tracing_subscriber::filter::ParseError> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse(directives)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::env::var("LOG_FORMAT").as_deref() == Ok("json") {
        log.json().flatten_event(true).init();
    } else {
        log.with_ansi(false).init();
    }
    Ok(())
}
