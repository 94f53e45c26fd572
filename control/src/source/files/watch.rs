//! Drives a [`Folder`]: scans when something below it changes, or when asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::super::{Deliveries, Delivery, Rescan};
use super::Folder;

/// A burst of changes is over when nothing happened for this long ...
const QUIET: Duration = Duration::from_millis(50);
/// ... and is scanned after this long in any case.
const LONGEST: Duration = Duration::from_millis(500);

/// Scans the folder once, then for every change and every request, until the index or those who
/// ask are gone.
///
/// # Errors
/// The folder cannot be watched or read at the start; later failures are logged and retried at
/// the next change.
pub async fn run(
    mut folder: Folder,
    deliveries: Deliveries,
    mut requests: mpsc::Receiver<Rescan>,
) -> Result<(), String> {
    let changed = Arc::new(Notify::new());
    // Watched before the first scan, so that no change falls between.
    let _watcher = watch(folder.root(), changed.clone())?;
    let mut asked: Option<Rescan> = None;
    let mut first = true;
    loop {
        let (back, result) = scan(folder, &deliveries).await;
        folder = back;
        match (&result, first) {
            (Err(error), true) => return Err(error.clone()),
            (Err(error), false) => tracing::error!(%error, "the source was not read"),
            _ => {}
        }
        first = false;
        if let Some(asked) = asked.take() {
            // Whoever asked may have given up.
            let _ = asked.send(result);
        }
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => asked = Some(request),
                None => return Ok(()),
            },
            () = changed.notified() => asked = settle(&changed, &mut requests).await,
        }
    }
}

async fn scan(mut folder: Folder, deliveries: &Deliveries) -> (Folder, Result<u64, String>) {
    let root = folder.root().to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let result = folder.scan();
        (folder, result)
    });
    let (folder, result) = match task.await {
        Ok(done) => done,
        Err(error) => return (Folder::new(root), Err(format!("scanning stopped: {error}"))),
    };
    let batch = match result {
        Ok(batch) => batch,
        Err(error) => {
            let error = format!("folder {}: {error}", root.display());
            return (folder, Err(error));
        }
    };
    let (applied, generation) = oneshot::channel();
    let result = match deliveries.send(Delivery { batch, applied }).await {
        Ok(()) => generation.await.map_err(|_| STOPPING.to_owned()),
        Err(_) => Err(STOPPING.to_owned()),
    };
    (folder, result)
}

const STOPPING: &str = "the control plane is stopping";

/// Waits for the end of a burst of changes, or for somebody who asks: all that he has written is there.
async fn settle(changed: &Notify, requests: &mut mpsc::Receiver<Rescan>) -> Option<Rescan> {
    let end = Instant::now() + LONGEST;
    loop {
        let quiet = (Instant::now() + QUIET).min(end);
        tokio::select! {
            asked = requests.recv() => return asked,
            () = changed.notified() => {}
            () = sleep_until(quiet) => return None,
        }
    }
}

fn watch(root: &Path, changed: Arc<Notify>) -> Result<RecommendedWatcher, String> {
    let on_event = move |event: notify::Result<notify::Event>| {
        // A lost or failed event may hide a change: look.
        if event.map_or(true, |event| matters(event.kind)) {
            changed.notify_one();
        }
    };
    let cannot =
        |error: notify::Error| format!("folder {} cannot be watched: {error}", root.display());
    let mut watcher = notify::recommended_watcher(on_event).map_err(cannot)?;
    watcher
        .watch(root, RecursiveMode::Recursive)
        .map_err(cannot)?;
    Ok(watcher)
}

/// Reading is no change; scanning would otherwise wake itself.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
