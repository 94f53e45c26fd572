//! Keeps the authority as its folder has it, so that another root and another key come without a restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::Signing;
use super::change::take_up;
use super::files::{authority, read};
use super::material::{Authority, Pems};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The material of a folder, or what is wrong with it.
type Found = Result<Pems, String>;

/// An authority whose material is in a folder.
pub struct OnDisk {
    folder: PathBuf,
    authority: Authority,
    looked: Looked,
}

impl fmt::Debug for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDisk")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl OnDisk {
    pub(super) fn new(folder: &Path, pems: Pems, authority: Authority) -> Self {
        Self {
            folder: folder.to_owned(),
            authority,
            looked: Looked::new(Ok(pems)),
        }
    }

    /// What the folder held when it was read first.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where its material is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority that signs, and what keeps it as the folder has it, to be run beside, as long as anybody has the
    /// authority: what does not hold together is reported once and changes nothing.
    pub fn follow(self) -> (Signing, impl Future<Output = ()> + Send) {
        let Self {
            folder,
            authority: first,
            mut looked,
        } = self;
        let (sender, signing) = watch::channel(Arc::new(first));
        let keeping = async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = sender.closed() => return,
                }
                if let Some(found) = looked.look(read(&folder)) {
                    let now = SystemTime::now();
                    let found = found.and_then(|pems| authority(&folder, &pems, now));
                    take_up(&sender, found);
                }
            }
        };
        (signing, keeping)
    }
}

/// Decides when what is found in a folder is to be judged: files that are copied one by one are judged together.
struct Looked {
    last: Found,
    judged: Found,
}

impl Looked {
    fn new(first: Found) -> Self {
        Self {
            last: first.clone(),
            judged: first,
        }
    }

    /// Takes in what a look has found. What two looks in a row find alike is to be judged, once.
    fn look(&mut self, found: Found) -> Option<Found> {
        let is_settled = found == self.last;
        self.last = found;
        if !is_settled || self.last == self.judged {
            return None;
        }
        self.judged = self.last.clone();
        Some(self.judged.clone())
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
