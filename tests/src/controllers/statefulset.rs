//! Stateful sets: pods with stable names, started in order and replaced from the last.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};

use super::deployment::template_hash;
use super::pods;
use crate::api::{Key, Store, owner_reference};

const REVISION_LABEL: &str = "controller-revision-hash";
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<StatefulSet> = store
        .stateful_sets
        .iter()
        .map(|(_, it)| it.clone())
        .collect();
    for set in all {
        if let Some(spec) = &set.spec {
            adjust(store, &set, spec);
        }
    }
}

fn adjust(store: &mut Store, set: &StatefulSet, spec: &StatefulSetSpec) {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1).max(0);
    let revision = template_hash(&spec.template);
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let (mut ready, mut updated, mut waiting) = (0, 0, false);
    let mut outdated = None;
    for ordinal in 0..wanted {
        let key = Key::new(namespace, &format!("{name}-{ordinal}"));
        let Some(pod) = store.pods.get(&key).cloned() else {
            if parallel || !waiting {
                let pod = make(set, spec, ordinal, &revision);
                store.pods.put(pod);
            }
            waiting = true;
            continue;
        };
        if pods::is_finished(&pod) {
            pods::end(store, &key);
        }
        let current = is_current(&pod, &revision);
        updated += i32::from(current);
        if pods::is_ready(&pod) && !pods::is_terminating(&pod) {
            ready += 1;
        } else {
            waiting = true;
        }
        if !current {
            outdated = Some(key);
        }
    }
    let surplus = pods::owned(store, &set.metadata)
        .into_iter()
        .map(|pod| Key::of(&pod.metadata))
        .filter(|key| ordinal(name, &key.name).is_some_and(|ordinal| ordinal >= wanted))
        .max_by_key(|key| ordinal(name, &key.name));
    let on_delete = spec
        .update_strategy
        .as_ref()
        .and_then(|it| it.type_.as_deref())
        == Some("OnDelete");
    if let Some(key) = surplus {
        pods::end(store, &key);
    } else if let Some(key) = outdated.filter(|_| !on_delete) {
        // One at a time, the last first; one that does not serve is replaced at once.
        let stuck = store.pods.get(&key).is_some_and(|pod| !pods::is_ready(pod));
        if !waiting || stuck {
            pods::end(store, &key);
        }
    }
    store.stateful_sets.update(&Key::of(&set.metadata), |set| {
        set.status = Some(StatefulSetStatus {
            observed_generation: set.metadata.generation,
            replicas: wanted,
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            updated_replicas: Some(updated),
            update_revision: Some(revision.clone()),
            ..StatefulSetStatus::default()
        });
    });
}

fn is_current(pod: &Pod, revision: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(REVISION_LABEL))
        .is_some_and(|label| label == revision)
}

fn ordinal(set: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn make(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32, revision: &str) -> Pod {
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = format!("{set_name}-{ordinal}");
    let index = ordinal.to_string();
    let labels = [
        (REVISION_LABEL, revision),
        (NAME_LABEL, &*name),
        (INDEX_LABEL, &*index),
    ];
    let owner = owner_reference("apps/v1", "StatefulSet", &set.metadata);
    let mut pod = pods::from_template(&name, namespace, &spec.template, owner, &labels);
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name.clone());
    pod_spec.subdomain = spec.service_name.clone().filter(|name| !name.is_empty());
    for claim in spec.volume_claim_templates.iter().flatten() {
        let volume = claim.metadata.name.clone().unwrap_or_default();
        let claim_name = format!("{volume}-{name}");
        pod_spec.volumes.get_or_insert_default().push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    pod
}
