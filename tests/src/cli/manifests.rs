//! Reads manifest files and folders.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::api::Manifest;

/// The manifests of files, folders (with everything below) and `-`.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            manifests.push(Manifest {
                file: "standard input".to_owned(),
                text,
            });
        } else if path.is_dir() {
            let before = manifests.len();
            read_folder(path, &mut manifests)?;
            if manifests.len() == before {
                bail!("{}: no .yaml, .yml or .json file in it", path.display());
            }
        } else {
            manifests.push(read_file(path)?);
        }
    }
    Ok(manifests)
}

fn read_folder(folder: &Path, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_folder(&path, manifests)?;
        } else if is_manifest(&path) {
            manifests.push(read_file(&path)?);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    // A kustomization is about manifests and none itself.
    let name = path.file_stem().unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str());
    name != "kustomization" && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn read_file(path: &Path) -> anyhow::Result<Manifest> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(Manifest {
        file: path.display().to_string(),
        text,
    })
}
