//! Keeps the lists as their file has them.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::{LONGEST, Lists, Revocations};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What was found: nothing, where there is no file.
type Found = Result<Option<Vec<u8>>, String>;

/// The lists of a PEM file, and what keeps them as the file is, to be run beside. There need not be a file.
///
/// Once there are lists they stay until the file has others that can be read as a whole, none of them older than what it replaces: nobody gets
/// in by taking the file away, by spoiling it, or by what it was before. A file of no list says that nobody is revoked.
///
/// # Errors
/// There is a file and it cannot be read: the process does not know whom it would let in.
pub async fn follow(
    path: PathBuf,
) -> Result<(Revocations, impl Future<Output = Infallible> + Send), String> {
    let looked = read(&path).await;
    let first = match &looked {
        Ok(None) => Ok(Lists::default()),
        Ok(Some(pem)) => Lists::parse(pem),
        Err(error) => Err(error.clone()),
    };
    let first = first.map_err(|error| told(&path, &error))?;
    if !first.is_empty() {
        tracing::info!(path = %path.display(), lists = first.len(), "read certificate revocation lists");
    }
    let (lists, revocations) = watch::channel(Arc::new(first));
    let watched = Watched {
        path,
        looked,
        lists,
        overdue: None,
    };
    Ok((Revocations::new(revocations), watched.keep()))
}

pub(super) struct Watched {
    path: PathBuf,
    looked: Found,
    lists: watch::Sender<Arc<Lists>>,
    /// Whose list was said to be out of date.
    overdue: Option<String>,
}

impl Watched {
    async fn keep(mut self) -> Infallible {
        loop {
            self.remind(SystemTime::now());
            tokio::time::sleep(LOOK).await;
            let found = read(&self.path).await;
            self.take(found);
        }
    }

    /// Takes up what was found. What is wrong is said once.
    pub(super) fn take(&mut self, found: Found) {
        if found == self.looked {
            return;
        }
        let path = self.path.display();
        let lists = match &found {
            Ok(Some(pem)) => Lists::parse(pem).and_then(|lists| {
                lists.follow(&self.lists.borrow())?;
                Ok(lists)
            }),
            Ok(None) if self.lists.borrow().is_empty() => Ok(Lists::default()),
            Ok(None) => Err("it is gone; an empty file says that nobody is revoked".to_owned()),
            Err(error) => Err(error.clone()),
        };
        match lists {
            Ok(lists) => {
                tracing::info!(%path, lists = lists.len(), "read the certificate revocation lists again");
                self.lists.send_replace(Arc::new(lists));
            }
            Err(error) => {
                tracing::error!(%path, %error, "kept the certificate revocation lists as they were");
            }
        }
        self.looked = found;
    }

    /// Says once whose list is out of date.
    fn remind(&mut self, now: SystemTime) {
        let overdue = self.lists.borrow().overdue(now).map(str::to_owned);
        if overdue != self.overdue {
            if let Some(issuer) = &overdue {
                let path = self.path.display();
                tracing::warn!(%path, issuer, "a certificate revocation list is out of date; it goes on to count");
            }
            self.overdue = overdue;
        }
    }
}

async fn read(path: &Path) -> Found {
    let file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // One byte more shows that it is too large.
    let mut pem = Vec::new();
    let all = file.take(LONGEST as u64 + 1).read_to_end(&mut pem).await;
    all.map_err(|error| error.to_string())?;
    Ok(Some(pem))
}

fn told(path: &Path, error: &str) -> String {
    let path = path.display();
    format!("the certificate revocation lists {path} cannot be read: {error}")
}

#[cfg(test)]
impl Watched {
    /// One that is told what is found, and who listens to it.
    pub(super) fn of(lists: Lists) -> (Self, Revocations) {
        let (lists, revocations) = watch::channel(Arc::new(lists));
        let watched = Self {
            path: PathBuf::from("ca-crl.pem"),
            looked: Ok(None),
            lists,
            overdue: None,
        };
        (watched, Revocations::new(revocations))
    }
}
