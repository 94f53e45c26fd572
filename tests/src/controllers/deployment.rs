//! Deployments: one replica set for each state of the template; a change rolls from the old ones to
//! the new one within `maxSurge` and `maxUnavailable`.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;
use crate::api::{Key, Store, controlled_by, new_uid, now, owner_reference};

const HASH_LABEL: &str = "pod-template-hash";

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<Deployment> = store.deployments.iter().map(|(_, it)| it.clone()).collect();
    for deployment in all {
        roll(store, &deployment);
        write_status(store, &deployment);
    }
}

/// A short name for a state of a template.
pub(super) fn template_hash(template: &PodTemplateSpec) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template)
        .unwrap_or_default()
        .hash(&mut hasher);
    format!("{:010x}", hasher.finish() & 0xff_ffff_ffff)
}

fn roll(store: &mut Store, deployment: &Deployment) {
    let Some(spec) = &deployment.spec else { return };
    let hash = template_hash(&spec.template);
    let new_key = ensure_set(store, deployment, spec, &hash);
    let wanted = spec.replicas.unwrap_or(1);
    let sets = owned_sets(store, &deployment.metadata);
    let replicas = |set: &ReplicaSet| {
        set.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(0)
    };
    let total: i32 = sets.iter().map(replicas).sum();
    let current = store.replica_sets.get(&new_key).map_or(0, replicas);
    let old: Vec<&ReplicaSet> = sets
        .iter()
        .filter(|set| Key::of(&set.metadata) != new_key)
        .collect();
    let limits = Limits::of(spec, wanted);

    let target = if current >= wanted {
        wanted
    } else if limits.recreate {
        let old_pods: usize = old
            .iter()
            .map(|set| pods::owned(store, &set.metadata).len())
            .sum();
        if old_pods == 0 { wanted } else { current }
    } else {
        wanted.min(current + (wanted + limits.surge - total).max(0))
    };
    scale(store, &new_key, target);

    let ready = |set: &ReplicaSet| {
        set.status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0)
    };
    let new_unready = store
        .replica_sets
        .get(&new_key)
        .map_or(0, |set| target - ready(set))
        .max(0);
    let old_total: i32 = old.iter().map(|set| replicas(set)).sum();
    let spare = target + old_total - (wanted - limits.unavailable) - new_unready;
    let unready_old: i32 = old
        .iter()
        .map(|set| (replicas(set) - ready(set)).max(0))
        .sum();
    // What does not serve anyway may always go.
    let mut spare = if limits.recreate {
        old_total
    } else {
        spare.max(unready_old)
    };
    for set in old {
        let key = Key::of(&set.metadata);
        let down = replicas(set).min(spare.max(0));
        spare -= down;
        scale(store, &key, replicas(set) - down);
        if replicas(set) == 0 && pods::owned(store, &set.metadata).is_empty() {
            store.replica_sets.remove(&key);
        }
    }
}

struct Limits {
    recreate: bool,
    surge: i32,
    unavailable: i32,
}

impl Limits {
    /// Kubernetes's defaults: a quarter each, surge rounded up, unavailable rounded down.
    fn of(spec: &DeploymentSpec, wanted: i32) -> Self {
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let surge = share(surge, wanted, true);
        let unavailable = share(unavailable, wanted, false);
        Self {
            recreate: strategy.and_then(|it| it.type_.as_deref()) == Some("Recreate"),
            surge,
            unavailable: if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            },
        }
    }
}

fn share(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => *number,
        other => {
            let text = match other {
                Some(IntOrString::String(text)) => text.trim_end_matches('%'),
                _ => "25",
            };
            let percent: i32 = text.parse().unwrap_or(25);
            (percent * of + if round_up { 99 } else { 0 }) / 100
        }
    }
}

fn ensure_set(
    store: &mut Store,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
) -> Key {
    let metadata = &deployment.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = format!("{}-{hash}", metadata.name.as_deref().unwrap_or_default());
    let key = Key::new(&namespace, &name);
    if store.replica_sets.contains(&key) {
        return key;
    }
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    let exact = selector.match_labels.get_or_insert_default();
    exact.insert(HASH_LABEL.to_owned(), hash.to_owned());
    store.replica_sets.put(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            uid: Some(new_uid()),
            creation_timestamp: Some(now()),
            labels: Some(labels),
            owner_references: Some(vec![owner_reference("apps/v1", "Deployment", metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            selector,
            template: Some(template),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    });
    key
}

fn scale(store: &mut Store, key: &Key, replicas: i32) {
    store.replica_sets.update(key, |set| {
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
    });
}

fn owned_sets(store: &Store, owner: &ObjectMeta) -> Vec<ReplicaSet> {
    let namespace = owner.namespace.as_deref().unwrap_or_default();
    let sets = store.replica_sets.within(namespace);
    sets.filter(|set| controlled_by(&set.metadata, owner))
        .cloned()
        .collect()
}

fn write_status(store: &mut Store, deployment: &Deployment) {
    let Some(spec) = &deployment.spec else { return };
    let hash = template_hash(&spec.template);
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let current = format!("{name}-{hash}");
    let (mut replicas, mut ready, mut updated) = (0, 0, 0);
    for set in owned_sets(store, &deployment.metadata) {
        let status = set.status.unwrap_or_default();
        replicas += status.replicas;
        ready += status.ready_replicas.unwrap_or(0);
        if set.metadata.name.as_deref() == Some(current.as_str()) {
            updated += status.replicas;
        }
    }
    let wanted = spec.replicas.unwrap_or(1);
    let available = ready >= wanted - Limits::of(spec, wanted).unavailable;
    store
        .deployments
        .update(&Key::of(&deployment.metadata), |deployment| {
            let previous = deployment
                .status
                .take()
                .and_then(|status| status.conditions);
            deployment.status = Some(DeploymentStatus {
                observed_generation: deployment.metadata.generation,
                replicas: Some(replicas),
                ready_replicas: Some(ready),
                available_replicas: Some(ready),
                unavailable_replicas: Some((wanted - ready).max(0)),
                updated_replicas: Some(updated),
                conditions: Some(vec![available_condition(available, previous)]),
                ..DeploymentStatus::default()
            });
        });
}

fn available_condition(
    available: bool,
    previous: Option<Vec<DeploymentCondition>>,
) -> DeploymentCondition {
    let status = if available { "True" } else { "False" };
    let kept = previous
        .into_iter()
        .flatten()
        .find(|condition| condition.status == status);
    kept.unwrap_or_else(|| DeploymentCondition {
        type_: "Available".to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(now()),
        ..DeploymentCondition::default()
    })
}
