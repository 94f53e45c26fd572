//! A program in a pod's or a node's namespaces.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::sethostname;
use serde::{Deserialize, Serialize};

use super::{Mount, SELF, init, mounts, root, supervise::supervise};

/// What is run, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSpec {
    /// The network namespace's file.
    pub netns: PathBuf,
    /// The host name; the lab's own when absent.
    pub hostname: Option<String>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// An empty folder for a new root, used when a mount needs a folder the machine lacks.
    pub scratch: PathBuf,
    /// The working folder.
    pub cwd: PathBuf,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The user to run as; root when absent.
    pub uid: Option<u32>,
    /// The group to run as; the user's number when absent.
    pub gid: Option<u32>,
    /// Whether it sees only its own processes, and takes them with it when it ends.
    pub own_processes: bool,
    /// What this machine allows.
    pub mode: Mode,
}

/// Whether the lab is in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Real root: every user exists.
    Privileged,
    /// An ordinary user in a user namespace: one user exists.
    Unprivileged,
}

impl Mode {
    /// What the calling process is in.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> std::io::Result<Self> {
        let map = fs::read_to_string("/proc/self/uid_map")?;
        let whole = map.split_whitespace().nth(2) == Some("4294967295");
        Ok(if whole {
            Self::Privileged
        } else {
            Self::Unprivileged
        })
    }
}

impl RunSpec {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let spec: Self = serde_json::from_slice(&text)?;
        if spec.argv.is_empty() {
            bail!("{}: nothing to run", file.display());
        }
        Ok(spec)
    }
}

/// Enters the namespaces of the spec in `file` and runs its program.
pub(super) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    let spec = RunSpec::read(file)?;
    let netns = File::open(&spec.netns)
        .with_context(|| format!("cannot open network namespace {}", spec.netns.display()))?;
    setns(netns, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    mounts::receive_only()?;
    if let Some(hostname) = &spec.hostname {
        sethostname(hostname).context("cannot set the host name")?;
    }
    root::mount_all(&spec.mounts, &spec.scratch)?;
    if !spec.own_processes {
        let error = init::program(&spec).exec();
        return Err(error).with_context(|| format!("cannot run {}", spec.argv[0]));
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    let mut command = Command::new(SELF);
    command.arg("__app").arg(file);
    supervise(command, || Ok(()))
}
