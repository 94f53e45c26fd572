//! Makes the lab's namespaces and stays outside them: it removes the lab's folder at the end,
//! however the lab ended.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{geteuid, getppid, setsid};

use super::{SELF, init::become_user, supervise::supervise};
use crate::apiserver;
use crate::cluster::Settings;
use crate::state::StateDir;

/// Makes root start a lab as an ordinary user does: in a user namespace.
const ROOTLESS: &str = "AMBIT_LAB_ROOTLESS";

/// Claims `folder` for a lab, whose settings come on standard input, and runs its daemon. When
/// `tied`, the lab ends with the process that started this one.
pub(super) fn monitor(folder: &Path, tied: bool) -> anyhow::Result<ExitCode> {
    let state = StateDir::at(folder.to_owned());
    let _lock = state.claim()?;
    let mut settings = Vec::new();
    std::io::stdin().read_to_end(&mut settings)?;
    let result = prepare(&state, &settings).and_then(|()| start(folder, tied));
    state.remove();
    result
}

fn prepare(state: &StateDir, settings: &[u8]) -> anyhow::Result<()> {
    fs::write(state.config_file(), settings).context("cannot write the settings")?;
    let settings: Settings = serde_json::from_slice(settings)?;
    if let Some(kube) = &settings.kube {
        apiserver::open(state.root(), kube)?;
    }
    Ok(())
}

fn start(folder: &Path, tied: bool) -> anyhow::Result<ExitCode> {
    let parent = getppid();
    // Its own session: Ctrl-C reaches the foreground command, which ends the lab in order.
    setsid().context("cannot leave the terminal's session")?;
    isolate()?;
    if tied {
        // After the namespaces: a change of credentials clears it.
        set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != parent {
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut command = Command::new(SELF);
    command
        .args(["__init", "term", "self", "__daemon"])
        .arg(folder);
    supervise(command, || Ok(()))
}

fn isolate() -> anyhow::Result<()> {
    let wanted = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if geteuid().is_root() && std::env::var_os(ROOTLESS).is_none() {
        match unshare(wanted) {
            Ok(()) => return Ok(()),
            // Root without the capability, as in most containers: a user namespace gives it.
            Err(Errno::EPERM) => {}
            Err(error) => return Err(error).context("cannot make the lab's namespaces"),
        }
    }
    become_user(0, 0).context(
        "user namespaces are not allowed here: run the lab as root, or set \
         kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0 and \
         kernel.apparmor_restrict_unprivileged_userns=0",
    )?;
    unshare(wanted).context("cannot make the lab's namespaces inside a user namespace")
}
