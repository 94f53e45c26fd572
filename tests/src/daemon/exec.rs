//! Runs a command for a caller, on the caller's own descriptors.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use super::serve::Caller;
use crate::kubelet::{Place, exec_command};

/// Runs `argv` in `place` and returns its exit status. The command ends when the caller goes.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn exec(
    caller: &mut Caller,
    place: &Place,
    argv: &[String],
    descriptors: Vec<OwnedFd>,
) -> Result<i32, Vec<String>> {
    let words = |error: std::io::Error| vec![format!("cannot run {argv:?}: {error}")];
    let [stdin, stdout, stderr]: [OwnedFd; 3] = descriptors
        .try_into()
        .map_err(|_| vec!["exec needs the caller's standard descriptors".to_owned()])?;
    let mut command = tokio::process::Command::from(exec_command(place, argv).map_err(words)?);
    command
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let mut child = command.kill_on_drop(true).spawn().map_err(words)?;
    // The command's end of a pipe must be the only one.
    drop(command);
    tokio::select! {
        status = child.wait() => {
            let status = status.map_err(words)?;
            Ok(status.code().unwrap_or(137))
        }
        () = caller.gone() => Err(vec!["the caller went away".to_owned()]),
    }
}
