//! The `ambit` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use ambit_control::cli::{Cli, Command};
use ambit_control::explain::Decision;
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
        Command::Check(flags) => check(&flags),
        Command::Ztunnel(flags) => told(asking(flags.run())),
        Command::Waypoint(flags) => told(asking(flags.run())),
        Command::Machine(flags) => told(asking(flags.run())),
        Command::Top(flags) => match asking(flags.run()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Install(flags) => print(flags.print()),
        Command::Completions { shell } => print(ambit_control::cli::completions(shell)),
        Command::Man => match ambit_control::cli::manual() {
            Ok(text) => print(&text),
            Err(_) => ExitCode::FAILURE,
        },
        Command::Uninstall(flags) => print(ambit_control::install::uninstall(flags.crds)),
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

fn check(flags: &ambit_control::cli::check::Flags) -> ExitCode {
    let found = match asking(flags.run()) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("ambit check: {error:#}");
            return ExitCode::from(2);
        }
    };
    let lines: String = found.iter().map(|finding| format!("{finding}\n")).collect();
    match found.iter().all(|finding| finding.failure.is_none()) {
        true => print(&lines),
        false => {
            print(&lines);
            ExitCode::FAILURE
        }
    }
}

fn told(answer: anyhow::Result<String>) -> ExitCode {
    match answer {
        Ok(text) => print(&text),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("ambit: {error:#}");
    ExitCode::from(2)
}

fn asking<T>(question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(question)
}

fn print(text: impl AsRef<[u8]>) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn explain(flags: ambit_control::cli::explain::Flags) -> ExitCode {
    use std::io::Write;
    match asking(flags.run()) {
        Ok((explanation, problems)) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            match write!(std::io::stdout(), "{explanation}") {
                Ok(()) if explanation.decision == Decision::Undecided => ExitCode::from(3),
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("ambit explain: {error:#}");
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
    let mut filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse(&directives)?;
    // An API server that fails is reported by who asked it, once.
    if !directives.contains("kube_client") {
        filter = filter.add_directive("kube_client=off".parse()?);
    }
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
