//! Mounts volumes into a container's view of the machine. A folder that the machine lacks is never
//! made on the machine: the nearest folder that exists is replaced, in this container's view
//! alone, by a copy in memory whose entries are bound from the original.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::mounts::{Mount, tmpfs};

/// Makes every mount, in order. `scratch` is an empty folder.
pub(super) fn mount_all(mounts: &[Mount], scratch: &Path) -> anyhow::Result<()> {
    for wanted in mounts {
        apply(wanted, scratch)
            .with_context(|| format!("cannot mount {}", wanted.target.display()))?;
    }
    Ok(())
}

fn apply(wanted: &Mount, scratch: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    let target = mount_point(&wanted.target, wanted.source.is_dir(), scratch)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&wanted.source), &target, none, flags, none)
        .with_context(|| format!("{} there", wanted.source.display()))?;
    if wanted.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        // A user namespace may not drop the flags the machine's mount has.
        let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(none, &target, none, flags, none)
            .or_else(|_| mount(none, &target, none, flags | kept, none))?;
    }
    Ok(())
}

/// A file or folder that exists at `target`, links followed.
fn mount_point(target: &Path, folder: bool, scratch: &Path) -> anyhow::Result<PathBuf> {
    let target = follow(target)?;
    if target.exists() {
        return Ok(target);
    }
    let Some(parent) = target.parent() else {
        bail!("no place for it")
    };
    let parent = mount_point(parent, true, scratch)?;
    let name = target.file_name().context("a mount point has a name")?;
    let target = parent.join(name);
    if make(&target, folder).is_ok_and(|()| in_memory(&parent)) {
        return Ok(target);
    }
    if parent == Path::new("/") {
        shadow_root(scratch)?;
    } else {
        shadow(&parent, scratch)?;
    }
    make(&target, folder)?;
    Ok(target)
}

/// Whether making something in `folder` stays in this lab.
fn in_memory(folder: &Path) -> bool {
    folder.starts_with("/run") || is_shadow(folder)
}

const SHADOW_MARK: &str = ".lab-view";

fn is_shadow(folder: &Path) -> bool {
    folder.join(SHADOW_MARK).exists()
}

fn make(target: &Path, folder: bool) -> std::io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    if !in_memory(parent) {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    if folder {
        fs::create_dir(target)
    } else {
        File::create(target).map(drop)
    }
}

/// Replaces `folder` by a view of itself that can be added to.
fn shadow(folder: &Path, scratch: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    let original = scratch.join("original");
    fs::create_dir_all(&original)?;
    mount(
        Some(folder),
        &original,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    tmpfs(folder)?;
    bind_entries(&original, folder)?;
    umount2(&original, MntFlags::MNT_DETACH)?;
    Ok(())
}

/// The same for the root itself, which cannot be mounted over.
fn shadow_root(scratch: &Path) -> anyhow::Result<()> {
    let new = scratch.join("root");
    fs::create_dir_all(&new)?;
    tmpfs(&new)?;
    bind_entries(Path::new("/"), &new)?;
    chdir(&new)?;
    pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(())
}

fn bind_entries(from: &Path, to: &Path) -> anyhow::Result<()> {
    let none: Option<&str> = None;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
        } else {
            File::create(&target)?;
        }
        mount(
            Some(&entry.path()),
            &target,
            none,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            none,
        )
        .with_context(|| entry.path().display().to_string())?;
    }
    File::create(to.join(SHADOW_MARK))?;
    Ok(())
}

/// Follows links also where they lead nowhere yet, as `/etc/resolv.conf` may on a fresh `/run`.
fn follow(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..16 {
        let Ok(link) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = path.parent().unwrap_or(Path::new("/")).join(link);
    }
    bail!("too many links")
}
