//! Network namespaces with a name, as container runtimes keep them: a file below `/run/netns`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ambit_net::sys::Netns;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Where the files are; private to the lab.
const FOLDER: &str = "/run/netns";

/// A network namespace and the file that keeps it.
#[derive(Debug, Clone)]
pub struct NamedNetns {
    path: PathBuf,
    netns: Netns,
}

impl NamedNetns {
    /// Makes a namespace called `name`.
    ///
    /// # Errors
    /// As the kernel says, naming the file.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = Path::new(FOLDER).join(name);
        let place = path.clone();
        let made = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || make(&place))?;
        let result = made
            .join()
            .map_err(|_| io::Error::other("the making thread panicked"))?;
        result
            .and_then(|()| Netns::open(&path))
            .map(|netns| Self {
                path: path.clone(),
                netns,
            })
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Removes the file; the namespace goes with its last process and socket.
    pub fn remove(&self) {
        let gone = umount2(&self.path, MntFlags::MNT_DETACH).map_err(io::Error::from);
        if let Err(error) = gone.and_then(|()| fs::remove_file(&self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a network namespace");
        }
    }
}

/// Runs on a thread of its own, which ends in the new namespace.
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    File::create_new(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let none: Option<&str> = None;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        none,
        MsFlags::MS_BIND,
        none,
    )?;
    Ok(())
}
