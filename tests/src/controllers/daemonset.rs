//! Daemon sets: one pod on every node that the template allows.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::deployment::template_hash;
use super::{pods, scheduler};
use crate::api::{Key, Store, owner_reference, random_suffix};

const REVISION_LABEL: &str = "controller-revision-hash";

pub(super) fn reconcile(store: &mut Store) {
    let all: Vec<DaemonSet> = store.daemon_sets.iter().map(|(_, it)| it.clone()).collect();
    for set in all {
        if let Some(spec) = &set.spec {
            adjust(store, &set, spec);
        }
    }
}

fn adjust(store: &mut Store, set: &DaemonSet, spec: &DaemonSetSpec) {
    let revision = template_hash(&spec.template);
    let template = spec.template.spec.clone().unwrap_or_default();
    let nodes: Vec<String> = scheduler::fitting(store, &template);
    let (mut ready, mut updated) = (0, 0);
    let owned = pods::owned(store, &set.metadata);
    let mut replacing = owned.iter().any(|pod| !pods::is_ready(pod));
    for node in &nodes {
        let on_node =
            |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(node);
        let Some(pod) = owned.iter().find(on_node) else {
            let pod = make(set, spec, node, &revision);
            store.pods.put(pod);
            continue;
        };
        let labels = pod.metadata.labels.as_ref();
        let current = labels.and_then(|labels| labels.get(REVISION_LABEL)) == Some(&revision);
        updated += i32::from(current);
        ready += i32::from(pods::is_ready(pod) && !pods::is_terminating(pod));
        let replace = !current && (!replacing || !pods::is_ready(pod));
        if pods::is_finished(pod) || replace {
            replacing = true;
            pods::end(store, &Key::of(&pod.metadata));
        }
    }
    let count = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    store.daemon_sets.update(&Key::of(&set.metadata), |set| {
        set.status = Some(DaemonSetStatus {
            observed_generation: set.metadata.generation,
            desired_number_scheduled: count,
            current_number_scheduled: count,
            number_ready: ready,
            number_available: Some(ready),
            updated_number_scheduled: Some(updated),
            ..DaemonSetStatus::default()
        });
    });
}

fn make(set: &DaemonSet, spec: &DaemonSetSpec, node: &str, revision: &str) -> Pod {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = format!("{name}-{}", random_suffix(5));
    let owner = owner_reference("apps/v1", "DaemonSet", &set.metadata);
    let labels = [(REVISION_LABEL, revision)];
    let mut pod = pods::from_template(&name, namespace, &spec.template, owner, &labels);
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    pod
}
