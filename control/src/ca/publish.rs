//! Writes what proxies have to know of the authority into a folder, as ConfigMaps have it on Kubernetes: whom they trust, and
//! whom they do not believe any longer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{CRL, ROOTS};
use super::{Authority, Signing};

/// After a file could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// The folder in which an authority is published.
#[derive(Debug)]
pub struct Publishing {
    folder: PathBuf,
    signing: Signing,
}

impl Publishing {
    /// Publishes the authority of now.
    ///
    /// # Errors
    /// Which file cannot be written, and why.
    pub fn new(folder: PathBuf, mut signing: Signing) -> Result<Self, String> {
        let now = signing.borrow_and_update().clone();
        write_all(&folder, &now)?;
        Ok(Self { folder, signing })
    }

    /// Publishes every change, until nobody keeps the authority any more.
    pub async fn run(mut self) {
        let mut failing = false;
        loop {
            if failing {
                tokio::time::sleep(RETRY).await;
            } else if self.signing.changed().await.is_err() {
                return;
            }
            let now = self.signing.borrow_and_update().clone();
            let written = write_all(&self.folder, &now);
            if let Err(error) = &written
                && !failing
            {
                tracing::error!(%error, "proxies are not told of the certificate authority");
            }
            failing = written.is_err();
        }
    }
}

/// The lists go as those of ConfigMaps do: where there are none, no file is made, and one that is there is emptied; where nothing
/// is said of them, it stays as it is.
fn write_all(folder: &Path, authority: &Authority) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&folder.join(ROOTS), authority.roots())?;
    let lists = folder.join(CRL);
    match authority.revoked() {
        None => Ok(()),
        Some("") if !lists.exists() => Ok(()),
        Some(text) => write(&lists, text),
    }
}

/// The file appears complete or not at all; one that has the text already is not touched.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let replace = || -> io::Result<()> {
        if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(());
        }
        let draft = path.with_extension("new");
        fs::write(&draft, text)?;
        fs::rename(&draft, path)
    };
    replace().map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::sync::watch;

    use super::*;
    use crate::ca::material::Pems;

    fn authority(revoked: Option<&str>) -> Arc<Authority> {
        let now = SystemTime::now();
        let mut pems = Pems::generate("td", now).expect("made");
        pems.revoked = revoked.map(str::to_owned);
        Arc::new(Authority::new(&pems, now).expect("good"))
    }

    #[tokio::test]
    async fn what_changes_is_published_and_what_is_not_said_stays() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = base.path().join("published");
        let (roots, lists) = (folder.join(ROOTS), folder.join(CRL));
        let first = authority(None);
        let (sender, signing) = watch::channel(first.clone());
        let publishing = Publishing::new(folder.clone(), signing).expect("written");
        assert_eq!(fs::read_to_string(&roots).expect("roots"), first.roots());
        assert!(!lists.exists());

        let running = tokio::spawn(publishing.run());
        let second = authority(Some(""));
        sender.send_replace(second.clone());
        drop(sender);
        running.await.expect("it ends with the authority");
        assert_eq!(fs::read_to_string(&roots).expect("roots"), second.roots());
        assert!(!lists.exists(), "nothing is revoked");

        fs::write(&lists, "lists of before").expect("written");
        for (said, found) in [(None, "lists of before"), (Some(""), "")] {
            write_all(&folder, &authority(said)).expect("written");
            assert_eq!(
                fs::read_to_string(&lists).expect("lists"),
                found,
                "{said:?}"
            );
        }
        let names = fs::read_dir(&folder).expect("a folder").count();
        assert_eq!(names, 2, "no draft stays");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let base = tempfile::tempdir().expect("a folder");
        let file = base.path().join("file");
        fs::write(&file, "").expect("written");
        let (_sender, signing) = watch::channel(authority(None));
        let error = Publishing::new(file.clone(), signing).expect_err("no folder");
        assert!(error.starts_with(&file.display().to_string()), "{error}");
    }
}
