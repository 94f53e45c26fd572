//! The programs that take part: built with the profile of this program, found beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// Packages whose programs the lab starts.
const PACKAGES: [&str; 3] = ["ambit-lab", "ambit-ztunnel", "ambit-control"];

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    pub(crate) lab: PathBuf,
    pub(crate) ztunnel: PathBuf,
    pub(crate) echo: PathBuf,
    pub(crate) load: PathBuf,
}

/// Finds the programs, after building them when asked to.
pub(crate) fn find(build: bool) -> anyhow::Result<Binaries> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let folder = own.parent().context("this program is in no folder")?;
    if build {
        build_beside(folder)?;
    }
    let program = |name: &str| {
        let path = folder.join(name);
        if path.exists() {
            Ok(path)
        } else {
            bail!("{} is missing: run without --no-build", path.display())
        }
    };
    Ok(Binaries {
        lab: program("lab")?,
        ztunnel: program("ztunnel")?,
        echo: program("echo")?,
        load: program("load")?,
    })
}

fn build_beside(folder: &Path) -> anyhow::Result<()> {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => bail!("{} is no target folder", folder.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = folder
        .parent()
        .context("a target folder holds the profile's")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--bins", "--profile", profile]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    command
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    command.arg("--target-dir").arg(target);
    let status = command.status().context("cannot run cargo")?;
    if status.success() {
        Ok(())
    } else {
        bail!("cargo build failed ({status})")
    }
}
