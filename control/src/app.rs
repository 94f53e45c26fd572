//! Puts the parts together and runs them until a signal.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ambit_net::tls::plain_server_config;
use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::admin::metrics::Metrics;
use crate::admin::{self, Admin};
use crate::ca::service::Service as CaService;
use crate::cli::control::Settings;
use crate::dispatch::Dispatch;
use crate::engine::{self, State};
use crate::push::connections::Connections;
use crate::push::server::Server as XdsServer;
use crate::source::files::{Folder, watch as files};
use crate::tls::{self, ServerCertificate};

/// A dead peer is noticed within twice this.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Streams are told to go, and are then waited for this long.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the control plane until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot listen, or the source cannot be read at the start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let xds = listen(settings.xds_address)
        .await
        .context("--xds-address")?;
    let admin_listener = listen(settings.admin_address)
        .await
        .context("--admin-address")?;
    let addresses = (xds.local_addr()?, admin_listener.local_addr()?);

    let (stop, stopping) = watch::channel(false);
    let state = Arc::new(State::new(settings.mesh));
    let connections = Arc::new(Connections::default());
    let metrics = Arc::new(Metrics::default());
    let tokens = Arc::new(settings.tokens);
    let authority = Arc::new(settings.authority);
    let names = settings.dns_names;
    let certificate = ServerCertificate::new(authority.clone(), names)
        .map_err(|error| anyhow!("the server certificate: {error}"))?;
    let certificate = Arc::new(certificate);

    let (deliveries, delivered) = mpsc::channel(16);
    tokio::spawn(engine::run(state.clone(), delivered));
    let (rescan, rescans) = mpsc::channel(16);
    let source = tokio::spawn(files::run(
        Folder::new(settings.source),
        deliveries,
        rescans,
    ));
    let admin = Admin {
        state: state.clone(),
        connections: connections.clone(),
        metrics: metrics.clone(),
        rescan,
        instance: format!("{:016x}", rand::random::<u64>()),
        settings: Arc::new(settings.shown),
    };
    tokio::spawn(admin::serve(admin, admin_listener, stopping.clone()));
    tokio::spawn(certificate.clone().keep_fresh());

    // Proxies are let in once there is something to tell them: an empty mesh would replace theirs.
    let mut loaded = state.loaded();
    tokio::select! {
        _ = loaded.wait_for(|loaded| *loaded) => {}
        ended = source => {
            let why = ended.map_err(|error| anyhow!(error))?;
            return Err(anyhow!("--source: {}", why.err().unwrap_or_else(|| "ended".to_owned())));
        }
    }
    let xds_service = XdsServer {
        state: state.clone(),
        connections,
        tokens: tokens.clone(),
        metrics: metrics.clone(),
        stopping: stopping.clone(),
    };
    let ca_service = CaService {
        authority,
        tokens,
        state,
        metrics,
        trusted: settings.trusted_node_accounts,
        lifetime: settings.certificate_lifetime,
    };
    let incoming = tls::accept(xds, plain_server_config(certificate)?, stopping.clone());
    let mut stopped = stopping.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .serve_with_incoming_shutdown(
            Dispatch::new(xds_service, ca_service),
            ReceiverStream::new(incoming),
            async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            },
        );
    let server = tokio::spawn(server);
    announce(addresses, settings.ready_file.as_deref()).context("--ready-file")?;

    terminated().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended?.context("serving xDS")?,
        Err(_) => tracing::info!("some streams did not end in time"),
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// Tells the addresses that were chosen; the file appears complete or not at all.
fn announce((xds, admin): (SocketAddr, SocketAddr), file: Option<&Path>) -> io::Result<()> {
    if let Some(file) = file {
        let mut draft = file.as_os_str().to_owned();
        draft.push(".new");
        let text = serde_json::json!({"xds": xds, "admin": admin}).to_string();
        std::fs::write(&draft, text + "\n")?;
        std::fs::rename(&draft, file)?;
    }
    tracing::info!(%xds, %admin, "ready");
    Ok(())
}

async fn terminated() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
