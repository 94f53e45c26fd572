//! The folder of objects that the control plane reads: one file an object, replaced whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::api::{ALL_KINDS, Key, Kind, Store};

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct SourceFolder {
    root: PathBuf,
}

/// A file's new contents, or nothing when it goes.
pub(super) type Change = (PathBuf, Option<Vec<u8>>);

/// Kinds that only the lab acts upon: they hold programs' secrets or grow with every pod.
const UNEXPORTED: &[&str] = &["Secret", "ReplicaSet"];

impl SourceFolder {
    pub(super) fn new(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// What changed since this was asked last.
    pub(super) fn collect(&self, store: &mut Store) -> Vec<Change> {
        let mut changes = Vec::new();
        for kind in ALL_KINDS
            .iter()
            .filter(|kind| !UNEXPORTED.contains(&kind.kind))
        {
            for (key, value) in store.take_changed(kind) {
                let content =
                    value.map(|value| serde_json::to_vec_pretty(&value).unwrap_or_default());
                changes.push((self.file(kind, &key), content));
            }
        }
        changes
    }

    fn file(&self, kind: &Kind, key: &Key) -> PathBuf {
        let name = format!("{}_{}.json", key.namespace, key.name);
        self.root.join(kind.kind.to_ascii_lowercase()).join(name)
    }

    /// Makes the changes. A reader sees each file whole.
    pub(super) fn write(&self, changes: &[Change]) -> io::Result<()> {
        for (path, content) in changes {
            let Some(content) = content else {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => continue,
                }
            };
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = path.with_extension("new");
            fs::write(&new, content)?;
            fs::rename(&new, path)?;
        }
        Ok(())
    }
}
