//! The process put together: what runs where, how it becomes ready and how it ends.
//!
//! Everything here runs on one thread of its own; traffic runs on the workers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_http::cluster::Clusters;
use ambit_net::ca::Wanted;
use ambit_net::hbone::Pool;
use ambit_net::sys::Sockets;
use ambit_net::xds;
use ambit_proxy::config::{Listen, Mesh};
use ambit_proxy::heap;
use ambit_proxy::{Denials, Departed, Drain, Drained, Hosts, Published, Whose, Workers};
use ambit_telemetry::admin::{self, Router, json};
use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_telemetry::profile;
use ambit_telemetry::readiness::Readiness;
use ambit_telemetry::requests::RequestLog;
use ambit_telemetry::trace::{self, Tracing};
use anyhow::Context;
use http::{Method, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::Config;
use crate::crew::Crew;
use crate::discovery::{Discovery, TYPES};
use crate::dump::Known;
use crate::http::{Common, Engine, Telemetry};
use crate::listener;
use crate::session::Sessions;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::{TlsClients, Upstreams};

/// After readiness is taken back, connections are still accepted for this long: others have to hear of it.
const LAME_DUCK: Duration = Duration::from_secs(1);
/// How often what belonged to objects that are gone is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Runs the waypoint until `end`, then drains it.
///
/// # Errors
/// What could not be started.
pub async fn run(
    config: Config,
    logging: Logging,
    metrics: Metrics,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let configured = readiness.task("configuration from the control plane");
    let certified = readiness.task("a certificate");
    let mesh = &config.mesh;
    let me = identity(mesh)?;

    let control = &config.control_plane;
    let revocations = control.revocations().await.map_err(anyhow::Error::msg)?;
    let (certificates, issuing) = control.certificates(mesh, &Whose::Own, revocations);
    tokio::spawn(issuing.run());
    control.renew_with_roots(&certificates);
    let certificate = certificates.want(&me);
    let first = certificate.clone();
    tokio::spawn(async move {
        while first.get().await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        drop(certified);
    });

    let current = Arc::new(Published::new(Snapshot {
        index: Index::new(mesh.root_namespace.0.as_str()).within(mesh.trust_domains()),
        config: ambit_http::config::Config::within(mesh.trust_domains()),
    }));
    let departed = Arc::<Departed>::default();
    let sessions = Arc::<Sessions>::default();
    let pushes = Discovery {
        current: current.clone(),
        departed: departed.clone(),
        policies: watch::Sender::default(),
        sessions: sessions.clone(),
    };
    let policies = pushes.policies.subscribe();
    let (client, discovery) = xds::Client::new(xds_config(&config), pushes);
    tokio::spawn(client.run());
    let status = discovery.clone();
    tokio::spawn(async move {
        status.synced().await;
        drop(configured);
    });

    let common = Arc::new(Common::new(Telemetry {
        log: RequestLog::new(&logging),
        metrics: metrics.requests().clone(),
        connections: metrics.traffic().clone(),
        tracing: tracing(&config),
        exemplars: config.exemplars,
        denials: Denials::default(),
    }));
    let workers = Workers::start(config.workers)?;
    let (drain, drained) = Drain::new();
    let everywhere = Everywhere {
        me,
        certificate,
        current: current.clone(),
        policies,
        common,
        clusters: Arc::default(),
        sessions,
    };
    serve(&config, &workers, &everywhere, &drained)?;
    drop(drained);
    let known = Known {
        config: config.clone(),
        current,
        certificates,
        sessions: everywhere.sessions.clone(),
        common: everywhere.common.clone(),
    };
    tokio::spawn(sweep(everywhere, departed, metrics.clone()));
    ambit_net::hbone::describe();
    let shown = metrics.with_exemplars(config.exemplars);
    servers(&config, &readiness, &shown, &logging, known, &discovery).await?;
    end.await;

    let ending = readiness.task("the process ends");
    tokio::time::sleep(LAME_DUCK.min(config.drain.grace / 2)).await;
    tracing::info!(grace = ?config.drain.grace, "draining");
    drain.run(config.drain.grace).await;
    drop(ending);
    tracing::info!("drained");
    Ok(())
}

/// What all workers share.
pub(crate) struct Everywhere {
    pub(crate) me: Identity,
    pub(crate) certificate: Wanted,
    pub(crate) current: Arc<Published<Snapshot>>,
    pub(crate) policies: watch::Receiver<()>,
    pub(crate) common: Arc<Common>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) sessions: Arc<Sessions>,
}

/// Starts a listener on every worker.
fn serve(
    config: &Config,
    workers: &Workers,
    everywhere: &Everywhere,
    drained: &Drained,
) -> anyhow::Result<()> {
    let settings = Arc::new(config.hbone());
    for member in Crew::new(equip(config, workers.handles(), everywhere)).members() {
        let _entered = member.runtime().enter();
        let listener = listener::listen().context("cannot listen for HBONE")?;
        let serving = listener::serve(member.clone(), listener, settings.clone(), drained.clone());
        member.runtime().spawn(serving);
    }
    Ok(())
}

/// Who this waypoint is.
pub(crate) fn identity(mesh: &Mesh) -> anyhow::Result<Identity> {
    let (domain, namespace) = (mesh.trust_domain.as_str(), mesh.pod_namespace.as_str());
    Identity::new(domain, namespace, mesh.service_account.as_str())
        .context("this waypoint has no identity")
}

/// The uid of the waypoint's own workload.
pub(crate) fn uid(mesh: &Mesh) -> String {
    let (namespace, name) = (&mesh.pod_namespace, &mesh.pod_name);
    format!("{}//Pod/{namespace}/{name}", mesh.cluster_id)
}

/// What each worker works with.
pub(crate) fn equip(
    config: &Config,
    workers: &[Handle],
    everywhere: &Everywhere,
) -> Vec<(Handle, Arc<Shared>)> {
    let Everywhere {
        me,
        certificate,
        current,
        policies,
        common,
        clusters,
        sessions,
    } = everywhere;
    let mesh = &config.mesh;
    let namespace = mesh.pod_namespace.as_str();
    let hostname = format!(
        "{}.{namespace}.svc.{}",
        config.gateway, config.mesh.cluster_domain
    );
    let tls = Arc::<TlsClients>::default();
    let hosts = Arc::<Hosts>::default();
    let equipped = workers.iter().map(|worker| {
        let _entered = worker.enter();
        let shared = Shared {
            gateway: NamespacedName::new(namespace, config.gateway.as_str()),
            service: NamespacedName::new(namespace, hostname.as_str()),
            network: mesh.network.as_str().into(),
            leads_into: config.leads_into.as_deref().map(Arc::from),
            me: me.clone(),
            trusted: config.trusted_proxies.clone(),
            certificate: certificate.clone(),
            current: current.clone(),
            policies: policies.clone(),
            upstreams: Upstreams {
                uid: uid(mesh).into(),
                pool: Pool::new(Sockets::default(), config.hbone()),
                certificate: certificate.clone(),
                clusters: clusters.clone(),
                tls: tls.clone(),
                hosts: hosts.clone(),
            },
            http: Engine::new(common.clone(), current),
            sessions: sessions.clone(),
            cut: AtomicBool::default(),
        };
        (worker.clone(), Arc::new(shared))
    });
    equipped.collect()
}

/// Starts the export of spans, where there is a collector.
fn tracing(config: &Config) -> Option<Tracing> {
    let wanted = config.tracing.clone()?;
    let (tracing, exporting) = Tracing::new(trace::Settings {
        endpoint: wanted.endpoint,
        sampled: wanted.sampled.0,
        service: format!("{}.{}", config.gateway, config.mesh.pod_namespace),
    });
    tokio::spawn(exporting);
    Some(tracing)
}

/// Forgets from time to time what belonged to objects that are gone.
async fn sweep(everywhere: Everywhere, departed: Arc<Departed>, metrics: Metrics) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let snapshot = everywhere.current.load_full();
        everywhere.common.sweep(&snapshot);
        let there = |service: &NamespacedName| snapshot.index.service(service).is_some();
        everywhere.clusters.sweep(there);
        let gone = departed.take(&snapshot.index);
        if !gone.is_empty() {
            let gone =
                |namespace: &str, name: &str| gone.contains(&(namespace.into(), name.into()));
            metrics.requests().retire(gone);
            metrics.traffic().retire(gone);
        }
    }
}

fn xds_config(config: &Config) -> xds::Config {
    let (control, mesh) = (&config.control_plane, &config.mesh);
    let remote = control.discovery(&mesh.cluster_id, &Whose::Own);
    let node = xds::Node::new(
        "waypoint",
        mesh.instance_ip,
        &mesh.pod_name,
        &mesh.pod_namespace,
        &mesh.node_name,
    )
    // By which the control plane knows what concerns it.
    .with_label("gateway.networking.k8s.io/gateway-name", &config.gateway);
    xds::Config {
        state: control.state.clone(),
        ..xds::Config::new(remote, node, TYPES)
    }
}

async fn servers(
    config: &Config,
    readiness: &Readiness,
    metrics: &Metrics,
    logging: &Logging,
    known: Known,
    discovery: &xds::Status,
) -> anyhow::Result<()> {
    let with_metrics = |router| {
        let discovery = discovery.clone();
        admin::metrics(router, metrics, move || {
            let state = discovery.state();
            metrics::gauge!("ambit_xds_connected").set(f64::from(u8::from(state.connected)));
            metrics::counter!("ambit_xds_pushes_total").absolute(state.pushes);
            metrics::counter!("ambit_xds_rejected_pushes_total").absolute(state.nacks);
        })
    };
    let about = "everything this proxy knows, as JSON";
    let operators = Router::default().route(Method::GET, "/config_dump", about, move |_| {
        let body = json(StatusCode::OK, &known.dump());
        async move { body }
    });
    let operators = heap::route(profile::route(admin::logging(operators, logging)));
    let operators = admin::ready(with_metrics(operators), readiness);
    listen(&config.servers.admin, operators).await?;
    listen(&config.servers.stats, with_metrics(Router::default())).await?;
    listen(
        &config.servers.readiness,
        admin::ready(Router::default(), readiness),
    )
    .await
}

async fn listen(at: &Listen, router: Router) -> anyhow::Result<()> {
    let router = Arc::new(router);
    let listeners = admin::bind(&at.0).await;
    for listener in listeners.with_context(|| format!("cannot listen on {:?}", at.0))? {
        tokio::spawn(admin::serve(listener, router.clone()));
    }
    Ok(())
}
