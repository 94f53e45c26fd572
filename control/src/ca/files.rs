//! The authority's material on disk, in the layout of Istio's `cacerts`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::follow::OnDisk;
use super::material::{Authority, Pems};

pub(super) const NAMES: [&str; 4] = [
    "ca-cert.pem",
    "ca-key.pem",
    "root-cert.pem",
    "cert-chain.pem",
];

/// Lists of certificates that are revoked, where there are any.
pub(crate) const CRL: &str = "ca-crl.pem";
/// What peers trust.
pub(crate) const ROOTS: &str = NAMES[2];

/// Reads the authority from a folder. When the folder is missing or empty, a new root is made
/// there: all of it or nothing, readable by its owner only.
///
/// # Errors
/// What is missing or wrong, with the file's name.
pub fn load_or_make(folder: &Path, trust_domain: &str) -> Result<OnDisk, String> {
    let now = SystemTime::now();
    if is_empty(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let pems = Pems::generate(trust_domain, now).map_err(|error| error.to_string())?;
        make(folder, &pems)
            .map_err(|error| format!("{}: cannot be made: {error}", folder.display()))?;
        tracing::info!(folder = %folder.display(), "made a new certificate authority");
    }
    let pems = read(folder)?;
    let authority = authority(folder, &pems, now)?;
    Ok(OnDisk::new(folder, pems, authority))
}

/// What the material of a folder is as an authority.
pub(super) fn authority(folder: &Path, pems: &Pems, now: SystemTime) -> Result<Authority, String> {
    Authority::new(pems, now).map_err(|error| format!("{}: {error}", folder.display()))
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

pub(super) fn read(folder: &Path) -> Result<Pems, String> {
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let optional = |name: &str| match fs::metadata(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => text(name).map(Some),
    };
    let revoked = optional(CRL)?;
    // Who copies a file empties it first. That must not take everything back.
    if revoked.as_ref().is_some_and(String::is_empty) {
        return Err(format!(
            "{}: it is empty, as a file is that is just being copied; where nothing is revoked, give it an empty line",
            folder.join(CRL).display()
        ));
    }
    Ok(Pems {
        ca_cert: text("ca-cert.pem")?,
        ca_key: text("ca-key.pem")?,
        root_cert: text("root-cert.pem")?,
        cert_chain: optional("cert-chain.pem")?.unwrap_or_default(),
        revoked,
    })
}

/// A folder beside the real one takes its place in one step.
fn make(folder: &Path, pems: &Pems) -> io::Result<()> {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let draft = parent.join(format!(".{name}.{}", std::process::id()));
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    DirBuilder::new().mode(0o700).create(&draft)?;
    let result = write_all(&draft, pems).and_then(|()| match fs::rename(&draft, folder) {
        // A mount point cannot be replaced; then its files are, the certificate last.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => write_all(folder, pems),
        other => other,
    });
    if result.is_err() || draft.exists() {
        let _ = fs::remove_dir_all(&draft);
    }
    result?;
    File::open(parent)?.sync_all()
}

fn write_all(folder: &Path, pems: &Pems) -> io::Result<()> {
    for (name, text) in pems.files().into_iter().rev() {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_or_empty_folder_is_filled_once() {
        let base = tempfile::tempdir().expect("a folder");
        for name in ["deep/new", "empty"] {
            let folder = base.path().join(name);
            if name == "empty" {
                fs::create_dir(&folder).expect("created");
            }
            let first = load_or_make(&folder, "td").expect("made");
            for name in NAMES {
                let mode = fs::metadata(folder.join(name))
                    .expect("there")
                    .permissions();
                assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
            }
            let again = load_or_make(&folder, "td").expect("read");
            assert_eq!(first.authority().roots(), again.authority().roots());
        }
        let left = fs::read_dir(base.path()).expect("read").count();
        assert_eq!(left, 2, "no draft stays");
    }

    #[test]
    fn an_incomplete_folder_is_an_error_and_is_left_alone() {
        let base = tempfile::tempdir().expect("a folder");
        fs::write(base.path().join("ca-key.pem"), "precious").expect("written");
        let error = load_or_make(base.path(), "td").expect_err("incomplete");
        assert!(error.contains("ca-cert.pem"), "{error}");
        let kept = fs::read_to_string(base.path().join("ca-key.pem")).expect("there");
        assert_eq!(kept, "precious");
    }
}
