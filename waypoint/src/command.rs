//! The command line of the waypoint.

use std::fmt::Write;

use crate::config::Config;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run,
    /// Show the configuration that would be in force.
    PrintConfig,
    /// Explain.
    Help,
    /// Say which version this is.
    Version,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// The argument that is not understood.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut command = Command::Run;
    for arg in args {
        command = match arg.as_str() {
            "--print-config" => Command::PrintConfig,
            "--help" | "-h" => Command::Help,
            "--version" | "-V" => Command::Version,
            other => return Err(format!("unknown argument {other:?}; see waypoint --help")),
        };
    }
    Ok(command)
}

/// The text of `--version`.
#[must_use]
pub fn version() -> String {
    format!("waypoint (ambit) {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = "\
The L7 proxy of a service or namespace. It is configured by environment variables.

Usage: waypoint [--print-config | --help | --version]

Environment:
"
    .to_owned();
    for known in Config::variables() {
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "  {}\n      {}: {}",
            known.name, known.about, known.accepts
        );
        let _ = match known.default.as_str() {
            "" => writeln!(text),
            default => writeln!(text, " [default: {default}]"),
        };
    }
    text
}
