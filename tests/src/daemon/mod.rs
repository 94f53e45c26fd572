//! The daemon: the lab itself, alone in its namespaces. It makes the network, keeps the objects and
//! answers commands until it is told to end.

mod apply;
mod delete;
mod exec;
mod get;
mod seed;
mod serve;
mod status;
mod target;
mod wait;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ambit_net::netlink::nft;
use anyhow::Context;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::apiserver::ApiServer;
use crate::cluster::{Cluster, LabMachine, LabNode, Settings, node_name};
use crate::kubelet::NodeFiles;
use crate::mesh::Mesh;
use crate::net::{NamedNetns, crossing, plan, proxy, topology};
use crate::stage::{Mode, prepare_daemon};
use crate::state::StateDir;
use crate::tokens::Issuer;
use crate::{cli, dns};

pub(crate) use seed::node_object;

/// What the daemon says on standard output when commands are answered.
pub const READY: &str = "lab is ready";

/// Runs the lab in `folder`. Must be called before any thread exists.
#[must_use]
pub fn daemon(folder: &Path) -> ExitCode {
    match run(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            cli::line(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> anyhow::Result<()> {
    prepare_daemon(folder)?;
    let state = StateDir::at(folder.to_owned());
    log_to(&state.logs().join("lab.log"))?;
    let settings = fs::read(state.config_file()).context("cannot read the lab's settings")?;
    let settings: Settings = serde_json::from_slice(&settings)?;
    // One thread: children are tied to the thread that starts them, which must not end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(live(state.clone(), settings));
    // The monitor does so as well; but it may have been killed.
    state.remove_if_abandoned();
    result
}

async fn live(state: StateDir, settings: Settings) -> anyhow::Result<()> {
    let network = build_network(&settings).context("cannot make the lab's network")?;
    let listener = UnixListener::bind(state.control_socket()).context("cannot listen")?;
    let issuer = Issuer::new()?;
    let api_server = match &settings.kube {
        Some(kube) => Some(ApiServer::connect(kube, &state).await?),
        None => None,
    };
    let cluster = Cluster::new(
        settings,
        state,
        issuer,
        Mode::current()?,
        network,
        api_server,
    );
    match cluster.api_server() {
        Some(server) => {
            let joined = server.join(&cluster).await;
            joined.context("cannot join the API server")?;
        }
        None => seed::seed(&cluster),
    }
    for node in &cluster.nodes {
        dns::serve(&cluster, node).with_context(|| format!("cannot serve DNS on {}", node.name))?;
    }
    tokio::spawn(settle(Arc::clone(&cluster)));
    let (stop, mut stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let work = async {
        if cluster.settings.mesh {
            cli::line("starting the control plane and the node proxies");
            let mesh = Mesh::start(&cluster).await.map_err(anyhow::Error::msg)?;
            cluster.set_mesh(mesh);
        }
        cli::line(READY);
        serve::serve(&cluster, &listener, &stop).await
    };
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
    }
}

fn build_network(settings: &Settings) -> io::Result<(Vec<Arc<LabNode>>, Vec<LabMachine>)> {
    topology::build_bridge()?;
    let mut nodes = Vec::new();
    let numbers = 1..=settings.nodes.min(plan::MOST_NODES);
    for number in numbers.clone() {
        let network = settings.network(number);
        let near = |other: &u8| *other != number && settings.network(*other) == network;
        let neighbours: Vec<u8> = numbers.clone().filter(near).collect();
        let netns = NamedNetns::create(&node_name(number))?;
        topology::join_node(number, &neighbours, &netns)?;
        let node = LabNode::new(number, network, netns);
        NodeFiles::prepare(&node)?;
        nodes.push(Arc::new(node));
    }
    let mut machines = Vec::new();
    for (number, name) in (1..=plan::MOST_MACHINES).zip(&settings.machines) {
        let netns = NamedNetns::create(&format!("machine-{number}"))?;
        let near = |node: &u8| settings.network(*node).is_empty();
        let nodes: Vec<u8> = numbers.clone().filter(near).collect();
        topology::join_machine(number, &nodes, &netns)?;
        machines.push(LabMachine {
            number,
            name: name.clone(),
            netns,
        });
    }
    Ok((nodes, machines))
}

/// Runs the controllers and puts service addresses in force after every change.
async fn settle(cluster: Arc<Cluster>) {
    let mut changes = cluster.changes();
    let mut in_force = None;
    let mut routes = crossing::Routes::default();
    loop {
        cluster.reconcile();
        let nodes = &cluster.nodes;
        let (table, gateways, now) = cluster.read(|store| {
            let gateways = crossing::gateways(store, nodes);
            let table = proxy::table(store, crossing::rules(&gateways, nodes));
            (table, gateways, store.changes())
        });
        if let Err(error) = routes.set(&gateways, nodes) {
            tracing::error!(%error, "cannot set routes to gateways between networks");
        }
        if in_force.as_ref() != Some(&table) {
            let mut failed = false;
            for node in &cluster.nodes {
                let replace = || Ok(nft::Handle::open()?.replace(&table)?);
                if let Err(error) = node.netns.netns().run(replace) {
                    tracing::error!(node = %node.name, %error, "cannot set service addresses");
                    failed = true;
                }
            }
            in_force = (!failed).then_some(table);
        }
        cluster.set_settled(now);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn log_to(file: &Path) -> anyhow::Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(file)?;
    let filter = EnvFilter::try_from_env("LAB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(log)
        .init();
    Ok(())
}
