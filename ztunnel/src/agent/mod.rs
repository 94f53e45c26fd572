//! The node agent: which pods of this node are in the mesh, and the way there.
//!
//! The CNI plugin asks it for every pod that starts. A pod that is in the mesh gets its redirection and is given to the
//! node proxy; only then does its start go on. Whatever fails, fails the start, with the reason: a pod that should be
//! protected never runs unprotected.

mod admin;
mod api;
pub mod cni;
mod config;
mod doubt;
mod enrolment;
mod exchange;
mod failing;
mod kubernetes;
mod late;
mod locks;
mod pod;
mod probes;
mod processes;
mod recapture;
mod reconcile;
mod records;
mod setup;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_net::zds;
use ambit_telemetry::readiness::Readiness;
use tokio::time::Instant;

pub use config::Config;
pub use enrolment::Enrolment;
pub use failing::Complaint;
pub use kubernetes::{CALLS, Call, KubernetesSource};
pub use pod::{Decision, Labels, MARK, Mark, Pod, decide};
pub use reconcile::{Action, reconcile};
pub use source::{HttpSource, Source, SourceError};

/// An agent that ends asks for this long whether its installation is gone: less than its pod is given to end.
const DOUBT: Duration = Duration::from_secs(45);
const AGAIN: Duration = Duration::from_secs(1);

/// Runs the agent until it is ended.
///
/// # Errors
/// When it cannot start: a socket that cannot be bound, a folder that cannot be read.
pub async fn run(config: Config) -> anyhow::Result<()> {
    match config.source_url.as_str() {
        "kubernetes" => {
            let connected = KubernetesSource::connect(&config.node_name, &config.pod_namespace);
            run_with(&config, connected.await?).await
        }
        url => {
            let source = HttpSource::new(url, &config.node_name)?;
            run_with(&config, source).await
        }
    }
}

async fn run_with<S: Source>(config: &Config, source: S) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let recovering = readiness.task("recovering the pods of an earlier agent");
    for path in [&config.zds_socket, &config.socket] {
        make_parent(path)?;
    }
    let proxies = zds::Server::bind(&config.zds_socket, config.proxy_timeout)?;
    let requests = api::listen(&config.socket)?;
    let ours = api::owner(&config.socket)?;
    doubt::clear(&config.socket)?;
    let enrolment = Arc::new(Enrolment::open(config, source, proxies.clone())?);
    // Before any proxy is accepted: a snapshot without them would take their traffic down.
    enrolment.recover().await?;
    drop(recovering);

    let admin = admin::serve(config, &readiness, &enrolment).await?;
    let listing = readiness.task("listing pods and namespaces");
    let (following, still_ours) = (enrolment.clone(), ours.clone());
    tokio::spawn(async move { following.follow(listing, still_ours).await });
    tokio::spawn(enrolment.probes.clone().keep(ours.clone()));
    let installation = config.install.then(|| setup::Installation::new(config));
    if let Some(installation) = installation.clone() {
        let still_ours = ours.clone();
        tokio::spawn(async move { setup::keep(installation, &readiness, still_ours).await });
    }
    tracing::info!(
        node = config.node_name,
        socket = %config.socket.display(),
        zds = %config.zds_socket.display(),
        "node agent started"
    );
    let ending = async {
        end().await?;
        match uninstalled(&enrolment.source, ours).await {
            Some(true) => clean_up(config, installation.as_ref(), &enrolment).await,
            Some(false) => {}
            None => {
                tracing::warn!(
                    "the API server does not say whether the installation is gone: the CNI plugin stays for now"
                );
                doubt::note(&config.socket)?;
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = proxies.run() => {}
        () = api::serve(requests, enrolment.clone()) => {}
        () = admin => {}
        ended = ending => ended?,
    }
    tracing::info!("node agent ends");
    Ok(())
}

/// Whether the installation is gone; asked again for as long as the pod is given to end. An agent that was replaced has
/// nothing to ask.
async fn uninstalled(source: &impl Source, ours: impl Fn() -> bool) -> Option<bool> {
    let deadline = Instant::now() + DOUBT;
    while ours() {
        let said = source.uninstalled().await;
        if said.is_some() || Instant::now() >= deadline {
            return said;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Some(false)
}

/// Leaves the node as it was before the installation. What cannot be undone is told; the rest is.
async fn clean_up<S: Source>(
    config: &Config,
    installation: Option<&setup::Installation>,
    enrolment: &Enrolment<S>,
) {
    tracing::info!("the installation is gone: the node is cleaned up");
    // First, so that no pod that starts waits for an agent that ends.
    if let Some(Err(error)) = installation.map(setup::Installation::remove) {
        tracing::error!(%error, "the CNI plugin stays on the node");
    }
    if let Err(error) = enrolment.leave_node().await {
        tracing::error!(%error, "redirections stay on the node");
    }
    if let Some(folder) = &config.proxy_state_dir
        && let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "what node proxies knew stays on the node");
    }
    for socket in [&config.socket, &config.zds_socket] {
        if let Err(error) = std::fs::remove_file(socket) {
            tracing::warn!(socket = %socket.display(), %error, "a socket stays on the node");
        }
    }
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
