//! Writes what proxies have to know of the authority into a folder, as ConfigMaps have it on Kubernetes: whom they trust, and
//! whom they do not believe any longer.

use std::fs::{self, File};
use std::io::{self, Write as _};
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
    /// Publishes the authority of now, whose own folder is `private`.
    ///
    /// # Errors
    /// Which file cannot be written, and why; or the folder has the authority's key in it.
    pub fn new(folder: PathBuf, private: &Path, mut signing: Signing) -> Result<Self, String> {
        let now = signing.borrow_and_update().clone();
        let named = |it: &Path, error| format!("{}: {error}", it.display());
        fs::create_dir_all(&folder).map_err(|error| named(&folder, error))?;
        let real = |it: &Path| fs::canonicalize(it).map_err(|error| named(it, error));
        if real(private)?.starts_with(real(&folder)?) {
            let folder = folder.display();
            return Err(format!(
                "{folder} has the authority's key in it: name another folder"
            ));
        }
        write_all(&folder, &now)?;
        Ok(Self { folder, signing })
    }

    /// Publishes every change, until nobody keeps the authority any more.
    pub async fn run(mut self) {
        let mut failing = false;
        loop {
            tokio::select! {
                changed = self.signing.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if failing => {}
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
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
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
        let private = tempfile::tempdir().expect("a folder");
        let (roots, lists) = (folder.join(ROOTS), folder.join(CRL));
        let first = authority(None);
        let (sender, signing) = watch::channel(first.clone());
        let publishing = Publishing::new(folder.clone(), private.path(), signing);
        let publishing = publishing.expect("written");
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
    fn a_folder_that_cannot_be_written_or_has_the_key_is_named() {
        let base = tempfile::tempdir().expect("a folder");
        let (file, private) = (base.path().join("file"), base.path().join("deep/ca"));
        fs::write(&file, "").expect("written");
        fs::create_dir_all(&private).expect("made");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&private, &link).expect("made");
        let (_sender, signing) = watch::channel(authority(None));
        let key = "has the authority's key in it";
        for (folder, why) in [
            (file, "File exists"),
            (private.clone(), key),
            (private.join("../ca"), key),
            (link, key),
            (base.path().join("deep"), key),
        ] {
            let error = Publishing::new(folder.clone(), &private, signing.clone());
            let error = error.expect_err("no folder for it");
            assert!(error.starts_with(&folder.display().to_string()), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let below = private.join("published");
        assert!(Publishing::new(below, &private, signing).is_ok());
    }
}
