//! The chain of CNI plugins that a node's files name, as container runtimes read it: the first file by
//! name; its first plugin is the lab's own network, the others are programs of the node.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::host::NodeFiles;
use crate::cluster::LabNode;
use crate::mesh::Plugin;
use crate::stage::Mode;

/// The plugins after the lab's own network, in order.
///
/// # Errors
/// What is wrong with the chain; no pod can start then.
pub(super) fn plugins(node: &LabNode, mode: Mode) -> Result<Vec<Plugin>, String> {
    let files = NodeFiles::of(&node.name);
    let (file, chain) = first(&files.chains())?;
    let words = |text: &str| format!("{}: {text}", file.display());
    let listed = chain["plugins"].as_array().cloned().unwrap_or_default();
    if listed.is_empty() {
        return Err(words("no plugins"));
    }
    let mut plugins = Vec::new();
    for mut config in listed.into_iter().skip(1) {
        let kind = config["type"]
            .as_str()
            .ok_or_else(|| words("a plugin without a type"))?;
        let program = files.plugin(kind);
        let Some(settings) = config.as_object_mut() else {
            return Err(words("a plugin that is no object"));
        };
        for field in ["cniVersion", "name"] {
            settings.insert(field.to_owned(), chain[field].clone());
        }
        plugins.push(Plugin {
            program,
            config,
            mounts: files.mounts().map_err(|error| error.to_string())?,
            folder: files.place(Path::new("/var/lib")),
            mode,
        });
    }
    Ok(plugins)
}

fn first(folder: &Path) -> Result<(PathBuf, Value), String> {
    let words = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(words)?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "conflist"));
    files.sort();
    let Some(file) = files.into_iter().next() else {
        return Err(format!("{}: no network is configured", folder.display()));
    };
    let text = fs::read(&file).map_err(words)?;
    let chain =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((file, chain))
}
