//! Keeps the volumes of a running pod as their sources are: config maps and secrets that change, tokens
//! that are about to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep, sleep_until};

use super::host::NodeFiles;
use super::tokens::{self, Tokens};
use super::volumes;
use crate::cluster::Cluster;

/// Changes come in bursts, and no program waits for a file.
const PAUSE: Duration = Duration::from_secs(1);

/// Brings the volumes below `folder` up to date, for ever.
pub(super) async fn keep(
    cluster: Arc<Cluster>,
    node: NodeFiles,
    pod: Pod,
    folder: PathBuf,
    mut tokens: Tokens,
) {
    let mut changes = cluster.changes();
    let mut renewal = Instant::now() + tokens.lasting();
    loop {
        let due = tokio::select! {
            _ = changes.changed() => false,
            () = sleep_until(renewal) => true,
        };
        sleep(PAUSE).await;
        changes.mark_unchanged();
        if due {
            match tokens::of_pod(&cluster, &pod).await {
                Ok(new) => tokens = new,
                Err(error) => tracing::warn!(%error, "cannot renew a pod's token"),
            }
            renewal = Instant::now() + tokens.lasting();
        }
        let made = cluster.read(|store| {
            let sources = volumes::Sources {
                store,
                tokens: &tokens,
                pod: &pod,
                node: &node,
            };
            volumes::make(&sources, &folder)
        });
        // What was there stays: a program keeps its files when their source is deleted.
        if let Err(error) = made {
            tracing::debug!(%error, "a pod's volumes stay as they are");
        }
    }
}
