//! The process put together: what runs where, how it becomes ready and how it ends.
//!
//! Everything here runs on one thread of its own; traffic runs on the workers.

mod admin;
mod dump;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_net::ca::CertificateStore;
use ambit_net::sys::Sockets;
use ambit_net::{grpc, xds};
use ambit_proxy::config::value::Value;
use ambit_proxy::{Departed, Whose, Workers};
use ambit_telemetry::access::AccessLog;
use ambit_telemetry::log::Logging;
use ambit_telemetry::metrics::Metrics;
use ambit_telemetry::readiness::Readiness;
use anyhow::Context;
use tokio::sync::{Notify, watch};

use crate::capture::Options;
use crate::config::{self, Config, NodeLocal};
use crate::connections::{self, Connections};
use crate::discovery::{self, Discovery};
use crate::proxy::{self, Limits, Listeners, Settings, Shared, dns, udp};
use crate::workloads::{
    Announced, Host, Kind, Machine, MachineError, Manager, Origin, Summary, Surroundings, follow,
};

/// What the admin pages show and do.
pub(crate) struct App {
    config: Config,
    logging: Logging,
    metrics: Metrics,
    readiness: Readiness,
    shared: Arc<Shared>,
    departed: Arc<Departed>,
    certificates: CertificateStore,
    discovery: xds::Status,
    pods: watch::Receiver<Vec<Summary>>,
    quit: Arc<Notify>,
}

/// Runs the node proxy until `end` or until an operator ends it, then drains it.
///
/// # Errors
/// What could not be started.
pub async fn run(
    config: Config,
    logging: Logging,
    metrics: Metrics,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    proxy::describe();
    connections::describe();
    ambit_net::hbone::describe();
    let machine = config.machine.as_ref().map(|it| machine(it, &config));
    let machine = machine.transpose()?;
    let whose = whose(&config)?;
    let connections = Connections::new(metrics.traffic().clone(), AccessLog::new(&logging));
    let index = Index::new(config.mesh.root_namespace.0.as_str());
    let index = index.within(config.mesh.trust_domains());
    let shared = Shared::new(settings(&config), connections, index);
    let readiness = Readiness::default();
    let configured = readiness.task("configuration from the control plane");
    let announced = readiness.task(match machine {
        Some(_) => "this machine, described by discovery",
        None => "pods from the node agent",
    });

    let control = &config.control_plane;
    let revocations = control.revocations().await.map_err(anyhow::Error::msg)?;
    let (certificates, issuing) = control.certificates(&config.mesh, &whose, revocations);
    tokio::spawn(issuing.run());
    control.renew_with_roots(&certificates);

    let departed = Arc::new(Departed::default());
    let (handler, changed) = Discovery::new(shared.clone(), departed.clone());
    let (client, discovery) = xds::Client::new(xds_config(&config, &whose), handler);
    tokio::spawn(client.run());
    let status = discovery.clone();
    tokio::spawn(async move {
        status.synced().await;
        drop(configured);
    });

    let workers = Workers::start(config.threads.workers)?;
    let mut manager = Manager::new(Host {
        origin: origin(&config),
        shared: shared.clone(),
        certificates: certificates.clone(),
        workers,
        listen: Listeners::open,
    });
    let (summaries, pods) = watch::channel(Vec::new());
    let quit = Arc::new(Notify::new());
    let app = Arc::new(App {
        logging,
        metrics,
        readiness,
        shared: shared.clone(),
        departed,
        certificates,
        discovery: discovery.clone(),
        pods,
        quit: quit.clone(),
        config,
    });
    admin::start(&app).await?;

    let surroundings = Surroundings {
        changed,
        synced: Box::pin(async move { discovery.synced().await }),
        ready: announced,
        summaries,
    };
    let end = async {
        tokio::select! {
            () = end => {}
            () = quit.notified() => {}
        }
    };
    match &machine {
        Some(machine) => machine.serve(&mut manager, surroundings, end).await?,
        None => manager = follow(&app.config.pods.inpod_uds, manager, surroundings, end).await,
    }
    let grace = app.config.drain.grace;
    let running = app.shared.connections().len();
    tracing::info!(connections = running, ?grace, "draining");
    manager.shutdown().await;
    tracing::info!("drained");
    machine.map_or(Ok(()), |machine| Ok(machine.release()?))
}

/// The machine that is served instead of pods.
fn machine(of: &config::Machine, config: &Config) -> Result<Machine, MachineError> {
    let config::WorkloadInfo {
        namespace,
        name,
        service_account,
    } = of.workload.clone();
    let announced = |netns| Announced {
        kind: Kind::Machine,
        name,
        namespace,
        service_account,
        netns,
    };
    let options = Options {
        machine: true,
        udp: false,
        dns: config.dns.capture,
        exclusions: of.exclusions.clone(),
    };
    Machine::new(announced, options)
}

/// Whose certificates are asked for.
fn whose(config: &Config) -> anyhow::Result<Whose> {
    let Some(config::Machine { workload, .. }) = &config.machine else {
        return Ok(Whose::Pods);
    };
    let trust_domain = config.mesh.trust_domain.as_str();
    let (namespace, account) = (&*workload.namespace, &*workload.service_account);
    let identity = Identity::new(trust_domain, namespace, account)
        .with_context(|| format!("PROXY_WORKLOAD_INFO={:?}", workload.show()))?;
    let machine = grpc::Machine::new(&workload.name, identity, config.pods.packet_mark);
    Ok(Whose::Machine(Arc::new(machine)))
}

fn settings(config: &Config) -> Settings {
    Settings {
        hbone: config.limits.hbone(),
        connect_timeout: config.limits.connect_timeout,
        half_closed: match config.limits.half_closed {
            Duration::ZERO => Duration::MAX,
            limit => limit,
        },
        description_timeout: config.limits.description_timeout,
        original_source: config.pods.original_source,
        node_local: config.pods.node_local == NodeLocal::Direct,
        outbound_policy: config.pods.outbound_policy,
        dns: dns::Settings {
            domain: config.mesh.cluster_domain.as_str().into(),
            timeout: config.dns.timeout,
            machine: config.machine.as_ref().map(|_| Sockets {
                netns: None,
                mark: Some(config.pods.packet_mark),
            }),
        },
        udp: udp::Settings {
            idle: config.udp.idle,
        },
    }
}

fn origin(config: &Config) -> Origin {
    Origin {
        cluster_id: config.mesh.cluster_id.clone(),
        trust_domain: config.mesh.trust_domain.to_string(),
        mark: config.pods.packet_mark,
        dns: config.dns.capture,
        limits: Limits {
            connections: config.limits.connections_per_pod,
            hbone_connections: config.limits.hbone_connections_per_pod,
            dns_queries: config.dns.queries_per_pod,
            udp_flows: config.udp.flows_per_pod,
        },
        grace: config.drain.grace,
    }
}

fn xds_config(config: &Config, whose: &Whose) -> xds::Config {
    let (control, mesh) = (&config.control_plane, &config.mesh);
    let remote = control.discovery(&mesh.cluster_id, whose);
    let metadata = mesh.metadata.iter();
    let node = xds::Node::new(
        "ztunnel",
        mesh.instance_ip,
        &mesh.pod_name,
        &mesh.pod_namespace,
        &mesh.node_name,
    )
    .with_environment(metadata.map(|(name, value)| (format!("ISTIO_META_{name}"), value.clone())));
    xds::Config {
        state: control.state.clone(),
        ..xds::Config::new(remote, node, discovery::TYPES)
    }
}
