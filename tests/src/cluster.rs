//! The running lab as its parts see it: settings, nodes, objects, and word of every change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::api::{Key, Store};
use crate::apiserver::{self, ApiServer, has_ended};
use crate::controllers::{self, is_terminating};
use crate::kubelet::{Images, NodeFiles, PodHandle, run_pod};
use crate::mesh::Mesh;
use crate::net::weather::{Storm, Weather};
use crate::net::{NamedNetns, plan};
use crate::stage::Mode;
use crate::state::StateDir;
use crate::tokens::Issuer;

/// How long a pod waits for the control plane to have heard of it. Without it, it starts anyway.
const EXPORT_PATIENCE: Duration = Duration::from_secs(5);
/// What is killed is gone at once, on a machine that has time for it.
const POWER_PATIENCE: Duration = Duration::from_secs(20);
const POWER_PAUSE: Duration = Duration::from_millis(20);

/// What a lab is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// How many nodes.
    pub nodes: u8,
    /// The networks of nodes, by their names. The others share one without a name.
    pub networks: BTreeMap<String, String>,
    /// The names of machines beside them.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Which programs stand for which images.
    pub images: Images,
    /// Node proxies to use instead of the one beside the lab.
    pub ztunnels: Vec<ZtunnelChoice>,
    /// Variables for every node proxy.
    pub ztunnel_env: BTreeMap<String, String>,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// More arguments for the control plane.
    pub control_args: Vec<String>,
    /// Where the lab's own programs are.
    pub programs: PathBuf,
    /// Whether the lab starts the mesh.
    pub mesh: bool,
    /// The API server that the lab is joined to.
    pub kube: Option<apiserver::Settings>,
}

impl Settings {
    /// The network of a node; empty when it has no name.
    #[must_use]
    pub fn network(&self, node: u8) -> &str {
        self.networks.get(&node_name(node)).map_or("", |it| it)
    }

    /// Lets commands find the lab's sample programs, after the machine's own.
    pub fn add_to_path(&self, env: &mut BTreeMap<String, String>) {
        let path = env.entry("PATH".to_owned()).or_default();
        let separator = if path.is_empty() { "" } else { ":" };
        *path = format!("{path}{separator}{}", self.programs.display());
    }
}

/// A node proxy in the place of the usual one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZtunnelChoice {
    /// On this node; everywhere when absent.
    pub node: Option<String>,
    /// The program.
    pub program: PathBuf,
}

/// One node.
#[derive(Debug)]
pub struct LabNode {
    /// Its number, from 1.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// The network that it and its pods are on; empty when it has no name.
    pub network: String,
    /// Its network namespace.
    pub netns: NamedNetns,
    indexes: Mutex<Indexes>,
    power: watch::Sender<bool>,
    storm: Mutex<Option<Storm>>,
}

/// A machine beside the nodes: nothing of Kubernetes is on it.
#[derive(Debug)]
pub struct LabMachine {
    /// Its number, from 1.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub netns: NamedNetns,
}

/// The pod addresses of a node. The least recently used is given out, for what remembers an old one.
#[derive(Debug, Default)]
struct Indexes {
    taken: BTreeSet<u8>,
    last: u8,
}

impl Indexes {
    fn take(&mut self) -> Option<u8> {
        let last = self.last.max(1);
        let mut order = (last + 1..=plan::MOST_PODS).chain(2..=last);
        let free = order.find(|index| !self.taken.contains(index))?;
        self.taken.insert(free);
        self.last = free;
        Some(free)
    }
}

impl LabNode {
    /// A node whose network namespace is there.
    #[must_use]
    pub fn new(number: u8, network: &str, netns: NamedNetns) -> Self {
        Self {
            number,
            name: node_name(number),
            network: network.to_owned(),
            netns,
            indexes: Mutex::default(),
            power: watch::Sender::new(true),
            storm: Mutex::default(),
        }
    }

    /// What happens to all that it sends and receives.
    pub(crate) fn weather(&self) -> Weather {
        let storm = self.storm.lock();
        storm.as_ref().map(Storm::weather).unwrap_or_default()
    }

    /// Changes that. The calling thread is in the bridge's namespace.
    ///
    /// # Errors
    /// As the kernel says; then nothing happens to it.
    pub(crate) fn set_weather(&self, weather: Weather) -> std::io::Result<()> {
        let mut storm = self.storm.lock();
        // The one before ends first: both would want the same devices.
        *storm = None;
        if !weather.is_fair() {
            *storm = Some(Storm::begin(self.number, weather)?);
        }
        Ok(())
    }

    /// Whether it runs.
    pub(crate) fn is_on(&self) -> bool {
        *self.power.borrow()
    }

    /// Waits until it runs, or does not.
    pub(crate) async fn is(&self, on: bool) {
        // The sender is this node's own.
        let _ = self.power.subscribe().wait_for(|now| *now == on).await;
    }

    /// Takes a free pod address.
    pub(crate) fn take_index(&self) -> Option<u8> {
        self.indexes.lock().take()
    }

    /// Gives a pod address back.
    pub(crate) fn free_index(&self, index: u8) {
        self.indexes.lock().taken.remove(&index);
    }
}

/// The name of node `number`.
#[must_use]
pub fn node_name(number: u8) -> String {
    format!("node-{number}")
}

/// The running lab.
#[derive(Debug)]
pub struct Cluster {
    /// What it was started with.
    pub settings: Settings,
    /// Its folder.
    pub state: StateDir,
    /// Signs its tokens.
    pub issuer: Issuer,
    /// What this machine allows.
    pub mode: Mode,
    /// Its nodes, in order.
    pub nodes: Vec<Arc<LabNode>>,
    /// Its machines beside them, in order.
    pub machines: Vec<LabMachine>,
    store: Mutex<Store>,
    changed: watch::Sender<u64>,
    exported: watch::Sender<u64>,
    settled: watch::Sender<u64>,
    pods: Mutex<BTreeMap<Key, PodHandle>>,
    mesh: OnceLock<Mesh>,
    api_server: Option<ApiServer>,
}

impl Cluster {
    /// A lab whose network is made.
    #[must_use]
    pub fn new(
        settings: Settings,
        state: StateDir,
        issuer: Issuer,
        mode: Mode,
        (nodes, machines): (Vec<Arc<LabNode>>, Vec<LabMachine>),
        api_server: Option<ApiServer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state,
            issuer,
            mode,
            nodes,
            machines,
            store: Mutex::default(),
            changed: watch::Sender::new(0),
            exported: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            pods: Mutex::default(),
            mesh: OnceLock::new(),
            api_server,
        })
    }

    /// Looks at the objects.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.store.lock())
    }

    /// Changes the objects and tells everyone who waits for changes.
    pub fn write<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store.lock();
        let result = change(&mut store);
        let changes = store.changes();
        drop(store);
        self.changed
            .send_if_modified(|seen| std::mem::replace(seen, changes) != changes);
        result
    }

    /// Hears of every change after this call.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        let mut receiver = self.changed.subscribe();
        receiver.mark_unchanged();
        receiver
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<LabNode>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The machine of this name.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&LabMachine> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// The API server that the lab is joined to.
    #[must_use]
    pub fn api_server(&self) -> Option<&ApiServer> {
        self.api_server.as_ref()
    }

    /// The mesh, once it runs.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.get()
    }

    /// Says that the mesh runs.
    pub fn set_mesh(&self, mesh: Mesh) {
        if self.mesh.set(mesh).is_err() {
            tracing::error!("the mesh was started twice");
        }
    }

    /// The log of a container.
    #[must_use]
    pub fn pod_log(&self, pod: &Key, container: &str) -> PathBuf {
        let file = format!("{}_{}_{container}.log", pod.namespace, pod.name);
        self.state.logs().join("pods").join(file)
    }

    /// Says that the control plane has heard of everything up to `changes`.
    pub fn set_exported(&self, changes: u64) {
        self.exported.send_replace(changes);
    }

    /// Waits, for a while, until the control plane has heard of everything there is now.
    pub async fn exported(&self) {
        if self.settings.mesh {
            let now = *self.changed.borrow();
            let mut exported = self.exported.subscribe();
            let heard = exported.wait_for(|exported| *exported >= now);
            if timeout(EXPORT_PATIENCE, heard).await.is_err() {
                tracing::warn!("the control plane does not take the lab's objects");
            }
        }
    }

    /// Says that controllers and service addresses are as the objects up to `changes` say.
    pub fn set_settled(&self, changes: u64) {
        self.settled.send_replace(changes);
    }

    /// Hears how far controllers and service addresses are.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// Runs the controllers, unless a cluster has its own, and starts and ends pods as the objects say.
    pub fn reconcile(self: &Arc<Self>) {
        let pods: Vec<Pod> = self.write(|store| {
            if self.api_server.is_none() {
                controllers::reconcile(store);
            }
            store.pods.iter().map(|(_, pod)| pod.clone()).collect()
        });
        let mut handles = self.pods.lock();
        for pod in pods {
            let key = Key::of(&pod.metadata);
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let Some(node) = node else { continue };
            if is_virtual(&pod) {
                continue;
            }
            match handles.get(&key) {
                Some(handle) => {
                    let own = pod.metadata.uid.as_deref() == Some(&handle.uid);
                    if !own || pod.metadata.deletion_timestamp.is_some() {
                        let seconds = pod.metadata.deletion_grace_period_seconds;
                        let seconds = seconds.and_then(|it| u64::try_from(it).ok());
                        handle.end(seconds.map(Duration::from_secs));
                    }
                }
                None => match (self.node(node), &self.api_server) {
                    (Some(_), Some(_)) if has_ended(&pod) => {}
                    (Some(_), Some(server)) if is_terminating(&pod) => {
                        server.end_pod(self, &key, &uid(&pod));
                    }
                    (Some(node), _) => {
                        let handle = run_pod(self, node, pod);
                        handles.insert(key, handle);
                    }
                    // A cluster may have nodes besides the lab's.
                    (None, Some(_)) => {}
                    (None, None) => tracing::warn!(pod = %key, node, "no such node"),
                },
            }
        }
        for (key, handle) in handles.iter() {
            if self.read(|store| !store.pods.contains(key)) {
                handle.end(None);
            }
        }
    }

    /// Removes a pod that has ended, and its object when it is still that pod's.
    pub(crate) fn forget_pod(self: &Arc<Self>, key: &Key, uid: Option<&str>) {
        self.pods.lock().remove(key);
        if let Some(server) = &self.api_server {
            // It goes from the lab's objects when it is gone from the API server's.
            server.end_pod(self, key, uid.unwrap_or_default());
            return;
        }
        self.write(|store| {
            if store
                .pods
                .get(key)
                .is_some_and(|pod| pod.metadata.uid.as_deref() == uid)
            {
                store.pods.remove(key);
            }
        });
        // A new pod of that name may wait for its place.
        self.changed.send_modify(|_| {});
    }

    /// Whether a pod has a task.
    pub(crate) fn runs(&self, key: &Key) -> bool {
        self.pods.lock().contains_key(key)
    }

    /// Waits until the object of a pod that has ended is gone.
    pub(crate) async fn await_removal(&self, key: &Key, uid: &str) {
        let mut changes = self.changed.subscribe();
        let own = |pod: &Pod| pod.metadata.uid.as_deref() == Some(uid);
        while self.read(|store| store.pods.get(key).is_some_and(own)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Cuts the power of a node: its pods end without a word to anybody, and what its `/run` held is gone. Returns when
    /// nothing of them runs.
    ///
    /// # Errors
    /// What does not go away.
    pub(crate) async fn power_off(&self, node: &LabNode) -> Result<(), String> {
        let here: Vec<u32> = {
            let handles = self.pods.lock();
            let of_node = handles.values().filter(|handle| handle.node == node.name);
            of_node
                .flat_map(PodHandle::running)
                .map(|(_, running)| running.pid)
                .collect()
        };
        node.power.send_replace(false);
        let deadline = Instant::now() + POWER_PATIENCE;
        while here.iter().any(|pid| is_there(*pid)) {
            if Instant::now() > deadline {
                return Err(format!("containers of {} do not end", node.name));
            }
            sleep(POWER_PAUSE).await;
        }
        let wiped = NodeFiles::of(&node.name).wipe_run();
        wiped.map_err(|error| format!("the files of {}: {error}", node.name))
    }

    /// Boots a node: its pods start again as the API server has them.
    pub(crate) fn power_on(&self, node: &LabNode) {
        node.power.send_replace(true);
    }

    /// Asks a pod's task something; nothing when the pod has none.
    pub fn with_pod<T>(&self, key: &Key, ask: impl FnOnce(&PodHandle) -> T) -> Option<T> {
        self.pods.lock().get(key).map(ask)
    }
}

fn is_there(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Marks a pod that stands for a process of the mesh.
pub const VIRTUAL: &str = "lab.ambit.dev/virtual";

/// Whether a pod stands for a process of the mesh, which the lab runs otherwise.
#[must_use]
pub fn is_virtual(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .is_some_and(|it| it.contains_key(VIRTUAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_out_in_turn() {
        let mut indexes = Indexes::default();
        assert_eq!(indexes.take(), Some(2));
        assert_eq!(indexes.take(), Some(3));
        indexes.taken.remove(&2);
        assert_eq!(indexes.take(), Some(4));
    }
}
