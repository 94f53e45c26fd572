//! The lab's own process stages: hidden commands that the `lab` binary runs itself as, before any
//! thread exists, because namespaces are entered by a single-threaded process.
//!
//! ```text
//! lab up -> monitor (makes the namespaces) -> init (pid 1: reaps) -> daemon (the lab)
//! daemon -> run (a container's namespaces) -> init (pid 1 of the container) -> the program
//! daemon -> exec (joins a container's namespaces) -> the command
//! ```
//! Each end takes the next with it, by pid namespace or by parent-death signal, so nothing is left
//! behind whoever is killed.

mod exec;
mod init;
mod monitor;
mod mounts;
mod root;
mod run;
mod supervise;

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::apiserver;

pub use exec::{ExecSpec, Target};
pub use init::started_file;
pub use mounts::{Mount, prepare_daemon};
pub use run::Mode;
pub use run::RunSpec;

/// The executable that is running, for starting the next stage.
pub const SELF: &str = "/proc/self/exe";

/// Runs the stage that `arguments` (without the program's name) ask for, if they do.
#[must_use]
pub fn dispatch(arguments: &[String]) -> Option<ExitCode> {
    let (stage, rest) = arguments.split_first()?;
    let result = match (stage.as_str(), rest) {
        ("__monitor", [folder, tied]) => monitor::monitor(Path::new(folder), tied == "tied"),
        ("__init", [signal, program, arguments @ ..]) => init::init(signal, program, arguments),
        ("__app", [file]) => init::app(Path::new(file)),
        ("__run", [file]) => run::run(Path::new(file)),
        ("__exec", [file]) => exec::exec(Path::new(file)),
        ("__capture", [device]) => record(device),
        ("__relay", [address]) => apiserver::stage(address),
        _ => return None,
    };
    Some(result.unwrap_or_else(|error| {
        complain(&format!(
            "lab {}: {error:#}",
            stage.trim_start_matches("__")
        ));
        // What shells answer when a command cannot be run.
        ExitCode::from(126)
    }))
}

/// Writes what crosses `device` to standard output, until nobody reads it.
fn record(device: &str) -> anyhow::Result<ExitCode> {
    match crate::capture::record(device, &mut std::io::stdout().lock()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => Ok(result.map(|()| ExitCode::SUCCESS)?),
    }
}

/// The command that starts `stage` with the spec in `file`.
#[must_use]
pub fn command(stage: &str, file: &Path) -> Command {
    let mut command = Command::new(SELF);
    command.arg(stage).arg(file);
    command
}

fn complain(text: &str) {
    use std::io::Write;
    // Standard error is the last place to complain in: nothing is left when it is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
