//! What the control plane publishes of its authority: the lab brings it to every namespace, as the control plane does on a cluster,
//! and node proxies read it where it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::api::Published;
use crate::cluster::Cluster;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Where it is.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("published")
}

/// The file of the roots.
pub(super) fn roots(root: &Path) -> PathBuf {
    folder(root).join("root-cert.pem")
}

/// The file of revoked certificates, once there are any.
pub(super) fn lists(root: &Path) -> PathBuf {
    folder(root).join("ca-crl.pem")
}

/// What is published now.
pub(super) fn read(root: &Path) -> io::Result<Published> {
    let revoked = match fs::read_to_string(lists(root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read?),
    };
    Ok(Published {
        roots: fs::read_to_string(roots(root))?,
        revoked,
    })
}

/// Brings what changes to every namespace, for ever.
pub(super) async fn keep(cluster: Arc<Cluster>, root: PathBuf) {
    let mut said = None;
    loop {
        sleep(LOOK).await;
        match read(&root) {
            Ok(published) => {
                said = None;
                cluster.write(|store| store.publish(published));
            }
            Err(error) => {
                let error = Some(error.to_string());
                if said != error {
                    tracing::error!(error, "what the control plane publishes cannot be read");
                }
                said = error;
            }
        }
    }
}
