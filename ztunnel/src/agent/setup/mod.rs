//! The agent installs the CNI plugin on its node, and keeps it installed: other components write the same files.

mod files;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ambit_core::cni::conflist;
use ambit_telemetry::readiness::Readiness;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::json;
use tokio::sync::Notify;

use super::config::Config;
pub(super) use files::{Installation, Trouble};

/// A file that is being rewritten is left alone for this long.
const QUIET: Duration = Duration::from_millis(100);
/// The files are looked at this often even if nothing is heard of them.
const LOOK: Duration = Duration::from_secs(60);
/// After trouble.
const AGAIN: Duration = Duration::from_secs(2);
const TASK: &str = "installing the CNI plugin";

impl Installation {
    /// As the settings say; the plugin is this very program.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            bin: config.cni_bin_dir.clone(),
            conf: config.cni_conf_dir.clone(),
            plugin: json!({
                "type": conflist::PLUGIN,
                "agentSocket": config.socket,
                "excludeNamespaces": config.exclude_namespaces,
            }),
            over: Arc::default(),
        }
    }
}

/// Installs the plugin and keeps it installed, until another agent has taken over: `ours` is false then. The process is
/// ready while the plugin is there.
pub(super) async fn keep(
    installation: Installation,
    readiness: &Readiness,
    ours: impl Fn() -> bool,
) {
    let mut task = Some(readiness.task(TASK));
    let mut told: Option<Trouble> = None;
    let changed = Arc::new(Notify::new());
    let mut watcher = None;
    while ours() {
        // Watched before it is looked at, so that no change falls between. A folder that is not there yet is looked for.
        if watcher.is_none() {
            watcher = watch(&installation.conf, changed.clone()).ok();
        }
        let files = installation.clone();
        let done = tokio::task::spawn_blocking(move || files.install()).await;
        let pause = match done.expect("installing does not panic and is not cancelled") {
            Ok(_) => {
                (task, told) = (None, None);
                LOOK
            }
            Err(trouble) => {
                if told.as_ref() != Some(&trouble) {
                    tracing::error!(%trouble, "the CNI plugin is not installed");
                }
                told = Some(trouble);
                task = task.or_else(|| Some(readiness.task(TASK)));
                AGAIN
            }
        };
        let _ = tokio::time::timeout(pause, changed.notified()).await;
        while tokio::time::timeout(QUIET, changed.notified())
            .await
            .is_ok()
        {}
    }
    tracing::info!("a newer agent sees to the CNI plugin");
}

fn watch(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading is no change; a lost event may hide one.
        let matters = event.map_or(true, |event| match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        });
        if matters {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(on_event)?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
