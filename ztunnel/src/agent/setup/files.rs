//! The plugin's files on the node: its binary, and its place in the network configuration.
//!
//! Every file appears complete or not at all. The binary comes first and goes last: a configuration that names what is not
//! there stops every pod of the node.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambit_core::cni::conflist::{PLUGIN, chained, unchained};
use parking_lot::Mutex;
use serde_json::Value;

/// What a runtime reads as configurations.
const CONFIGURATIONS: [&str; 3] = ["conf", "conflist", "json"];
/// Put behind the name of a configuration that became a list.
const KEPT: &str = ".before-ambit";

/// Where the plugin is installed, and what.
#[derive(Debug, Clone)]
pub(in super::super) struct Installation {
    /// The program that is the plugin.
    pub(super) program: PathBuf,
    /// The node's folder of plugins.
    pub(super) bin: PathBuf,
    /// The node's folder of configurations.
    pub(super) conf: PathBuf,
    /// The plugin's own part of a configuration.
    pub(super) plugin: Value,
    /// It was removed, and is not to be installed again by whoever keeps it installed.
    pub(super) over: Arc<Mutex<bool>>,
}

/// What kept the plugin from being installed or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub(in super::super) struct Trouble {
    path: PathBuf,
    reason: String,
}

fn at<T>(path: &Path, done: Result<T, impl ToString>) -> Result<T, Trouble> {
    done.map_err(|error| Trouble {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

impl Installation {
    /// Sees to it that the plugin is there; whether something had to be done for it.
    ///
    /// # Errors
    /// The file, and what is wrong with it. The node's network configuration is as it was.
    pub(in super::super) fn install(&self) -> Result<bool, Trouble> {
        let over = self.over.lock();
        if *over {
            return Ok(false);
        }
        let copied = self.copy()?;
        let Some(path) = first(&self.conf)? else {
            return Err(Trouble {
                path: self.conf.clone(),
                reason: "no network configuration is there yet".to_owned(),
            });
        };
        let text = at(&path, fs::read_to_string(&path))?;
        let Some(edited) = at(&path, chained(&text, &self.plugin))? else {
            return Ok(copied);
        };
        let list = path.with_extension("conflist");
        at(&list, replace(&list, edited.as_bytes(), mode(&path)))?;
        if list != path {
            at(&path, fs::rename(&path, kept(&path)))?;
        }
        tracing::info!(file = %list.display(), "the CNI plugin is in the network configuration");
        Ok(true)
    }

    /// Takes the plugin out of every configuration, and removes it.
    ///
    /// # Errors
    /// The first file that could not be changed; the others were.
    pub(in super::super) fn remove(&self) -> Result<(), Trouble> {
        let mut over = self.over.lock();
        *over = true;
        let mut trouble = None;
        for path in configurations(&self.conf)? {
            if let Err(error) = take_out(&path) {
                tracing::error!(%error, "the CNI plugin stays in a network configuration");
                trouble.get_or_insert(error);
            }
        }
        // A configuration that still names it needs it.
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let binary = self.bin.join(PLUGIN);
        match fs::remove_file(&binary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => at(&binary, Err(error)),
            _ => Ok(()),
        }
    }

    fn copy(&self) -> Result<bool, Trouble> {
        let binary = self.bin.join(PLUGIN);
        let program = at(&self.program, fs::read(&self.program))?;
        if fs::read(&binary).is_ok_and(|there| there == program) && mode(&binary) == 0o755 {
            return Ok(false);
        }
        at(&binary, replace(&binary, &program, 0o755))?;
        Ok(true)
    }
}

fn take_out(path: &Path) -> Result<(), Trouble> {
    let text = at(path, fs::read_to_string(path))?;
    // What cannot be read does not run the plugin either.
    let Ok(Some(edited)) = unchained(&text) else {
        return Ok(());
    };
    let singles = ["conf", "json"].map(|extension| path.with_extension(extension));
    match singles.iter().find(|single| kept(single).exists()) {
        Some(single) => {
            at(single, fs::rename(kept(single), single))?;
            at(path, fs::remove_file(path))
        }
        None => at(path, replace(path, edited.as_bytes(), mode(path))),
    }
}

/// The configuration that runtimes take: the first by name.
fn first(folder: &Path) -> Result<Option<PathBuf>, Trouble> {
    Ok(configurations(folder)?.into_iter().next())
}

fn configurations(folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    for entry in at(folder, fs::read_dir(folder))? {
        let path = at(folder, entry)?.path();
        let extension = path.extension().and_then(OsStr::to_str);
        if extension.is_some_and(|it| CONFIGURATIONS.contains(&it)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(KEPT);
    name.into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777)
}

/// Writes beside the file and renames; runtimes do not read the file beside it.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new-ambit");
    let new = PathBuf::from(name);
    let written = (|| {
        fs::write(&new, content)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
