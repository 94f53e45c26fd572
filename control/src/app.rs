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
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::admin::metrics::Metrics;
use crate::admin::{self, Admin, Asked};
use crate::ca::publish::Publishing;
use crate::ca::secret::follow_secrets;
use crate::ca::service::Service as CaService;
use crate::ca::{Certificates, Signing};
use crate::cli::control::{Kubernetes, Place, Settings};
use crate::cluster::{self, Cluster, bundles, lease, statuses};
use crate::dispatch::Dispatch;
use crate::engine::{self, State};
use crate::push::connections::Connections;
use crate::push::server::Server as XdsServer;
use crate::push::steps::{Pace, Steps};
use crate::source::files::{Folder, watch as files};
use crate::source::{Deliveries, Rescan, kube};
use crate::tls::{self, Origin, ServerCertificate};
use crate::tokens::review::Reviews;
use crate::tokens::{Authenticator, Callers};
use crate::waypoints;

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
    let (serve, serving) = watch::channel(false);
    let state = Arc::new(State::new(settings.mesh));
    let connections = Arc::new(Connections::default());
    let metrics = Arc::new(Metrics::default());

    let (deliveries, delivered) = mpsc::channel(16);
    let steps = Steps::new(connections.clone(), pace(&settings.place));
    tokio::spawn(engine::run(state.clone(), delivered, steps));
    let (rescan, rescans) = mpsc::channel(16);
    let admin = Admin {
        state: state.clone(),
        connections: connections.clone(),
        metrics: metrics.clone(),
        rescan,
        instance: format!("{:016x}", rand::random::<u64>()),
        settings: Arc::new(settings.shown),
        serving,
    };
    if let Some(address) = settings.health_address {
        let listener = listen(address).await.context("--health-address")?;
        let health = admin::serve(admin.clone(), Asked::Health, listener, stopping.clone());
        tokio::spawn(health);
    }
    let served = admin::serve(admin, Asked::All, admin_listener, stopping.clone());
    tokio::spawn(served);

    // Proxies are let in once there is something to tell them: an empty mesh would replace theirs.
    let mut loaded = state.loaded();
    let starting = async {
        let mut started = start(
            settings.place,
            &state,
            deliveries,
            rescans,
            stopping.clone(),
        )
        .await?;
        tokio::select! {
            _ = loaded.wait_for(|loaded| *loaded) => Ok(started),
            ended = &mut started.source => {
                let why = ended.map_err(|error| anyhow!(error))?;
                Err(anyhow!("--source: {}", why.err().unwrap_or_else(|| "ended".to_owned())))
            }
        }
    };
    let started = tokio::select! {
        started = starting => started?,
        stopped = terminated() => return Ok(stopped?),
    };
    let callers = Arc::new(Callers {
        tokens: started.tokens,
        authority: match &started.certificates {
            Certificates::Here(signing) => Some(signing.clone()),
            Certificates::Elsewhere(_) => None,
        },
        trust_domains: state.index().mesh().trust_domains.clone(),
    });
    let origin = match &started.certificates {
        Certificates::Here(signing) => Origin::Signed {
            authority: signing.clone(),
            names: settings.dns_names,
        },
        Certificates::Elsewhere(external) => Origin::Kept {
            folder: external.folder.clone(),
            names: external.names.clone(),
        },
    };
    let certificate = ServerCertificate::new(origin)
        .map_err(|error| anyhow!("the server certificate: {error}"))?;
    let certificate = Arc::new(certificate);
    tokio::spawn(certificate.clone().keep_fresh());
    let xds_service = XdsServer {
        state: state.clone(),
        connections,
        callers: callers.clone(),
        metrics: metrics.clone(),
        stopping: stopping.clone(),
    };
    let certificates = match started.certificates {
        Certificates::Here(authority) => Certificates::Here(CaService {
            authority,
            callers,
            state,
            metrics,
            trusted: settings.trusted_node_accounts,
            lifetime: settings.certificate_lifetime,
        }),
        Certificates::Elsewhere(external) => Certificates::Elsewhere(external),
    };
    let incoming = tls::accept(xds, plain_server_config(certificate)?, stopping.clone());
    let mut stopped = stopping.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .serve_with_incoming_shutdown(
            Dispatch::new(xds_service, certificates),
            ReceiverStream::new(incoming),
            async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            },
        );
    let server = tokio::spawn(server);
    serve.send_replace(true);
    announce(addresses, settings.ready_file.as_deref()).context("--ready-file")?;

    terminated().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended?.context("serving xDS")?,
        Err(_) => tracing::info!("some streams did not end in time"),
    }
    if let Some(writing) = started.writing {
        let _ = tokio::time::timeout(GRACE, writing).await;
    }
    Ok(())
}

/// How fast a service comes from one waypoint to another.
fn pace(place: &Place) -> Pace {
    match place {
        Place::Folder(_) => Pace {
            arrives: Duration::ZERO,
            leaves: Duration::from_secs(1),
        },
        // Another replica may be a little later, or wait for a proxy that does not answer.
        Place::Kubernetes(_) => Pace {
            arrives: Duration::from_secs(1),
            leaves: Duration::from_secs(15),
        },
    }
}

/// What differs between a folder and a cluster.
struct Started {
    source: JoinHandle<Result<(), String>>,
    certificates: Certificates<Signing>,
    tokens: Authenticator,
    /// Ends when the Lease is given back.
    writing: Option<JoinHandle<()>>,
}

/// Takes part in the election of who writes; its winner writes statuses, waypoints, and the roots of an authority
/// of our own.
fn write(
    cluster: &Cluster,
    state: &Arc<State>,
    certificates: &Certificates<Signing>,
    on: &Kubernetes,
    stopping: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let (held, holds) = watch::channel(None);
    tokio::spawn(statuses::run(cluster.clone(), state.clone(), holds.clone()));
    if let Certificates::Here(signing) = certificates {
        for bundle in [bundles::ROOTS, bundles::REVOKED] {
            tokio::spawn(bundles::run(
                bundle,
                cluster.clone(),
                on.namespace.clone(),
                state.clone(),
                signing.clone(),
                holds.clone(),
            ));
        }
    }
    if let Some(image) = &on.waypoint_image {
        let domain = state.index().mesh().cluster_domain.clone();
        let settings = waypoints::Settings {
            image: image.clone(),
            control: format!("https://ambit-control.{}.svc.{domain}:15012", on.namespace),
            authority: on.external.as_ref().map(|it| it.address.clone()),
            roots: None,
            token: None,
            replicas: 1,
        };
        let keeping = cluster::waypoints::run(cluster.clone(), state.clone(), settings, holds);
        tokio::spawn(keeping);
    }
    tokio::spawn(lease::run(
        cluster.clone(),
        on.namespace.clone(),
        on.identity.clone(),
        held,
        stopping,
    ))
}

async fn start(
    place: Place,
    state: &Arc<State>,
    deliveries: Deliveries,
    rescans: mpsc::Receiver<Rescan>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<Started> {
    match place {
        Place::Folder(folder) => {
            let certificates = match folder.authority {
                Certificates::Here(on_disk) => {
                    let private = on_disk.folder().to_owned();
                    let (signing, keeping) = on_disk.follow();
                    tokio::spawn(keeping);
                    if let Some(published) = folder.published {
                        let publishing = Publishing::new(published, &private, signing.clone())
                            .map_err(|error| anyhow!("--publish-dir: {error}"))?;
                        tokio::spawn(publishing.run());
                    }
                    Certificates::Here(signing)
                }
                Certificates::Elsewhere(external) => Certificates::Elsewhere(external),
            };
            let source = files::run(Folder::new(folder.source), deliveries, rescans);
            Ok(Started {
                source: tokio::spawn(source),
                certificates,
                tokens: Authenticator::Keys(folder.tokens),
                writing: None,
            })
        }
        Place::Kubernetes(on) => {
            let cluster = Cluster::inferred().await.map_err(|error| anyhow!(error))?;
            let source = tokio::spawn(kube::run(cluster.clone(), deliveries, rescans));
            let certificates = match on.external.clone() {
                Some(external) => Certificates::Elsewhere(external),
                None => Certificates::Here(own_authority(&cluster, state, &on).await?),
            };
            let writing = write(&cluster, state, &certificates, &on, stopping);
            Ok(Started {
                source,
                certificates,
                tokens: Authenticator::Reviews(Reviews::new(cluster, on.token_audiences)),
                writing: Some(writing),
            })
        }
    }
}

/// The authority that is in Secrets of the control plane's namespace.
async fn own_authority(
    cluster: &Cluster,
    state: &State,
    on: &Kubernetes,
) -> anyhow::Result<Signing> {
    let trust_domain = state.index().mesh().trust_domains.own().to_string();
    follow_secrets(cluster.clone(), on.namespace.clone(), trust_domain)
        .await
        .map_err(|error| anyhow!(error))
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
