//! Where a lab keeps what is seen from outside: its lock, its control socket and its logs. The
//! folder goes when the lab goes; what a lab makes inside its namespaces never reaches the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// The longest name: the path of a control socket has to fit in 108 bytes.
const LONGEST_NAME: usize = 32;

/// Why a lab's folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// A name that cannot be a folder and a host name.
    #[error("lab name {0:?}: use 1 to {LONGEST_NAME} of a-z, 0-9 and '-'")]
    Name(String),
    /// A lab of that name runs.
    #[error("lab {0:?} is already up: `lab down --name {0}` ends it, `--name` starts another")]
    Taken(String),
    /// Somebody else owns the folder.
    #[error("{}: owned by another user; set XDG_RUNTIME_DIR to a folder of yours", .0.display())]
    Foreign(PathBuf),
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    name: String,
    root: PathBuf,
}

impl StateDir {
    /// The folder of the lab called `name`, whether it exists or not.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn named(name: &str) -> Result<Self, StateError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
            return Err(StateError::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            root: base().join(name),
        })
    }

    /// A folder whose path is known.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        let name = root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Self {
            name: name.unwrap_or_default(),
            root,
        }
    }

    /// The names of all labs of this user that have a folder.
    #[must_use]
    pub fn all() -> Vec<String> {
        let Ok(entries) = fs::read_dir(base()) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The socket that commands talk to.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// What the lab was started with.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// Where the logs of everything in the lab are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Makes the folder anew and holds it: nobody else starts a lab of this name while the lock
    /// is open. What a killed lab left is removed first.
    ///
    /// # Errors
    /// When a lab of that name runs, or the folder cannot be made.
    pub fn claim(&self) -> Result<Flock<File>, StateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        let base = base();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&base)
            .map_err(io(&base))?;
        let owner = fs::metadata(&base).map_err(io(&base))?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            return Err(StateError::Foreign(base));
        }
        let lock = loop {
            match self.lock() {
                Ok(Some(lock)) => break lock,
                // A lab that is ending took the folder away meanwhile.
                Ok(None) => {}
                Err(Errno::EWOULDBLOCK) => return Err(StateError::Taken(self.name.clone())),
                Err(error) => return Err(io(&self.root)(error.into())),
            }
        };
        let path = self.lock_file();
        for entry in fs::read_dir(&self.root).map_err(io(&self.root))?.flatten() {
            if entry.path() != path {
                remove(&entry.path()).map_err(io(&entry.path()))?;
            }
        }
        let logs = self.logs();
        fs::create_dir(&logs).map_err(io(&logs))?;
        Ok(lock)
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Makes the folder and locks it; `None` when it went away before it was locked.
    fn lock(&self) -> Result<Option<Flock<File>>, Errno> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root);
        let path = self.lock_file();
        let opened = made.and_then(|()| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).open(&path)
        });
        let file = match opened {
            Err(error) if gone(&error) => return Ok(None),
            opened => opened.map_err(errno)?,
        };
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        let locked = lock.metadata().map_err(errno)?.ino();
        match fs::metadata(&path) {
            Ok(now) => Ok((now.ino() == locked).then_some(lock)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// Removes the folder of a lab whose monitor was killed; it does so itself else.
    pub fn remove_if_abandoned(&self) {
        let Ok(file) = OpenOptions::new().write(true).open(self.lock_file()) else {
            return;
        };
        if let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            self.remove();
        }
    }

    /// Removes the folder, and the folder of all labs when it is the last.
    pub fn remove(&self) {
        if let Err(error) = remove(&self.root)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.root.display(), %error, "cannot remove the lab's folder");
        }
        if let Some(base) = self.root.parent() {
            // Fails while another lab lives there, as it should.
            let _ = fs::remove_dir(base);
        }
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn base() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if Path::new(&folder).is_dir() => PathBuf::from(folder).join("ambit-lab"),
        _ => PathBuf::from(format!("/tmp/ambit-lab-{}", nix::unistd::geteuid())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_a_path_and_a_host() {
        for (name, good) in [
            ("lab", true),
            ("a-1", true),
            ("", false),
            ("Lab", false),
            ("../x", false),
            ("a_b", false),
            (&"a".repeat(33), false),
        ] {
            assert_eq!(StateDir::named(name).is_ok(), good, "{name:?}");
        }
    }
}
