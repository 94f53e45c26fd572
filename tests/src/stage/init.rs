//! Process 1 of a pid namespace, and the last step before a container's program.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat;
use nix::unistd::{getegid, geteuid};

use super::run::{Mode, RunSpec};
use super::{SELF, mounts, supervise::supervise};

/// Runs `program` as the only charge of this pid namespace. `signal` arrives when the parent ends.
pub(super) fn init(signal: &str, program: &str, arguments: &[String]) -> anyhow::Result<ExitCode> {
    set_pdeathsig(match signal {
        "kill" => Signal::SIGKILL,
        "term" => Signal::SIGTERM,
        other => bail!("unknown parent-death signal {other:?}"),
    })?;
    let mut command = Command::new(if program == "self" { SELF } else { program });
    command.args(arguments);
    supervise(command, || Ok(()))
}

/// Becomes process 1 of a container whose mounts are made: its `/proc`, its user, its program.
pub(super) fn app(file: &Path) -> anyhow::Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    let spec = RunSpec::read(file)?;
    mounts::proc()?;
    let started = Started::of(file)?;
    mounts::hide_lab(&spec.mounts)?;
    let mut command = program(&spec);
    if let Some(uid) = spec.uid.filter(|uid| *uid != 0) {
        let gid = spec.gid.unwrap_or(uid);
        match spec.mode {
            Mode::Privileged => {
                command.uid(uid).gid(gid);
            }
            Mode::Unprivileged => become_user(uid, gid)?,
        }
    }
    supervise(command, || started.say())
}

/// Where it is said that the program runs: a folder that is out of sight by then.
struct Started {
    folder: File,
    name: OsString,
}

impl Started {
    fn of(file: &Path) -> anyhow::Result<Self> {
        let marker = started_file(file);
        let folder = marker.parent().context("a spec is in a folder")?;
        Ok(Self {
            folder: File::open(folder).with_context(|| folder.display().to_string())?,
            name: marker.file_name().unwrap_or_default().to_owned(),
        })
    }

    fn say(&self) -> io::Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(
            &self.folder,
            &*self.name,
            flags,
            stat::Mode::from_bits_truncate(0o644),
        )?;
        Ok(())
    }
}

/// The file that says that the program of the spec in `file` runs.
#[must_use]
pub fn started_file(file: &Path) -> PathBuf {
    file.with_extension("started")
}

/// The container's own program.
pub(super) fn program(spec: &RunSpec) -> Command {
    let (program, arguments) = spec
        .argv
        .split_first()
        .expect("a checked spec has a program");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.cwd);
    command
}

/// In a user namespace only one user exists, so another one is the same user by another name.
pub(super) fn become_user(uid: u32, gid: u32) -> anyhow::Result<()> {
    let (outer_uid, outer_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).context("cannot make a user namespace for runAsUser")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {outer_gid} 1\n"))?;
    Ok(())
}
