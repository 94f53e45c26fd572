//! Waits until what was asked for is in force.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, timeout_at};

use crate::api::{Key, Kind, Store};
use crate::cluster::Cluster;
use crate::controllers::{container_statuses, is_ready, is_terminating};
use crate::mesh::unmarked;

/// Waits until `done` says nothing more is missing. It is asked after every change.
///
/// # Errors
/// What was still missing at the end.
pub(super) async fn until(
    cluster: &Cluster,
    deadline: Instant,
    mut missing: impl FnMut(&Store) -> Result<Vec<String>, Vec<String>>,
) -> Result<(), Vec<String>> {
    let mut changes = cluster.changes();
    loop {
        let left = cluster.read(&mut missing)?;
        if left.is_empty() {
            return Ok(());
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(left);
        }
    }
}

/// Waits until controllers, service addresses and the mesh are as the objects say now: pods are captured as labels ask
/// for, and proxies know. Returns what the
/// mesh has to say about the objects called `mine` and about old mistakes.
///
/// # Errors
/// Why they are not.
pub(super) async fn in_force(
    cluster: &Cluster,
    deadline: Instant,
    mine: &[String],
) -> Result<Vec<String>, Vec<String>> {
    let wanted = cluster.read(Store::changes);
    let mut settled = cluster.settled();
    let reached = settled.wait_for(|settled| *settled >= wanted);
    if timeout_at(deadline, reached).await.is_err() {
        return Err(vec!["the lab's controllers do not come to rest".to_owned()]);
    }
    let Some(mesh) = cluster.mesh() else {
        return Ok(Vec::new());
    };
    until(cluster, deadline, |store| Ok(unmarked(store))).await?;
    let wanted = cluster.read(Store::changes);
    let mut synced = mesh.synced();
    loop {
        {
            let now = synced.borrow_and_update();
            if now.changes >= wanted && (now.in_force || now.refused()) {
                return now.judge(|object| mine.iter().any(|name| name == object));
            }
        }
        if timeout_at(deadline, synced.changed()).await.is_err() {
            let mut problems = synced.borrow().problems();
            if problems.is_empty() {
                problems.push("the control plane did not confirm the configuration".to_owned());
            }
            return Err(problems);
        }
    }
}

/// Why an applied object is not in force yet; nothing when it is.
///
/// # Errors
/// When waiting cannot help.
pub(super) fn unready(
    store: &Store,
    kind: &Kind,
    key: &Key,
) -> Result<Option<String>, Vec<String>> {
    let (wanted, ready, current) = match kind.kind {
        "Pod" => {
            let Some(pod) = store.pods.get(key) else {
                return Ok(Some("is gone".to_owned()));
            };
            let done = pod
                .status
                .as_ref()
                .is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
            hopeless(pod)?;
            return Ok((!is_ready(pod) && !done).then(|| trouble(pod)));
        }
        "Deployment" => {
            let Some(object) = store.deployments.get(key) else {
                return Ok(None);
            };
            let status = object.status.clone().unwrap_or_default();
            let wanted = object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            let current = status.observed_generation == object.metadata.generation
                && status.updated_replicas.unwrap_or(0) == wanted
                && status.replicas.unwrap_or(0) == wanted;
            (wanted, status.ready_replicas.unwrap_or(0), current)
        }
        // A waypoint, or a gateway between networks, is what runs it.
        "Gateway" => {
            let deployment = Kind::of("Deployment").expect("a kind of the lab");
            return unready(store, deployment, key);
        }
        "ReplicaSet" => {
            let Some(object) = store.replica_sets.get(key) else {
                return Ok(None);
            };
            let wanted = object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            let status = object.status.clone().unwrap_or_default();
            (wanted, status.ready_replicas.unwrap_or(0), true)
        }
        "StatefulSet" => {
            let Some(object) = store.stateful_sets.get(key) else {
                return Ok(None);
            };
            let status = object.status.clone().unwrap_or_default();
            let wanted = object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1);
            let current = status.observed_generation == object.metadata.generation
                && status.updated_replicas.unwrap_or(0) == wanted;
            (wanted, status.ready_replicas.unwrap_or(0), current)
        }
        "DaemonSet" => {
            let Some(object) = store.daemon_sets.get(key) else {
                return Ok(None);
            };
            let status = object.status.clone().unwrap_or_default();
            let wanted = status.desired_number_scheduled;
            let current = status.observed_generation == object.metadata.generation
                && status.updated_number_scheduled.unwrap_or(0) == wanted;
            (wanted, status.number_ready, current)
        }
        _ => return Ok(None),
    };
    let prefix = format!("{}-", key.name);
    let mine = |pod: &&Pod| {
        pod.metadata
            .name
            .as_ref()
            .is_some_and(|it| it.starts_with(&prefix))
    };
    let mut details = Vec::new();
    let mut surplus = 0;
    for pod in store.pods.within(&key.namespace).filter(mine) {
        surplus += i32::from(is_terminating(pod));
        if !is_ready(pod) && !is_terminating(pod) {
            hopeless(pod)?;
            details.push(format!("pod {}: {}", Key::of(&pod.metadata), trouble(pod)));
        }
    }
    if ready == wanted && current && surplus == 0 {
        return Ok(None);
    }
    let details = details.join("; ");
    Ok(Some(
        format!("{ready} of {wanted} ready {details}")
            .trim_end()
            .to_owned(),
    ))
}

/// What a pod is waiting for.
fn trouble(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    if let Some(message) = status.and_then(|status| status.message.clone()) {
        return message;
    }
    for container in container_statuses(pod) {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        if let Some(waiting) = waiting {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref().unwrap_or_default();
            return format!("{}: {reason} {message}", container.name)
                .trim_end()
                .to_owned();
        }
        let ended = container
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        if let Some(ended) = ended.filter(|ended| ended.exit_code != 0) {
            return format!(
                "{} ended with exit status {}",
                container.name, ended.exit_code
            );
        }
        if !container.ready {
            return format!("{} does not pass its readiness probe yet", container.name);
        }
    }
    status
        .and_then(|status| status.phase.clone())
        .unwrap_or_else(|| "pending".to_owned())
}

/// Whether a pod will never be ready as it is.
fn hopeless(pod: &Pod) -> Result<(), Vec<String>> {
    let unmapped = container_statuses(pod).any(|container| {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("ErrImagePull"))
    });
    if unmapped {
        Err(vec![format!(
            "pod {}: {}",
            Key::of(&pod.metadata),
            trouble(pod)
        )])
    } else {
        Ok(())
    }
}

/// A deadline from now.
pub(super) fn deadline(patience: Duration) -> Instant {
    Instant::now() + patience
}
