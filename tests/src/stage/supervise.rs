//! Waits for one child as an init does: forwards signals to it, reaps every other child, and ends
//! with its exit status.

use std::process::{Child, Command, ExitCode};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sys;

/// Starts `command` and stays until it ends. Signals sent to this process reach the child. `started` is
/// called once the program runs.
pub(super) fn supervise(
    mut command: Command,
    started: impl FnOnce() -> std::io::Result<()>,
) -> anyhow::Result<ExitCode> {
    let program = command.get_program().to_owned();
    // Blocked before the start, so that no signal is lost between the start and the first wait.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    sys::unblock_signals(&mut command);
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    // The child has its copies of these: a pipe ends when the child closes it.
    drop(command);
    started()?;
    wait(&child)
}

fn wait(child: &Child) -> anyhow::Result<ExitCode> {
    let main = Pid::from_raw(child.id().cast_signed());
    loop {
        if let Some(code) = reap(main)? {
            return Ok(ExitCode::from(code));
        }
        match SigSet::all().wait()? {
            Signal::SIGCHLD => {}
            signal => match kill(main, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}

/// Collects every ended child; the exit code when `main` is among them.
fn reap(main: Pid) -> anyhow::Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(WaitStatus::Exited(pid, code)) if pid == main => {
                return Ok(Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                return Ok(Some(128 + u8::try_from(signal as i32).unwrap_or(127)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
