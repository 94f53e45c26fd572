//! `lab`: a tiny Kubernetes cluster with the mesh in it, on one machine.

use std::path::Path;
use std::process::ExitCode;

use ambit_lab::{cli, daemon, stage};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(code) = stage::dispatch(&arguments) {
        return code;
    }
    if let [stage, folder] = &arguments[..]
        && stage == "__daemon"
    {
        return daemon::daemon(Path::new(folder));
    }
    cli::main()
}
