//! Files that outlive the process, for itself alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes a folder that nobody else can look into, unless it is there.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new, empty file that nobody else can read; what was there is gone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Where the next content of a file is written, before it takes the file's place.
pub(crate) fn draft(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Replaces a file as a whole.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    create(&draft)?.write_all(content)?;
    fs::rename(draft, path)
}
