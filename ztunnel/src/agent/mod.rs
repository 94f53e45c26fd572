//! The node agent: which pods of this node are in the mesh, and the way there.
//!
//! The CNI plugin asks it for every pod that starts. A pod that is in the mesh gets its redirection and is given to the
//! node proxy; only then does its start go on. Whatever fails, fails the start, with the reason: a pod that should be
//! protected never runs unprotected.

mod admin;
mod api;
pub mod cni;
mod config;
mod enrolment;
mod exchange;
mod locks;
mod pod;
mod reconcile;
mod records;
mod source;

use std::path::Path;
use std::sync::Arc;

use ambit_net::zds;
use ambit_telemetry::readiness::Readiness;

pub use config::Config;
pub use enrolment::Enrolment;
pub use pod::{Decision, Labels, Pod, decide};
pub use reconcile::{Action, reconcile};
pub use source::{HttpSource, Source, SourceError};

/// Runs the agent until it is ended.
///
/// # Errors
/// When it cannot start: a socket that cannot be bound, a folder that cannot be read.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let recovering = readiness.task("recovering the pods of an earlier agent");
    let source = HttpSource::new(&config.source_url, &config.node_name)?;
    for path in [&config.zds_socket, &config.socket] {
        make_parent(path)?;
    }
    let proxies = zds::Server::bind(&config.zds_socket, config.proxy_timeout)?;
    let requests = api::listen(&config.socket)?;
    let enrolment = Arc::new(Enrolment::open(&config, source, proxies.clone())?);
    // Before any proxy is accepted: a snapshot without them would take their traffic down.
    enrolment.recover().await?;
    drop(recovering);

    let admin = admin::serve(&config, &readiness, &enrolment).await?;
    let tidy = enrolment.clone();
    tokio::spawn(async move { tidy.forget_gone().await });
    tracing::info!(
        node = config.node_name,
        socket = %config.socket.display(),
        zds = %config.zds_socket.display(),
        "node agent started"
    );
    tokio::select! {
        () = proxies.run() => {}
        () = api::serve(requests, enrolment) => {}
        () = admin => {}
        ended = end() => ended?,
    }
    tracing::info!("node agent ends; the pods' redirections stay");
    Ok(())
}

async fn end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    use anyhow::Context;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
