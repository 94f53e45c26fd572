//! The folder of objects that the control plane reads: one file an object, replaced whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::api::{ALL_KINDS, Key, Kind, Store};

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct SourceFolder {
    root: PathBuf,
    /// Secrets that are in it.
    secrets: BTreeSet<Key>,
}

/// A file's new contents, or nothing when it goes.
pub(super) type Change = (PathBuf, Option<Vec<u8>>);

/// Kinds that only the lab acts upon: they hold programs' secrets or grow with every pod. A Secret that a
/// BackendTLSPolicy takes certificates from is the control plane's business as well.
const UNEXPORTED: &[&str] = &["Secret", "ReplicaSet"];

impl SourceFolder {
    pub(super) fn new(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            secrets: BTreeSet::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// What changed since this was asked last.
    pub(super) fn collect(&mut self, store: &mut Store) -> Vec<Change> {
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
        changes.extend(self.collect_secrets(store));
        changes
    }

    fn collect_secrets(&mut self, store: &mut Store) -> Vec<Change> {
        let kind = |name: &str| ALL_KINDS.iter().find(|it| it.kind == name);
        let Some((secret, policy)) = kind("Secret").zip(kind("BackendTLSPolicy")) else {
            return Vec::new();
        };
        let policies = store.list(policy, None);
        let wanted: BTreeSet<Key> = policies.iter().flat_map(certificates).collect();
        let changed = store.take_changed(secret).into_iter().map(|(key, _)| key);
        let changed = changed.filter(|key| wanted.contains(key) && self.secrets.contains(key));
        let mut touched: BTreeSet<Key> = changed.collect();
        touched.extend(wanted.symmetric_difference(&self.secrets).cloned());
        let changes = touched.into_iter().map(|key| {
            let value = wanted.contains(&key).then(|| store.find(secret, &key));
            let content = value
                .flatten()
                .map(|value| serde_json::to_vec_pretty(&value).unwrap_or_default());
            (self.file(secret, &key), content)
        });
        let changes = changes.collect();
        self.secrets = wanted;
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

/// The Secrets of a BackendTLSPolicy.
fn certificates(policy: &Value) -> Vec<Key> {
    let namespace = policy["metadata"]["namespace"].as_str().unwrap_or_default();
    let references = policy["spec"]["validation"]["caCertificateRefs"].as_array();
    let references = references.into_iter().flatten();
    references
        .filter(|it| it["kind"] == "Secret")
        .filter_map(|it| Some(Key::new(namespace, it["name"].as_str()?)))
        .collect()
}
