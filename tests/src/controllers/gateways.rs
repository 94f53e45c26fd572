//! Gateways of waypoint classes: each has what control would have it have, a ServiceAccount, a Service
//! and a Deployment, as its parameters change them; and every namespace has what the control plane publishes of its authority.

use ambit_control::cluster::deployed::tell_grace;
use ambit_control::parameters::Patches;
use ambit_control::source::gateway::Gateway;
use ambit_control::translate::gateway::patches;
use ambit_control::waypoints::{Objects, Settings, objects};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{from_value, json};

use crate::api::{Key, Kind, Published, Store, Table, new_uid, now};

/// The ConfigMap of every namespace that has the mesh's roots, and its file.
const ROOTS: [&str; 2] = ["istio-ca-root-cert", "root-cert.pem"];
/// The one that has lists of revoked certificates.
const REVOKED: [&str; 2] = ["istio-ca-crl", "ca-crl.pem"];

pub(super) fn reconcile(store: &mut Store) {
    let Some(Published { roots, revoked }) = store.published().cloned() else {
        return;
    };
    publish(store, ROOTS, &roots);
    if let Some(revoked) = revoked {
        publish(store, REVOKED, &revoked);
    }
    let kind = Kind::of("Gateway").expect("a kind of the lab");
    let settings = Settings {
        image: "ambit/waypoint".to_owned(),
        control: "https://ambit-control.ambit-system.svc.cluster.local:15012".to_owned(),
        authority: None,
        roots: None,
        token: None,
        replicas: 1,
    };
    for gateway in store.list(kind, None) {
        // Control says what is wrong with one that does not read.
        let Ok(gateway) = serde_json::from_value::<Gateway>(gateway) else {
            continue;
        };
        let Some(mut made) = objects(&gateway, store.mesh(), &settings) else {
            continue;
        };
        // Scaled by hand, unless the parameters say how many there are.
        if let Some(spec) = &mut made.deployment.spec {
            spec.replicas = None;
        }
        // What runs it stays as it is, and control says why.
        let namespace = gateway.metadata.namespace.as_deref().unwrap_or("default");
        let map = |name: &str| store.config_maps.get(&Key::new(namespace, name));
        let Ok(patches) = patches(namespace, &gateway, map) else {
            continue;
        };
        if let Some(made) = patched(made, &patches) {
            ensure(&mut store.service_accounts, made.account, |_, _| {});
            ensure(&mut store.services, made.service, |new, old| {
                // Addresses are the cluster's to give.
                if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
                    new.cluster_ip.clone_from(&old.cluster_ip);
                    new.cluster_ips.clone_from(&old.cluster_ips);
                    new.ip_families = new.ip_families.take().or_else(|| old.ip_families.clone());
                    let policy = || old.ip_family_policy.clone();
                    new.ip_family_policy = new.ip_family_policy.take().or_else(policy);
                    new.type_ = new.type_.take().or_else(|| old.type_.clone());
                }
                new.status.clone_from(&old.status);
            });
            ensure(&mut store.deployments, made.deployment, |new, old| {
                if let (Some(new), Some(old)) = (&mut new.spec, &old.spec) {
                    new.replicas = new.replicas.or(old.replicas);
                }
                new.status.clone_from(&old.status);
            });
        }
    }
}

/// The objects as parameters change them; `None` where that makes no objects of them.
fn patched(made: Objects, patches: &Patches) -> Option<Objects> {
    let mut deployment = patches.apply("deployment", json!(made.deployment));
    tell_grace(&mut deployment);
    let read = || {
        Ok::<_, serde_json::Error>(Objects {
            account: from_value(patches.apply("serviceAccount", json!(made.account)))?,
            service: from_value(patches.apply("service", json!(made.service)))?,
            deployment: from_value(deployment)?,
            disruption: made.disruption,
        })
    };
    read()
        .inspect_err(|error| tracing::warn!(%error, "the parameters of a Gateway make no objects"))
        .ok()
}

/// Gives every namespace a text in a ConfigMap. Where it is empty, none is made, and one that is there is emptied.
fn publish(store: &mut Store, [name, file]: [&str; 2], text: &str) {
    let namespaces: Vec<String> = store
        .namespaces
        .iter()
        .filter(|(_, it)| it.metadata.deletion_timestamp.is_none())
        .map(|(key, _)| key.name.clone())
        .collect();
    let data = Some([(file.to_owned(), text.to_owned())].into());
    for namespace in namespaces {
        let found = store.config_maps.get(&Key::new(&namespace, name));
        let metadata = match found {
            Some(found) if found.data == data => continue,
            Some(found) => found.metadata.clone(),
            None if text.is_empty() => continue,
            None => ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace),
                uid: Some(new_uid()),
                creation_timestamp: Some(now()),
                ..ObjectMeta::default()
            },
        };
        store.config_maps.put(ConfigMap {
            metadata,
            data: data.clone(),
            ..ConfigMap::default()
        });
    }
}

/// Puts an object in place, or brings it up to date keeping what `keep` carries over.
fn ensure<T>(table: &mut Table<T>, mut new: T, keep: impl Fn(&mut T, &T))
where
    T: Metadata<Ty = ObjectMeta> + Clone + PartialEq,
{
    let key = Key::of(new.metadata());
    match table.get(&key).cloned() {
        Some(old) => {
            let (to, from) = (new.metadata_mut(), old.metadata());
            to.uid.clone_from(&from.uid);
            to.creation_timestamp.clone_from(&from.creation_timestamp);
            to.generation = from.generation;
            to.resource_version.clone_from(&from.resource_version);
            to.deletion_timestamp.clone_from(&from.deletion_timestamp);
            keep(&mut new, &old);
            if new != old {
                table.put(new);
            }
        }
        None => {
            let metadata = new.metadata_mut();
            metadata.uid = Some(new_uid());
            metadata.creation_timestamp = Some(now());
            metadata.generation = Some(1);
            table.put(new);
        }
    }
}
