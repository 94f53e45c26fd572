//! Replica sets: as many pods as asked for.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::pods;
use crate::api::{Key, Store, owner_reference, random_suffix};

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<ReplicaSet> = store
        .replica_sets
        .iter()
        .map(|(_, it)| it.clone())
        .collect();
    for set in all {
        adjust(store, &set);
    }
}

fn adjust(store: &mut Store, set: &ReplicaSet) {
    let Some(spec) = &set.spec else { return };
    let mut living: Vec<Pod> = Vec::new();
    for pod in pods::owned(store, &set.metadata) {
        if pods::is_finished(&pod) {
            pods::end(store, &Key::of(&pod.metadata));
        } else if !pods::is_terminating(&pod) {
            living.push(pod);
        }
    }
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    // The first to go: what does not serve, then the youngest.
    living.sort_by_key(|pod| {
        (
            !pods::is_ready(pod),
            std::cmp::Reverse(pod.metadata.creation_timestamp.clone()),
        )
    });
    living.sort_by_key(|pod| !pods::is_ready(pod));
    for pod in living.split_off(wanted.min(living.len())) {
        pods::end(store, &Key::of(&pod.metadata));
    }
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let template = spec.template.clone().unwrap_or_default();
    for _ in living.len()..wanted {
        let owner = owner_reference("apps/v1", "ReplicaSet", &set.metadata);
        let name = format!("{name}-{}", random_suffix(5));
        let pod = pods::from_template(&name, namespace, &template, owner, &[]);
        store.pods.put(pod);
    }
    let ready = living.iter().filter(|pod| pods::is_ready(pod)).count();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    store.replica_sets.update(&Key::of(&set.metadata), |set| {
        set.status = Some(ReplicaSetStatus {
            replicas: count(wanted.max(living.len())),
            ready_replicas: Some(count(ready)),
            available_replicas: Some(count(ready)),
            observed_generation: set.metadata.generation,
            ..ReplicaSetStatus::default()
        });
    });
}
