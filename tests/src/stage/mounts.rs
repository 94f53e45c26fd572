//! Mounts of the daemon and of containers.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};
use nix::unistd::sethostname;
use serde::{Deserialize, Serialize};

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The file or folder of this machine that is seen there.
    pub source: PathBuf,
    /// Where, as the container sees it.
    pub target: PathBuf,
    /// Whether it can be written to.
    pub read_only: bool,
}

/// Gives the daemon its private `/run`, `/proc` and `/dev/shm`; `state` stays visible. Mounts that
/// the daemon makes below `/run` later are seen by every node component.
///
/// # Errors
/// When the machine does not allow a mount.
pub fn prepare_daemon(state: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make the lab's mounts private")?;
    let kept = File::open(state).with_context(|| format!("cannot open {}", state.display()))?;
    tmpfs(Path::new("/run"))?;
    mount(none, "/run", none, MsFlags::MS_SHARED, none)?;
    if !fs::canonicalize(state).is_ok_and(|path| path.exists()) {
        fs::create_dir_all(state)?;
        let source = format!("/proc/self/fd/{}", kept.as_raw_fd());
        mount(Some(source.as_str()), state, none, MsFlags::MS_BIND, none)
            .context("cannot keep the lab's folder in sight")?;
    }
    if Path::new("/dev/shm").is_dir() {
        tmpfs(Path::new("/dev/shm"))?;
    }
    proc()?;
    sethostname("lab").context("cannot set the host name")
}

/// Lets mounts of the daemon come in, and none go out.
pub(super) fn receive_only() -> anyhow::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .context("cannot make the container's mounts its own")
}

/// Mounts a `/proc` of the calling process's pid namespace.
pub(super) fn proc() -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context(
        "cannot mount /proc: parts of this machine's /proc are hidden, as in some containers; \
         run the lab where /proc is whole",
    )
}

/// What of the lab no container sees: the key of the mesh's authority, tokens and volumes of other
/// pods, sockets of node components, everybody's network namespace.
const PRIVATE: [&str; 2] = ["/run/ambit-lab", "/run/netns"];

/// Hides the lab's own folders from a container that has what it needs of them: `given`.
pub(super) fn hide_lab(given: &[Mount]) -> anyhow::Result<()> {
    let given = |folder: &Path| {
        let target = |mount: &Mount| fs::canonicalize(&mount.target);
        given
            .iter()
            .any(|mount| target(mount).is_ok_and(|it| it == folder))
    };
    let folders = PRIVATE.into_iter().map(Path::new);
    let mut hidden = folders.filter(|folder| folder.is_dir() && !given(folder));
    hidden.try_for_each(tmpfs)
}

pub(super) fn tmpfs(target: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    )
    .with_context(|| format!("cannot mount a private {}", target.display()))
}
