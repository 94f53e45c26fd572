//! Namespaces: each has a `default` service account, and takes everything in it along when it goes.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::pods;
use crate::api::{ALL_KINDS, Key, Store, new_uid, now};

/// The namespaces that every lab has.
pub const SYSTEM_NAMESPACES: &[&str] = &["default", "kube-system", "istio-system", "ambit-system"];

/// A namespace as a cluster would have it from the start.
#[must_use]
pub fn namespace(name: &str) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(new_uid()),
            creation_timestamp: Some(now()),
            labels: Some([("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<Namespace> = store.namespaces.iter().map(|(_, it)| it.clone()).collect();
    for namespace in all {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_some() {
            empty(store, &name);
            continue;
        }
        store.namespaces.update(&Key::new("", &name), |namespace| {
            let labels = namespace.metadata.labels.get_or_insert_default();
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
            let active = NamespaceStatus {
                phase: Some("Active".to_owned()),
                conditions: None,
            };
            namespace.status = Some(active);
        });
        if !store.service_accounts.contains(&Key::new(&name, "default")) {
            store.service_accounts.put(ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".to_owned()),
                    namespace: Some(name),
                    uid: Some(new_uid()),
                    creation_timestamp: Some(now()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            });
        }
    }
}

/// Removes what is in a namespace, and the namespace when nothing is left.
fn empty(store: &mut Store, namespace: &str) {
    for kind in ALL_KINDS
        .iter()
        .filter(|kind| kind.namespaced && kind.kind != "Pod")
    {
        for object in store.list(kind, Some(namespace)) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            store.erase(kind, &Key::new(namespace, name));
        }
    }
    let left: Vec<Key> = store
        .pods
        .within(namespace)
        .map(|pod| Key::of(&pod.metadata))
        .collect();
    for pod in &left {
        pods::end(store, pod);
    }
    if left.is_empty() {
        store.namespaces.remove(&Key::new("", namespace));
    }
}
