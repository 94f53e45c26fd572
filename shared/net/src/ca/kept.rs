//! Certificates on disk, for a process that starts while there is no authority.
//!
//! They are as secret as the keys in memory: files of their owner alone, in a folder that is best one in memory
//! (`/run`). One is used only when the authority cannot be reached, only for the identity
//! that it names, only while it is valid, and only until this process has had another.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ambit_core::identity::Identity;
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{CaError, Signer};
use crate::keep;
use crate::tls::Certified;

/// The first bytes of a file: what it is, and its format.
const MAGIC: &[u8] = b"ambitca1";

/// A signer whose certificates are kept.
#[derive(Debug)]
pub struct Kept<S> {
    signer: S,
    folder: Option<PathBuf>,
    /// Those that this process has had a certificate of.
    had: Mutex<HashSet<Identity>>,
}

#[derive(Clone, PartialEq, Message)]
struct Content {
    /// The leaf, intermediates, roots.
    #[prost(bytes = "vec", repeated, tag = "1")]
    certificates: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

impl<S> Kept<S> {
    /// Keeps what `signer` makes in a folder of `state`, where there is one. Removes what has expired.
    pub fn new(signer: S, state: Option<&Path>) -> Self {
        let folder = state.map(|state| state.join("certificates"));
        let kept = Self {
            signer,
            folder,
            had: Mutex::default(),
        };
        if let Some(folder) = &kept.folder
            && let Err(error) = keep::folder(folder).and_then(|()| sweep(folder))
        {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "certificates cannot be kept");
        }
        kept
    }

    fn save(&self, certified: &Certified) {
        let Some(path) = self.path(certified.identity()) else {
            return;
        };
        let certificates = [certified.chain(), certified.roots()].concat();
        let content = Content {
            certificates: certificates.into_iter().map(|it| it.to_vec()).collect(),
            key: certified.private_key().secret_der().to_vec(),
        };
        let content = [MAGIC, &content.encode_to_vec()].concat();
        if let Err(error) = keep::replace(&path, &content) {
            let path = path.display();
            tracing::warn!(%path, %error, "a certificate cannot be kept");
        }
    }

    /// What an earlier process had, and when it got it.
    pub fn last(&self, identity: &Identity) -> Option<(Certified, SystemTime)> {
        let certified = self.load(identity)?;
        let file = fs::metadata(self.path(identity)?).and_then(|file| file.modified());
        let since = file.unwrap_or_else(|_| certified.not_before());
        Some((certified, since))
    }

    /// What an earlier process had.
    fn load(&self, identity: &Identity) -> Option<Certified> {
        let path = self.path(identity)?;
        let certified = match read(&path) {
            Ok(certified) => certified,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "a certificate that was kept is of no use");
                return None;
            }
        };
        let good = certified.identity() == identity && certified.not_after() > SystemTime::now();
        good.then_some(certified)
    }

    fn path(&self, identity: &Identity) -> Option<PathBuf> {
        let folder = self.folder.as_deref()?;
        let name = digest(&SHA256, identity.to_string().as_bytes());
        let name: String = name.as_ref().iter().map(|it| format!("{it:02x}")).collect();
        Some(folder.join(name))
    }
}

impl<S: Signer> Signer for Kept<S> {
    async fn sign(&self, identity: &Identity) -> Result<Certified, CaError> {
        let signed = self.signer.sign(identity).await;
        let unreached = matches!(signed, Err(CaError::Connect(_) | CaError::Silent { .. }));
        match signed {
            Ok(certified) => {
                self.save(&certified);
                self.had.lock().insert(identity.clone());
                Ok(certified)
            }
            Err(error) if unreached && !self.had.lock().contains(identity) => {
                let certified = self.load(identity).ok_or(error)?;
                self.had.lock().insert(identity.clone());
                tracing::warn!(%identity, serial = certified.serial(), "the authority cannot be reached: going on with the certificate of an earlier process");
                Ok(certified)
            }
            Err(error) => Err(error),
        }
    }
}

fn read(path: &Path) -> io::Result<Certified> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let bytes = fs::read(path)?;
    let content = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| wrong("it is no certificate of this format".to_owned()))?;
    let content = Content::decode(content).map_err(|error| wrong(error.to_string()))?;
    let key = PrivateKeyDer::try_from(content.key).map_err(|error| wrong(error.to_owned()))?;
    let certificates = content.certificates.into_iter().map(CertificateDer::from);
    Certified::new(certificates.collect(), key).map_err(|error| wrong(error.to_string()))
}

fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let expired = |it: Certified| it.not_after() <= SystemTime::now();
        if read(&path).map_or(true, expired) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::super::testing::{Step, TestSigner};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn signer(lifetime: Duration, steps: impl IntoIterator<Item = Step>) -> TestSigner {
        let signer = TestSigner::new(Arc::new(SystemTime::now), lifetime);
        for step in steps {
            signer.then(step);
        }
        signer
    }

    fn identity(name: &str) -> Identity {
        Identity::new("cluster.local", "shop", name).expect("an identity")
    }

    fn files(folder: &TempDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.path().join("certificates")).expect("a folder");
        entries.map(|it| it.expect("an entry").path()).collect()
    }

    #[tokio::test]
    async fn an_earlier_certificate_serves_once_while_there_is_no_authority() {
        let folder = TempDir::new().expect("a folder");
        let (one, other) = (identity("one"), identity("other"));
        let earlier = Kept::new(signer(HOUR, []), Some(folder.path()));
        let first = earlier.sign(&one).await.expect("signed");
        let files = files(&folder);
        assert_eq!(files.len(), 1);
        let mode = fs::metadata(&files[0]).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let gone = [Step::Gone, Step::Gone, Step::Gone, Step::Fail("no")];
        let later = Kept::new(signer(HOUR, gone), Some(folder.path()));
        let kept = later.sign(&one).await.expect("the earlier one");
        assert_eq!(
            (kept.serial(), kept.chain()),
            (first.serial(), first.chain())
        );
        assert_eq!(kept.roots(), first.roots());
        later.sign(&one).await.expect_err("a renewal is none");
        later.sign(&other).await.expect_err("never had");
        later.sign(&one).await.expect_err("refused");
        let renewed = later.sign(&one).await.expect("signed");
        assert_ne!(renewed.serial(), first.serial());

        // Refused is refused, whatever there was.
        let refused = Kept::new(signer(HOUR, [Step::Fail("no")]), Some(folder.path()));
        refused.sign(&one).await.expect_err("refused");
        // Nothing is kept where there is no folder.
        let nowhere = Kept::new(signer(HOUR, [Step::Gone]), None);
        nowhere.sign(&one).await.expect_err("nothing");
    }

    #[tokio::test]
    async fn what_is_no_certificate_of_its_identity_is_not_used() {
        let folder = TempDir::new().expect("a folder");
        let (one, other) = (identity("one"), identity("other"));
        let earlier = Kept::new(signer(HOUR, []), Some(folder.path()));
        earlier.sign(&one).await.expect("signed");
        let [file] = &files(&folder)[..] else {
            panic!("one file");
        };
        let good = fs::read(file).expect("a file");
        // Somebody else's name on it.
        let later = Kept::new(signer(HOUR, [Step::Gone]), Some(folder.path()));
        fs::copy(file, later.path(&other).expect("a path")).expect("copied");
        later.sign(&other).await.expect_err("not its");
        for bad in [&good[..good.len() - 9], b"", b"ambitca1", b"nonsense"] {
            let later = Kept::new(signer(HOUR, [Step::Gone]), Some(folder.path()));
            fs::write(file, bad).expect("written");
            later.sign(&one).await.expect_err("of no use");
        }
    }

    #[tokio::test]
    async fn what_has_expired_is_removed() {
        let folder = TempDir::new().expect("a folder");
        let yesterday = Arc::new(|| SystemTime::now() - 24 * HOUR);
        let earlier = Kept::new(TestSigner::new(yesterday, HOUR), Some(folder.path()));
        earlier.sign(&identity("one")).await.expect("signed");
        assert_eq!(files(&folder).len(), 1);
        let later = Kept::new(signer(HOUR, [Step::Gone]), Some(folder.path()));
        assert_eq!(files(&folder).len(), 0);
        later.sign(&identity("one")).await.expect_err("expired");
    }
}
