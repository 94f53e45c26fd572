//! Commands beside something that runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stage::{self, ExecSpec, Target};

const FOLDER: &str = "/run/ambit-lab/exec";

/// Where a command runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whose namespaces.
    pub target: Target,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working folder.
    pub cwd: PathBuf,
}

/// The command that runs `argv` in `place`.
///
/// # Errors
/// When its description cannot be written.
pub fn command(place: &Place, argv: &[String]) -> io::Result<Command> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(FOLDER)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = Path::new(FOLDER).join(format!("{number}.json"));
    let spec = ExecSpec {
        target: place.target.clone(),
        argv: argv.to_vec(),
        env: place.env.clone(),
        cwd: place.cwd.clone(),
    };
    fs::write(&file, serde_json::to_vec(&spec)?)?;
    Ok(stage::command("__exec", &file))
}
