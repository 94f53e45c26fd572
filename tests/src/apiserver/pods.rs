//! What the kubelet has to say of pods: their statuses, and that they are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{ApiServer, FIELD_MANAGER, is_gone, words};
use crate::api::Key;
use crate::cluster::Cluster;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether a pod has run to its end, and is not to be started again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Patches every status that changed into the API server, for ever.
pub(super) async fn tell(client: Client, cluster: Arc<Cluster>) {
    let mut changes = cluster.changes();
    // What the API server knows, by the identity of the pod.
    let mut told: BTreeMap<String, PodStatus> = BTreeMap::new();
    loop {
        let due = cluster.read(|store| {
            let pods = store.pods.iter().filter(|(key, _)| cluster.runs(key));
            let mut there = BTreeMap::new();
            for (key, pod) in pods {
                let (Some(uid), Some(status)) = (&pod.metadata.uid, &pod.status) else {
                    continue;
                };
                there.insert(uid.clone(), (key.clone(), status.clone()));
            }
            there
        });
        told.retain(|uid, _| due.contains_key(uid));
        let mut failed = false;
        for (uid, (key, status)) in due {
            if told.get(&uid) == Some(&status) {
                continue;
            }
            match patch(&client, &key, &uid, &status).await {
                Ok(()) => {
                    told.insert(uid, status);
                }
                Err(error) => {
                    let error = words(&error);
                    tracing::warn!(pod = %key, error, "the API server did not take a status");
                    failed = true;
                }
            }
        }
        if failed {
            let _ = timeout(LONGEST_PAUSE, changes.changed()).await;
            sleep(FIRST_PAUSE).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn patch(client: &Client, key: &Key, uid: &str, status: &PodStatus) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    // The API server knows it from the pod's spec, and takes no other word.
    let status = PodStatus {
        qos_class: None,
        ..status.clone()
    };
    let mut change = json!({"metadata": {"uid": uid}, "status": status});
    // What is over is taken back, not only left out.
    for (field, is_said) in [
        ("reason", status.reason.is_some()),
        ("message", status.message.is_some()),
    ] {
        if !is_said {
            change["status"][field] = Value::Null;
        }
    }
    // Addresses are merged by what they are: a pod in a new sandbox would keep its old ones as well.
    if let Value::Array(addresses) = &mut change["status"]["podIPs"] {
        addresses.push(json!({"$patch": "replace"}));
    }
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&key.name, &parameters, &Patch::Strategic(change))
        .await
    {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

impl ApiServer {
    /// Removes the object of a pod whose containers and sandbox are gone, as soon as the API server
    /// answers.
    pub(crate) fn end_pod(&self, cluster: &Arc<Cluster>, key: &Key, uid: &str) {
        if !self.ending.lock().insert(uid.to_owned()) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let (cluster, key, uid) = (Arc::clone(cluster), key.clone(), uid.to_owned());
        tokio::spawn(async move {
            let parameters = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let mut pause = FIRST_PAUSE;
            loop {
                match api.delete(&key.name, &parameters).await {
                    Err(error) if !is_gone(&error) => {
                        let error = words(&error);
                        tracing::warn!(pod = %key, error, "the API server did not hear of a pod's end");
                        sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    _ => break,
                }
            }
            cluster.await_removal(&key, &uid).await;
            if let Some(server) = cluster.api_server() {
                server.ending.lock().remove(&uid);
            }
        });
    }
}
