//! Writes statuses into objects, while this replica holds the Lease.
//!
//! What changes in the index is queued by its key, read from the API server, merged with what others have
//! written there, and applied if it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ambit_core::backoff::Backoff;
use k8s_openapi::jiff::Timestamp;
use rand::Rng;
use serde_json::{Value, json};

use super::lease::{Held, holds};
use super::merge::merge;
use super::pace::{PACE, backoff, sleep_until};
use super::{Cluster, Failure, escaped};
use crate::engine::State;
use crate::index::Index;
use crate::source::kube::resources::collection;
use crate::source::{Key, Kind, Object};
use crate::translate::status::CONTROLLER;

/// Writes until the process ends.
pub async fn run(cluster: Cluster, state: Arc<State>, mut held: Held) {
    let mut writer = Writer {
        cluster,
        state,
        versions: BTreeMap::new(),
    };
    while held.wait_for(Option::is_some).await.is_ok() {
        writer.write_all(&mut held).await;
    }
}

struct Writer {
    cluster: Cluster,
    state: Arc<State>,
    /// The version of the API that was there last, by kind.
    versions: BTreeMap<Kind, usize>,
}

struct Queued {
    due: Instant,
    backoff: Backoff,
}

impl Writer {
    /// Everything once, then what changes, for as long as the Lease is held.
    async fn write_all(&mut self, held: &mut Held) {
        let mut batches = self.state.batches();
        let mut queue: BTreeMap<Key, Queued> = BTreeMap::new();
        let mut revision = None;
        while holds(held) {
            batches.borrow_and_update();
            for key in self.changed(&mut revision) {
                let queued = Queued {
                    due: Instant::now(),
                    backoff: backoff(),
                };
                queue.insert(key, queued);
            }
            let first = queue.iter().min_by_key(|(_, queued)| queued.due);
            let first = first.map(|(key, queued)| (key.clone(), queued.due));
            let wake = first.as_ref().map(|(_, due)| *due);
            let Some((key, _)) = first.filter(|(_, due)| *due <= Instant::now()) else {
                tokio::select! {
                    changed = batches.changed() => if changed.is_err() { return },
                    changed = held.changed() => if changed.is_err() { return },
                    () = sleep_until(wake) => {}
                }
                continue;
            };
            let result = self.write(&key).await;
            if let Some(mut queued) = queue.remove(&key)
                && let Err(failure) = result
            {
                tracing::warn!(object = %key, %failure, "the status was not written");
                queued.due = Instant::now() + queued.backoff.next(rand::rng().random());
                queue.insert(key, queued);
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whose status changed since a revision; all at first, and when that is too long ago.
    fn changed(&self, revision: &mut Option<u64>) -> BTreeSet<Key> {
        let index = self.state.index();
        let since = revision.replace(index.status_revision());
        let after = since.and_then(|revision| index.statuses_after(revision));
        match after {
            Some(changed) => changed.map(|(key, _)| key.clone()).collect(),
            None => index.statuses().map(|(key, _)| key.clone()).collect(),
        }
    }

    async fn write(&mut self, key: &Key) -> Result<(), Failure> {
        let wanted = {
            let index = self.state.index();
            let Some(object) = index.objects().find(key) else {
                return Ok(());
            };
            if !is_ours(&object, &index) {
                return Ok(());
            }
            index.status(key).cloned()
        };
        let Some((version, now)) = self.read(key).await? else {
            return Ok(());
        };
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Some(status) = merge(&now["status"], wanted.as_ref(), &time) else {
            return Ok(());
        };
        let object = object(key, version, &now, &status);
        let path = format!("{}/status", path(key, version));
        match self.cluster.apply(&path, &object).await {
            // It was deleted meanwhile.
            Err(failure) if failure.status() == Some(404) => Ok(()),
            other => other.map(|_| {
                tracing::debug!(object = %key, "wrote the status");
            }),
        }
    }

    /// The object as it is, and the version of the API it was read in; `None` when it is gone.
    async fn read(&mut self, key: &Key) -> Result<Option<(usize, Value)>, Failure> {
        let count = collection(key.kind).versions.len();
        let known = self.versions.get(&key.kind).copied().unwrap_or_default();
        for version in (0..count).map(|at| (known + at) % count) {
            match self.cluster.read::<Value>(&path(key, version)).await {
                Ok(object) => {
                    self.versions.insert(key.kind, version);
                    return Ok(Some((version, object)));
                }
                Err(failure) if failure.status() == Some(404) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }
}

/// Whether we speak for an object at all: the class of waypoints may be another controller's.
fn is_ours(object: &Object, index: &Index) -> bool {
    match object {
        Object::GatewayClass(class) => class.spec.controller_name == CONTROLLER,
        Object::Gateway(gateway) => index.is_our_class(&gateway.spec.gateway_class_name),
        _ => true,
    }
}

fn path(key: &Key, version: usize) -> String {
    let mut all = collection(key.kind);
    all.namespace = (!key.namespace.is_empty()).then(|| key.namespace.to_string());
    format!("{}/{}", all.path(version), escaped(&key.name))
}

/// What is applied: the status, if the object is still the one that was read.
fn object(key: &Key, version: usize, now: &Value, status: &Value) -> Value {
    let of = collection(key.kind);
    let version = of.versions[version];
    let group = of.group;
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut metadata = json!({
        "name": &*key.name,
        "uid": now["metadata"]["uid"],
        "resourceVersion": now["metadata"]["resourceVersion"],
    });
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    json!({
        "apiVersion": api_version,
        "kind": key.kind.to_string(),
        "metadata": metadata,
        "status": status,
    })
}

#[cfg(test)]
#[path = "statuses_tests.rs"]
mod tests;
