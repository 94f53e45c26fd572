//! Removes what was made by an owner that is gone.

use std::collections::HashSet;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::pods;
use crate::api::{Key, Kind, Store, Table};

pub(super) fn reconcile(store: &mut Store) {
    let mut owners: HashSet<String> = HashSet::new();
    let mut keep = |metadata: &ObjectMeta| owners.extend(metadata.uid.clone());
    store
        .deployments
        .iter()
        .for_each(|(_, it)| keep(&it.metadata));
    store
        .stateful_sets
        .iter()
        .for_each(|(_, it)| keep(&it.metadata));
    store
        .daemon_sets
        .iter()
        .for_each(|(_, it)| keep(&it.metadata));
    store.jobs.iter().for_each(|(_, it)| keep(&it.metadata));
    store.services.iter().for_each(|(_, it)| keep(&it.metadata));
    let gateways = Kind::of("Gateway").expect("a kind of the lab");
    for gateway in store.list(gateways, None) {
        owners.extend(gateway["metadata"]["uid"].as_str().map(str::to_owned));
    }
    let orphan = |metadata: &ObjectMeta, owners: &HashSet<String>| {
        let mut controllers = metadata.owner_references.iter().flatten();
        controllers.any(|owner| owner.controller == Some(true) && !owners.contains(&owner.uid))
    };
    unowned(&mut store.deployments, |it| orphan(it, &owners));
    unowned(&mut store.services, |it| orphan(it, &owners));
    unowned(&mut store.service_accounts, |it| orphan(it, &owners));
    let gone: Vec<Key> = store
        .replica_sets
        .iter()
        .filter(|(_, set)| orphan(&set.metadata, &owners))
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        store.replica_sets.remove(&key);
    }
    let sets = store
        .replica_sets
        .iter()
        .filter_map(|(_, set)| set.metadata.uid.clone());
    owners.extend(sets.collect::<Vec<_>>());
    let slices: Vec<Key> = store
        .endpoint_slices
        .iter()
        .filter(|(_, slice)| orphan(&slice.metadata, &owners))
        .map(|(key, _)| key.clone())
        .collect();
    for key in slices {
        store.endpoint_slices.remove(&key);
    }
    let ending: Vec<Key> = store
        .pods
        .iter()
        .filter(|(_, pod)| orphan(&pod.metadata, &owners))
        .map(|(key, _)| key.clone())
        .collect();
    for key in ending {
        pods::end(store, &key);
    }
}

fn unowned<T>(table: &mut Table<T>, gone: impl Fn(&ObjectMeta) -> bool)
where
    T: Metadata<Ty = ObjectMeta> + Clone + PartialEq,
{
    let gone: Vec<Key> = table
        .iter()
        .filter(|(_, it)| gone(it.metadata()))
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        table.remove(&key);
    }
}
