//! The scheduler: the node a pod names, else one that its selector allows and that has the fewest
//! pods of the same owner, then the fewest pods.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::pods;
use crate::api::{Key, Store};

pub(super) fn reconcile(store: &mut Store) {
    let waiting: Vec<Pod> = store
        .pods
        .iter()
        .map(|(_, pod)| pod)
        .filter(|pod| !pods::is_terminating(pod))
        .filter(|pod| {
            let spec = pod.spec.as_ref();
            spec.is_none_or(|it| it.node_name.is_none() || it.service_account_name.is_none())
        })
        .cloned()
        .collect();
    for pod in waiting {
        let spec = pod.spec.clone().unwrap_or_default();
        let key = Key::of(&pod.metadata);
        let account = spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        if !store
            .service_accounts
            .contains(&Key::new(&key.namespace, &account))
        {
            hold(
                store,
                &key,
                &format!("serviceaccount \"{account}\" not found"),
            );
            continue;
        }
        let node = spec
            .node_name
            .clone()
            .or_else(|| emptiest(store, &pod, &spec));
        let Some(node) = node else {
            hold(store, &key, "no node matches the pod's nodeSelector");
            continue;
        };
        store.pods.update(&key, |pod| {
            let spec = pod.spec.get_or_insert_default();
            spec.node_name = Some(node);
            spec.service_account_name = Some(account);
            if let Some(status) = &mut pod.status {
                status.reason = None;
                status.message = None;
            }
        });
    }
}

/// The nodes that a pod of this spec may run on.
pub(super) fn fitting(store: &Store, spec: &PodSpec) -> Vec<String> {
    let allowed = |labels: Option<&std::collections::BTreeMap<String, String>>| {
        let mut wanted = spec.node_selector.iter().flatten();
        wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    store
        .nodes
        .iter()
        .filter(|(_, node)| allowed(node.metadata.labels.as_ref()))
        .map(|(key, _)| key.name.clone())
        .collect()
}

fn emptiest(store: &Store, pod: &Pod, spec: &PodSpec) -> Option<String> {
    let owner = |pod: &Pod| {
        let owners = pod.metadata.owner_references.as_ref();
        owners
            .and_then(|owners| owners.first())
            .map(|owner| owner.uid.clone())
    };
    let own = owner(pod);
    fitting(store, spec).into_iter().min_by_key(|node| {
        let (mut siblings, mut total) = (0, 0);
        for (_, other) in store.pods.iter() {
            if other.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) != Some(node) {
                continue;
            }
            total += 1;
            siblings += usize::from(own.is_some() && owner(other) == own);
        }
        (siblings, total)
    })
}

fn hold(store: &mut Store, key: &Key, message: &str) {
    store.pods.update(key, |pod| {
        let status = pod.status.get_or_insert_default();
        status.phase = Some("Pending".to_owned());
        status.reason = Some("Unschedulable".to_owned());
        status.message = Some(message.to_owned());
    });
}
