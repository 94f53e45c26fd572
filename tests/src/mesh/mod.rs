//! The mesh in the lab: the control plane, and on every node the agent and the node proxy, as
//! processes that are watched and started again; the CNI plugin, called as a container runtime does.

mod agents;
mod ask;
mod cni;
mod component;
mod control;
mod machine;
mod names;
mod node;
mod published;
mod replace;
mod source;
mod statuses;
mod sync;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::source::SourceFolder;
use crate::cluster::{Cluster, LabNode};
use crate::kubelet::Order;
use crate::net::{NamedNetns, plan};

pub use agents::unmarked;
pub use cni::{CniRequest, Plugin};
pub use component::{Component, ComponentStatus};
pub use machine::Joining;
pub use node::{virtual_pod, virtual_pod_name};
pub use statuses::{Statuses, conditions};
pub use sync::{ProxyState, SyncError, SyncReport, Synced};

/// Where the mesh's files are.
const FOLDER: &str = "/run/ambit-lab/mesh";
/// How long the mesh may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// The running mesh.
#[derive(Debug)]
pub struct Mesh {
    components: BTreeMap<String, Component>,
    plugins: BTreeMap<String, Plugin>,
    synced: watch::Receiver<Synced>,
}

impl Mesh {
    /// Starts control and, on every node, the agent and the proxy, and waits until all are ready.
    ///
    /// # Errors
    /// What is missing or does not become ready, with the end of its log.
    pub async fn start(cluster: &Arc<Cluster>) -> Result<Self, String> {
        let words = |error: io::Error| format!("cannot prepare the mesh: {error}");
        let root = PathBuf::from(FOLDER);
        fs::create_dir_all(&root).map_err(words)?;
        let mut source = SourceFolder::new(root.join("source")).map_err(words)?;
        let files = cluster.write(|store| source.collect(store));
        source.write(&files).map_err(words)?;

        let mut components = BTreeMap::new();
        let control =
            control::recipe(cluster, &root, source.path()).map_err(|it| it.to_string())?;
        let names = names::of(&control.spec.env)?;
        cluster.write(|store| store.name_mesh(names));
        components.insert(control.name.clone(), Component::start(control));
        let admin = SocketAddr::new(plan::bridge().v4.into(), control::ADMIN_PORT);
        await_ready(
            cluster,
            &components["control"],
            None,
            admin,
            "/healthz/ready",
        )
        .await?;

        control::announce(cluster, &root).map_err(words)?;
        tokio::spawn(published::keep(Arc::clone(cluster), root.clone()));
        agents::serve(cluster).map_err(words)?;
        let (told, synced) = watch::channel(Synced::default());
        tokio::spawn(sync::keep(Arc::clone(cluster), source, admin, told));

        let mut plugins = BTreeMap::new();
        for node in &cluster.nodes {
            let files = node::prepare(cluster, node, &root).map_err(|error| error.to_string())?;
            let (agent, proxy) = node::recipes(cluster, node, &files)?;
            for recipe in [agent, proxy] {
                components.insert(recipe.name.clone(), Component::start(recipe));
            }
            plugins.insert(node.name.clone(), node::plugin(cluster, &files));
            tokio::spawn(node::keep_token(
                Arc::clone(cluster),
                Arc::clone(node),
                files,
            ));
        }
        for machine in &cluster.machines {
            let recipes = machine::recipes(cluster, machine, &root);
            let (program, proxy) = recipes.map_err(words)?;
            components.insert(program.name.clone(), Component::start(program));
            components.insert(proxy.name.clone(), Component::idle(proxy));
        }
        let mesh = Self {
            components,
            plugins,
            synced,
        };
        for node in &cluster.nodes {
            let proxy = format!("ztunnel/{}", node.name);
            mesh.await_component(cluster, &proxy).await?;
        }
        Ok(mesh)
    }

    /// How every component is.
    #[must_use]
    pub fn statuses(&self) -> Vec<ComponentStatus> {
        self.components.values().map(Component::status).collect()
    }

    /// Kills or restarts a component; false when there is none of that name.
    pub fn order(&self, component: &str, order: Order) -> bool {
        let found = self.components.get(component);
        found.map(|component| component.order(order)).is_some()
    }

    /// Waits until a component that was started again is ready.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn await_component(&self, cluster: &Cluster, name: &str) -> Result<(), String> {
        let Some(component) = self.components.get(name) else {
            return Ok(());
        };
        let ready = "/healthz/ready";
        if name == "control" {
            let admin = SocketAddr::new(plan::bridge().v4.into(), control::ADMIN_PORT);
            return await_ready(cluster, component, None, admin, ready).await;
        }
        let place = name.strip_prefix("ztunnel/").and_then(|place| {
            let node = cluster.node(place).map(|node| &node.netns);
            node.or_else(|| cluster.machine(place).map(|machine| &machine.netns))
        });
        let Some(place) = place else { return Ok(()) };
        let address = replace::readiness(&component.recipe());
        await_ready(cluster, component, Some(place), address, ready).await
    }

    /// The process that runs as a component.
    #[must_use]
    pub fn pid(&self, component: &str) -> Option<u32> {
        self.components.get(component)?.status().pid
    }

    /// What the control plane said last, and word of the next.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<Synced> {
        self.synced.clone()
    }

    /// The node's plugin.
    ///
    /// # Errors
    /// When it has none.
    pub fn plugin(&self, node: &LabNode) -> Result<&Plugin, String> {
        self.plugins
            .get(&node.name)
            .ok_or_else(|| format!("{} has no CNI plugin", node.name))
    }
}

/// The log of a component.
#[must_use]
pub fn component_log(logs: &Path, component: &str) -> PathBuf {
    logs.join(format!("{}.log", component.replace('/', "-")))
}

async fn await_ready(
    cluster: &Cluster,
    component: &Component,
    place: Option<&NamedNetns>,
    address: SocketAddr,
    path: &str,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let netns = place.map(NamedNetns::netns);
    let before = component.status().restarts;
    loop {
        let answer = ask::ask(netns, address, http::Method::GET, path).await;
        if matches!(&answer, Ok((200, _))) {
            return Ok(());
        }
        let status = component.status();
        if Instant::now() > deadline || status.restarts > before + 4 {
            let said = match answer {
                Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => error,
            };
            let end = status.last_end.unwrap_or_else(|| "it runs".to_owned());
            let log = component_log(&cluster.state.logs(), &status.name);
            let tail = last_lines(&log, 12);
            return Err(format!(
                "{} is not ready ({end}; {said}); its log:\n{tail}",
                status.name
            ));
        }
        sleep(PAUSE).await;
    }
}

/// The end of a log.
#[must_use]
pub fn last_lines(file: &Path, count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
