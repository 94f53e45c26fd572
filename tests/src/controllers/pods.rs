//! What controllers ask of pods, and how they make and end them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{Key, Store, controlled_by, new_uid, now};

/// Whether a pod serves.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// The pod's `Ready` condition.
#[must_use]
pub fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
}

/// Whether a pod is on its way out.
#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The states of a pod's containers, the first ones first.
pub fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The pods that `owner` made and that are not ending.
pub(super) fn owned(store: &Store, owner: &ObjectMeta) -> Vec<Pod> {
    let namespace = owner.namespace.as_deref().unwrap_or_default();
    store
        .pods
        .within(namespace)
        .filter(|pod| controlled_by(&pod.metadata, owner))
        .cloned()
        .collect()
}

/// A pod after a template.
pub(super) fn from_template(
    name: &str,
    namespace: &str,
    template: &PodTemplateSpec,
    owner: OwnerReference,
    labels: &[(&str, &str)],
) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut all: BTreeMap<String, String> = metadata.labels.unwrap_or_default();
    all.extend(
        labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: Some(new_uid()),
            creation_timestamp: Some(now()),
            labels: Some(all),
            annotations: metadata.annotations,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone().unwrap_or_default()),
        status: Some(PodStatus {
            phase: Some("Pending".to_owned()),
            ..PodStatus::default()
        }),
    }
}

/// Asks for a pod's end. One that no node has yet goes at once.
pub(super) fn end(store: &mut Store, key: &Key) {
    let assigned = store
        .pods
        .get(key)
        .and_then(|pod| pod.spec.as_ref())
        .is_some_and(|spec| spec.node_name.is_some());
    if !assigned {
        store.pods.remove(key);
        return;
    }
    store.pods.update(key, |pod| {
        pod.metadata.deletion_timestamp.get_or_insert_with(now);
    });
}
