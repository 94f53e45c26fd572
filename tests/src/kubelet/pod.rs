//! The life of one pod on its node: sandbox, init containers, containers, end.

mod recipe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use super::container::Order;
use super::container::{Event, Policy, Task, ended};
use super::exec::Place;
use super::host::NodeFiles;
use super::sandbox::Sandbox;
use super::status::{Facts, Known, State, status};
use super::tokens::{self, Tokens};
use super::{refresh, volumes};
use crate::api::{Key, now};
use crate::cluster::{Cluster, LabNode};
use crate::stage::Target;

const DEFAULT_GRACE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A container that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// The number of its `run` stage.
    pub pid: u32,
    /// Where commands join it.
    pub place: Place,
}

/// What the rest of the lab holds of a pod's task.
#[derive(Debug)]
pub struct PodHandle {
    /// The pod's identity: a pod of the same name is another pod.
    pub uid: String,
    /// The node that it is on.
    pub node: String,
    end: watch::Sender<bool>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The file of the network namespace, while there is a sandbox.
    netns: Mutex<Option<PathBuf>>,
    running: Mutex<BTreeMap<String, Running>>,
    orders: Mutex<BTreeMap<String, mpsc::UnboundedSender<Order>>>,
    grace: Arc<OnceLock<Duration>>,
}

impl PodHandle {
    /// Ends the pod in order, within `grace` or what its spec says.
    pub fn end(&self, grace: Option<Duration>) {
        if let Some(grace) = grace {
            self.shared.grace.get_or_init(|| grace);
        }
        self.end.send_replace(true);
    }

    /// The containers that run now.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, Running> {
        self.shared.running.lock().clone()
    }

    /// The file of its network namespace, while it has a sandbox.
    #[must_use]
    pub fn netns(&self) -> Option<PathBuf> {
        self.shared.netns.lock().clone()
    }

    /// Gives an order to the running containers; tells how many took it.
    #[must_use]
    pub fn order(&self, order: Order) -> usize {
        let orders = self.shared.orders.lock();
        orders
            .values()
            .filter(|container| container.send(order).is_ok())
            .count()
    }
}

/// Starts the task of a pod that has a node.
#[must_use]
pub fn run_pod(cluster: &Arc<Cluster>, node: &Arc<LabNode>, pod: Pod) -> PodHandle {
    let (end, ending) = watch::channel(false);
    let shared = Arc::new(Shared::default());
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let known = |containers: &[Container]| {
        let known = containers
            .iter()
            .map(|it| Known::new(&it.name, it.image.as_deref()));
        known.collect::<Vec<_>>()
    };
    let worker = Worker {
        cluster: Arc::clone(cluster),
        node: Arc::clone(node),
        key: Key::of(&pod.metadata),
        init: known(spec.init_containers.as_deref().unwrap_or_default()),
        main: known(&spec.containers),
        spec,
        pod,
        ending,
        shared: Arc::clone(&shared),
        trouble: None,
        addresses: None,
        started: now(),
    };
    tokio::spawn(worker.live());
    PodHandle {
        uid,
        node: node.name.clone(),
        end,
        shared,
    }
}

struct Worker {
    cluster: Arc<Cluster>,
    node: Arc<LabNode>,
    key: Key,
    pod: Pod,
    spec: PodSpec,
    ending: watch::Receiver<bool>,
    shared: Arc<Shared>,
    init: Vec<Known>,
    main: Vec<Known>,
    trouble: Option<String>,
    addresses: Option<[std::net::IpAddr; 2]>,
    started: Time,
}

impl Worker {
    async fn live(mut self) {
        let node = Arc::clone(&self.node);
        loop {
            node.is(true).await;
            self.publish();
            let Some(sandbox) = self.prepare().await else {
                match *self.ending.borrow() {
                    true => break,
                    false => continue,
                }
            };
            tokio::select! {
                () = self.serve(&sandbox) => {
                    self.addresses = None;
                    self.shared.netns.lock().take();
                    sandbox.remove(&self.cluster, &node).await;
                    break;
                }
                () = node.is(false) => {}
            }
            sandbox.lose(&node);
            self.lose();
        }
        self.cluster
            .forget_pod(&self.key, self.pod.metadata.uid.as_deref());
    }

    /// Runs the containers until somebody ends the pod.
    async fn serve(&mut self, sandbox: &Sandbox) {
        if let Some((folders, tokens)) = self.make_volumes(sandbox).await {
            let (cluster, pod) = (Arc::clone(&self.cluster), self.pod.clone());
            let node = NodeFiles::of(&self.node.name);
            let current = refresh::keep(cluster, node, pod, volumes_of(sandbox), tokens);
            tokio::select! {
                () = self.contain(sandbox, &folders) => {}
                () = current => {}
            }
        }
        // A pod whose containers are done keeps its place until somebody deletes it.
        ended(&mut self.ending).await;
    }

    /// The node lost its power, and all that ran on it. Nobody is told before it is back.
    fn lose(&mut self) {
        self.shared.netns.lock().take();
        self.shared.running.lock().clear();
        self.shared.orders.lock().clear();
        self.addresses = None;
        for known in self.init.iter_mut().chain(&mut self.main) {
            known.ready = false;
            if let State::Running { since } = &known.state {
                let since = since.clone();
                known.last = Some(State::Ended {
                    code: 137,
                    since,
                    at: now(),
                });
                known.restarts += 1;
            }
            known.state = State::Waiting {
                reason: "ContainerCreating".to_owned(),
                message: None,
            };
        }
    }

    /// A sandbox that the plugin agreed to, or nothing when the pod ends before, or its node.
    async fn prepare(&mut self) -> Option<Sandbox> {
        let mut pause = FIRST_PAUSE;
        loop {
            if *self.ending.borrow() || !self.node.is_on() {
                return None;
            }
            // The control plane has to know the pod before its node's proxy asks for it.
            self.cluster.exported().await;
            match self.try_sandbox().await {
                Ok(sandbox) => {
                    self.trouble = None;
                    self.addresses = Some(sandbox.addresses.both());
                    *self.shared.netns.lock() = Some(sandbox.netns().to_owned());
                    self.publish();
                    return Some(sandbox);
                }
                Err(error) => {
                    tracing::warn!(pod = %self.key, %error, "cannot make a pod's sandbox");
                    self.trouble = Some(error);
                    self.publish();
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = ended(&mut self.ending) => return None,
                () = self.node.is(false) => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_sandbox(&self) -> Result<Sandbox, String> {
        let mut sandbox =
            Sandbox::make(&self.node, &self.pod).map_err(|error| error.to_string())?;
        match sandbox.announce(&self.cluster, &self.node).await {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                sandbox.remove(&self.cluster, &self.node).await;
                Err(error)
            }
        }
    }

    /// The pod's volumes, or nothing when the pod ends before what they need is there.
    async fn make_volumes(
        &mut self,
        sandbox: &Sandbox,
    ) -> Option<(BTreeMap<String, PathBuf>, Tokens)> {
        let folder = volumes_of(sandbox);
        loop {
            let made = match tokens::of_pod(&self.cluster, &self.pod).await {
                Ok(tokens) => self.cluster.read(|store| {
                    let sources = volumes::Sources {
                        store,
                        tokens: &tokens,
                        pod: &self.pod,
                        node: &NodeFiles::of(&self.node.name),
                    };
                    volumes::make(&sources, &folder).map(|folders| (folders, tokens))
                }),
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => return Some(made),
                Err(error) => self.hold_all("ContainerCreating", &error),
            }
            if !self.wait_for_objects().await {
                return None;
            }
        }
    }

    /// Waits until some object changed; false when the pod ends.
    async fn wait_for_objects(&mut self) -> bool {
        let mut changes = self.cluster.changes();
        tokio::select! {
            _ = changes.changed() => true,
            () = ended(&mut self.ending) => false,
        }
    }

    async fn contain(&mut self, sandbox: &Sandbox, folders: &BTreeMap<String, PathBuf>) {
        let init = self.spec.init_containers.clone().unwrap_or_default();
        for (index, container) in init.iter().enumerate() {
            let policy = match self.policy() {
                Policy::Never => Policy::Never,
                Policy::Always | Policy::OnFailure => Policy::OnFailure,
            };
            let containers = std::slice::from_ref(container);
            self.run_all(sandbox, folders, containers, Group::Init(index), policy)
                .await;
            let done = matches!(self.init[index].state, State::Ended { code: 0, .. });
            if *self.ending.borrow() || !done {
                return;
            }
        }
        let main = self.spec.containers.clone();
        self.run_all(sandbox, folders, &main, Group::Main, self.policy())
            .await;
    }

    /// Runs containers side by side until all of them are finished.
    async fn run_all(
        &mut self,
        sandbox: &Sandbox,
        folders: &BTreeMap<String, PathBuf>,
        containers: &[Container],
        group: Group,
        policy: Policy,
    ) {
        let (events, mut happened) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for (index, container) in containers.iter().enumerate() {
            let spec = loop {
                match self.run_spec(sandbox, folders, container) {
                    Ok(spec) => break spec,
                    Err((reason, message)) => {
                        let known = self.known(group, index);
                        known.state = State::Waiting {
                            reason,
                            message: Some(message),
                        };
                        self.publish();
                    }
                }
                if !self.wait_for_objects().await {
                    return;
                }
            };
            let (order, orders) = mpsc::unbounded_channel();
            self.shared
                .orders
                .lock()
                .insert(container.name.clone(), order);
            let log = self.cluster.pod_log(&self.key, &container.name);
            let task = Task {
                probers: self.probers(container, sandbox, &spec, group),
                container: container.clone(),
                file: sandbox.folder.join(format!("{}.json", container.name)),
                spec,
                log,
                policy,
                grace: self.grace(),
                asked: Arc::clone(&self.shared.grace),
                events: events.clone(),
                index,
                ending: self.ending.clone(),
                orders,
            };
            tasks.spawn(task.run());
        }
        drop(events);
        self.publish();
        let mut ending = self.ending.clone();
        let mut told = false;
        loop {
            tokio::select! {
                event = happened.recv() => match event {
                    Some((index, event)) => self.note(group, index, containers, event),
                    None => break,
                },
                () = ended(&mut ending), if !told => {
                    told = true;
                    self.publish();
                }
            }
        }
        while tasks.join_next().await.is_some() {}
        self.shared.orders.lock().clear();
    }

    fn note(&mut self, group: Group, index: usize, containers: &[Container], event: Event) {
        let container = &containers[index];
        let known = self.known(group, index);
        match event {
            Event::Running { pid } => {
                known.state = State::Running { since: now() };
                self.note_running(container, pid);
            }
            Event::Ready(ready) => known.ready = ready && group == Group::Main,
            Event::Waiting { reason, message } => {
                let reason = reason.to_owned();
                known.state = State::Waiting {
                    reason,
                    message: Some(message),
                };
            }
            Event::Ended { code, again } => {
                let since = match &known.state {
                    State::Running { since } => since.clone(),
                    _ => now(),
                };
                let ended = State::Ended {
                    code,
                    since,
                    at: now(),
                };
                known.ready = false;
                known.finished = !again;
                known.restarts += i32::from(again);
                known.last = again.then(|| ended.clone());
                known.state = ended;
                self.shared.running.lock().remove(&container.name);
                if !again {
                    self.shared.orders.lock().remove(&container.name);
                }
            }
        }
        self.publish();
    }

    fn note_running(&self, container: &Container, pid: u32) {
        let env = self.environment(container).unwrap_or_default();
        let cwd = container
            .working_dir
            .clone()
            .unwrap_or_else(|| "/".to_owned());
        let place = Place {
            target: Target::Container(pid),
            env,
            cwd: PathBuf::from(cwd),
        };
        self.shared
            .running
            .lock()
            .insert(container.name.clone(), Running { pid, place });
    }

    fn known(&mut self, group: Group, index: usize) -> &mut Known {
        match group {
            Group::Init(index) => &mut self.init[index],
            Group::Main => &mut self.main[index],
        }
    }

    fn hold_all(&mut self, reason: &str, message: &str) {
        for known in self.init.iter_mut().chain(&mut self.main) {
            let (reason, message) = (reason.to_owned(), Some(message.to_owned()));
            known.state = State::Waiting { reason, message };
        }
        self.publish();
    }

    fn policy(&self) -> Policy {
        match self.spec.restart_policy.as_deref() {
            Some("Never") => Policy::Never,
            Some("OnFailure") => Policy::OnFailure,
            _ => Policy::Always,
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.spec.termination_grace_period_seconds;
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(DEFAULT_GRACE, Duration::from_secs)
    }

    /// Writes the pod's status.
    fn publish(&self) {
        let facts = Facts {
            addresses: self.addresses,
            host: crate::net::plan::node(self.node.number).both(),
            init: &self.init,
            main: &self.main,
            ending: *self.ending.borrow(),
            trouble: self.trouble.as_deref(),
            started: &self.started,
        };
        self.cluster.write(|store| {
            let own = |pod: &Pod| pod.metadata.uid == self.pod.metadata.uid;
            if store.pods.get(&self.key).is_some_and(own) {
                store.pods.update(&self.key, |pod| {
                    pod.status = Some(status(&facts, pod.status.as_ref()));
                });
            }
        });
    }
}

fn volumes_of(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder.join("volumes")
}

/// Which containers run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// The init container of this number, alone.
    Init(usize),
    /// All others.
    Main,
}
