//! Removes objects and what was made for them.

use std::time::Duration;

use super::serve::Caller;
use super::wait;
use crate::api::{Key, Kind, Manifest, Store, now, parse};
use crate::cluster::{Cluster, is_virtual};
use crate::controllers::{SYSTEM_NAMESPACES, is_terminating};
use crate::protocol::Reply;

/// Removes what manifests or `object` name, and waits until their pods are gone.
pub(super) async fn delete(
    cluster: &Cluster,
    caller: &mut Caller,
    manifests: &[Manifest],
    object: Option<(String, String, String)>,
    patience: Duration,
) -> Result<Reply, Vec<String>> {
    let deadline = wait::deadline(patience);
    let (documents, errors) = parse(manifests);
    if !errors.is_empty() {
        return Err(errors.iter().map(ToString::to_string).collect());
    }
    let mut wanted: Vec<(&'static Kind, Key)> = documents
        .iter()
        .rev()
        .map(|document| (document.kind, Key::new(&document.namespace, &document.name)))
        .collect();
    if let Some((kind, namespace, name)) = object {
        let kind =
            Kind::called(&kind).ok_or_else(|| vec![format!("no kind is called {kind:?}")])?;
        let key = if kind.namespaced {
            Key::new(&namespace, &name)
        } else {
            Key::new("", &name)
        };
        if cluster.write(|store| store.find(kind, &key)).is_none() {
            return Err(vec![format!("{kind} {key} not found")]);
        }
        wanted.push((kind, key));
    }
    for (kind, key) in &wanted {
        let virtual_pod =
            kind.kind == "Pod" && cluster.read(|store| store.pods.get(key).is_some_and(is_virtual));
        if virtual_pod || kind.kind == "Node" || kind.kind == "Namespace" && is_system(key) {
            return Err(vec![format!(
                "{kind} {key} belongs to the lab: `lab down` removes it"
            )]);
        }
        let removed = cluster.write(|store| remove(store, kind, key));
        let word = if removed { "deleted" } else { "not found" };
        // A caller that went away does not undo what it asked for.
        let _ = caller.line(format!("{kind} {key} {word}")).await;
    }
    let _ = wait::in_force(cluster, deadline, &[]).await?;
    let missing = |store: &Store| {
        let ending = store.pods.iter().filter(|(_, pod)| is_terminating(pod));
        let mut left: Vec<String> = ending
            .map(|(key, _)| format!("pod {key} is still ending"))
            .collect();
        let namespaces = store.namespaces.iter();
        let going = namespaces.filter(|(_, it)| it.metadata.deletion_timestamp.is_some());
        left.extend(going.map(|(key, _)| format!("namespace {key} is still ending")));
        Ok(left)
    };
    wait::until(cluster, deadline, missing).await?;
    let _ = wait::in_force(cluster, deadline, &[]).await?;
    Ok(Reply::Done(0))
}

fn is_system(key: &Key) -> bool {
    SYSTEM_NAMESPACES.contains(&key.name.as_str())
}

fn remove(store: &mut Store, kind: &'static Kind, key: &Key) -> bool {
    match kind.kind {
        "Pod" => {
            let there = store.pods.contains(key);
            let placed = store.pods.get(key).and_then(|pod| pod.spec.as_ref());
            if placed.is_some_and(|spec| spec.node_name.is_some()) {
                store.pods.update(key, |pod| {
                    pod.metadata.deletion_timestamp.get_or_insert_with(now);
                });
            } else {
                store.pods.remove(key);
            }
            there
        }
        "Namespace" => {
            let there = store.namespaces.contains(key);
            store.namespaces.update(key, |namespace| {
                namespace
                    .metadata
                    .deletion_timestamp
                    .get_or_insert_with(now);
            });
            there
        }
        _ => store.erase(kind, key),
    }
}
