//! A command inside the namespaces of a running container or of a node.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::supervise::supervise;
use crate::sys;

/// Whose namespaces a command joins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Target {
    /// Those of the container whose `run` stage has this process number.
    Container(u32),
    /// A network namespace alone.
    Network(PathBuf),
}

/// A command to run beside something that runs already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Where.
    pub target: Target,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working folder.
    pub cwd: PathBuf,
}

/// Joins the namespaces of the spec in `file` and runs its command. The file is removed.
pub(super) fn exec(file: &Path) -> anyhow::Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::remove_file(file)?;
    let spec: ExecSpec = serde_json::from_slice(&text)?;
    join(&spec.target)?;
    let Some((program, arguments)) = spec.argv.split_first() else {
        bail!("nothing to run")
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.cwd);
    sys::die_with_parent(&mut command, Signal::SIGKILL);
    supervise(command, || Ok(()))
}

fn join(target: &Target) -> anyhow::Result<()> {
    match target {
        Target::Network(path) => {
            let netns =
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(netns, CloneFlags::CLONE_NEWNET)?;
        }
        Target::Container(pid) => {
            let kinds = [
                ("net", CloneFlags::CLONE_NEWNET),
                ("uts", CloneFlags::CLONE_NEWUTS),
                ("ipc", CloneFlags::CLONE_NEWIPC),
                ("pid_for_children", CloneFlags::CLONE_NEWPID),
                // Last: the machine's own /proc is out of sight afterwards.
                ("mnt", CloneFlags::CLONE_NEWNS),
            ];
            let mut open = Vec::new();
            for (kind, flag) in kinds {
                let path = format!("/proc/{pid}/ns/{kind}");
                open.push((
                    File::open(&path).context("the container has just ended")?,
                    flag,
                ));
            }
            for (file, flag) in open {
                setns(file, flag).context("the container has just ended")?;
            }
        }
    }
    Ok(())
}
