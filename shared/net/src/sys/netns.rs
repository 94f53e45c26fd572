//! Network namespaces, entered for the length of one closure.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

thread_local! {
    /// Where this thread is. Asking the kernel costs four system calls, at every connection.
    static HERE: RefCell<Option<Netns>> = const { RefCell::new(None) };
}

/// A network namespace, held open: it lives at least as long as this.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    inode: u64,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens a namespace file, such as `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// Takes a namespace received from elsewhere.
    ///
    /// # Errors
    /// When the descriptor cannot be examined.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let inode = file.metadata()?.ino();
        Ok(Self {
            fd: Arc::new(file.into()),
            inode,
        })
    }

    /// Identifies the namespace on this machine for as long as it exists.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` with the calling thread inside this namespace. `work` must not await. A thread
    /// that does this enters no namespace by other means afterwards.
    ///
    /// # Errors
    /// When the namespace cannot be entered. The thread is back in its own namespace afterwards;
    /// if that were impossible the process aborts, for it would act in a stranger's name.
    pub fn run<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let home = match HERE.take() {
            Some(home) => home,
            None => Self::current()?,
        };
        if home.inode == self.inode {
            HERE.set(Some(home));
            return work();
        }
        if let Err(error) = setns(&*self.fd, CloneFlags::CLONE_NEWNET) {
            HERE.set(Some(home));
            return Err(error.into());
        }
        HERE.set(Some(self.clone()));
        let _back = Return { home };
        work()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl Eq for Netns {}

/// Brings the thread home, also when the work panics.
struct Return {
    home: Netns,
}

impl Drop for Return {
    fn drop(&mut self) {
        if let Err(error) = setns(&*self.home.fd, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%error, "cannot leave a pod's network namespace");
            std::process::abort();
        }
        HERE.set(Some(self.home.clone()));
    }
}
