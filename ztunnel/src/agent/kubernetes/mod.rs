//! Pods and namespaces as the API server has them, and what it is told of them.
//!
//! Pods of other nodes are never asked for. What was listed last stays when the API server is away.

mod table;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::backoff::Backoff;
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{self as core, Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::failing::Complaint;
use super::pod::{Labels, MARK, Mark, Pod};
use super::source::{Source, SourceError};
use table::Table;

/// The DaemonSet that this agent is of.
const DAEMON_SET: &str = "ztunnel";
/// Who writes, in `metadata.managedFields` and in events.
const FIELD_MANAGER: &str = "ambit-agent";
/// Between two attempts of a watch.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call that is made, as a role allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// As roles write it.
    pub resource: &'static str,
    /// As roles write them.
    pub verbs: &'static [&'static str],
    /// In the namespace of the installation only, and of this name only.
    pub own: Option<&'static str>,
}

/// Every call that the agent makes to the API server.
pub const CALLS: &[Call] = &[
    call("", "namespaces", &["list", "watch"], None),
    call("", "pods", &["list", "watch"], None),
    call("", "pods/status", &["patch"], None),
    call("", "events", &["create"], None),
    call(
        "apps",
        "daemonsets",
        &["get", "list", "watch"],
        Some(DAEMON_SET),
    ),
];

const fn call(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    own: Option<&'static str>,
) -> Call {
    Call {
        group,
        resource,
        verbs,
        own,
    }
}

/// The API server.
#[derive(Clone)]
pub struct KubernetesSource {
    client: Client,
    node: String,
    /// Where the agent itself is installed.
    namespace: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    pods: Mutex<Table<Pod>>,
    namespaces: Mutex<Table<Labels>>,
    /// The DaemonSet, and whether it is being deleted: known also when the API server is away as the agent ends.
    sets: Mutex<Table<bool>>,
    changed: Notify,
}

impl KubernetesSource {
    /// Follows pods of `node`; the agent is installed in `namespace`. The configuration is that of KUBECONFIG, of
    /// `~/.kube/config`, or of the pod that this process is in.
    ///
    /// # Errors
    /// When there is no configuration, or it does not hold together.
    pub async fn connect(node: &str, namespace: &str) -> Result<Self, SourceError> {
        let connected = Client::try_default().await;
        let client = connected.map_err(|error| SourceError::new("pods and namespaces", error))?;
        let source = Self {
            client: client.clone(),
            node: node.to_owned(),
            namespace: namespace.to_owned(),
            state: Arc::default(),
        };
        let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let pods = watcher(Api::all(client.clone()), of_node).map(|event| event.map(named_pod));
        let state = source.state.clone();
        tokio::spawn(follow(pods, move |event| hear(&state.pods, &state, event)));
        let sets = Api::<PartialObjectMeta<DaemonSet>>::namespaced(client.clone(), namespace);
        let own = watcher::Config::default().fields(&format!("metadata.name={DAEMON_SET}"));
        let sets = watcher(sets, own).map(|event| event.map(|event| table::map(event, deleted)));
        let state = source.state.clone();
        tokio::spawn(follow(sets, move |event| {
            state.sets.lock().hear(event);
        }));
        // Of namespaces the labels are enough.
        let namespaces = Api::<PartialObjectMeta<core::Namespace>>::all(client);
        let namespaces = watcher(namespaces, watcher::Config::default());
        let namespaces = namespaces.map(|event| event.map(|event| table::map(event, labels)));
        let state = source.state.clone();
        tokio::spawn(follow(namespaces, move |event| {
            hear(&state.namespaces, &state, event);
        }));
        Ok(source)
    }
}

/// Waits between attempts: pods that start after an outage wait as long as the last of them.
struct Pauses(Backoff);

impl Default for Pauses {
    fn default() -> Self {
        Self(Backoff::new(FIRST_PAUSE, LONGEST_PAUSE))
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next(rand::random()))
    }
}

impl kube::runtime::utils::Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Passes on what a watch says, for ever. The watch itself tries again.
async fn follow<T>(
    events: impl futures_util::Stream<Item = Result<watcher::Event<T>, watcher::Error>>,
    hear: impl Fn(Result<watcher::Event<T>, String>),
) {
    let mut events = std::pin::pin!(events.backoff(Pauses::default()));
    while let Some(event) = events.next().await {
        hear(event.map_err(|error| words(&error)));
    }
}

fn hear<T: PartialEq>(
    table: &Mutex<Table<T>>,
    state: &State,
    event: Result<watcher::Event<(String, T)>, String>,
) {
    if table.lock().hear(event) {
        state.changed.notify_one();
    }
}

fn named_pod(event: watcher::Event<core::Pod>) -> watcher::Event<(String, Pod)> {
    table::map(event, |pod: core::Pod| {
        let pod = Pod::from(&pod);
        (pod.uid.clone(), pod)
    })
}

fn labels(namespace: PartialObjectMeta<core::Namespace>) -> (String, Labels) {
    let metadata = namespace.metadata;
    let labels = metadata.labels.unwrap_or_default();
    (metadata.name.unwrap_or_default(), labels)
}

fn deleted(set: PartialObjectMeta<DaemonSet>) -> (String, bool) {
    let metadata = set.metadata;
    let deleted = metadata.deletion_timestamp.is_some();
    (metadata.name.unwrap_or_default(), deleted)
}

impl Source for KubernetesSource {
    async fn pods(&self) -> Result<Vec<Pod>, SourceError> {
        let pods = self.state.pods.lock();
        let listed = pods.listed().map(|pods| pods.values().cloned().collect());
        listed.map_err(|why| SourceError::new(&format!("pods of node {}", self.node), why))
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>, SourceError> {
        let namespaces = self.state.namespaces.lock();
        let listed = namespaces.listed().cloned();
        listed.map_err(|why| SourceError::new("namespaces", why))
    }

    async fn changed(&self) {
        self.state.changed.notified().await;
    }

    async fn mark(&self, pod: &Pod, mark: Mark) -> bool {
        let annotations = json!({MARK: mark.value()});
        let patch = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let pods = Api::<core::Pod>::namespaced(self.client.clone(), &pod.namespace);
        let patch = Patch::Merge(&patch);
        let patched = pods.patch_status(&pod.name, &parameters, &patch);
        match answer(patched).await {
            Ok(_) => true,
            // Another pod has its name, or none.
            Err(failure) if matches!(failure.status, Some(404 | 409 | 422)) => true,
            Err(failure) => {
                let name = pod.full_name();
                tracing::warn!(pod = name, %failure, "a pod's annotation cannot be changed");
                false
            }
        }
    }

    async fn complain(&self, pod: &Pod, complaint: Complaint, why: &str) {
        let now = Time(Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", pod.name)),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(pod.namespace.clone()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(complaint.reason().to_owned()),
            message: Some(format!("{}: {why}", complaint.outcome())),
            source: Some(EventSource {
                component: Some(FIELD_MANAGER.to_owned()),
                host: Some(self.node.clone()),
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        let events = Api::<Event>::namespaced(self.client.clone(), &pod.namespace);
        if let Err(failure) = answer(events.create(&PostParams::default(), &event)).await {
            tracing::warn!(pod = pod.full_name(), %failure, "an event cannot be written");
        }
    }

    /// An agent whose rights are gone was uninstalled with them. What a watch has told before counts if it is the end.
    async fn uninstalled(&self) -> Option<bool> {
        let sets = Api::<DaemonSet>::namespaced(self.client.clone(), &self.namespace);
        match answer(sets.get(DAEMON_SET)).await {
            Ok(set) => Some(set.metadata.deletion_timestamp.is_some()),
            Err(failure) if matches!(failure.status, Some(401 | 403 | 404)) => Some(true),
            Err(_) => {
                let sets = self.state.sets.lock();
                let gone = sets
                    .listed()
                    .is_ok_and(|sets| sets.values().all(|deleted| *deleted));
                gone.then_some(true)
            }
        }
    }
}

#[derive(Debug)]
struct Failure {
    status: Option<u16>,
    words: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map_err(|error| Failure {
            status: match &error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            words: words(&error),
        }),
        Err(_) => Err(Failure {
            status: None,
            words: format!("no answer within {PATIENCE:?}"),
        }),
    }
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
