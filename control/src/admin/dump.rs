//! What the control plane knows, as JSON.

use serde_json::{Value, json};

use super::Admin;
use crate::push::ResourceType;
use crate::push::connections::Connection;
use crate::source::Key;

/// Settings, objects, resources, problems. No key, no token.
#[must_use]
pub fn config(admin: &Admin) -> Value {
    let generation = admin.state.shelves().generation();
    let (problems, notices) = (admin.state.problems(), admin.state.notices());
    let index = admin.state.index();
    let objects: serde_json::Map<String, Value> = index
        .objects()
        .counts()
        .iter()
        .map(|(kind, count)| (kind.to_string(), json!(count)))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "settings": *admin.settings,
        "generation": generation,
        "objects": objects,
        "errors": problems,
        "notices": notices,
        "workloads": index.workloads().map(|w| &**w).collect::<Vec<_>>(),
        "services": index.services().map(|s| &**s).collect::<Vec<_>>(),
        "policies": index.policies().map(|p| &**p).collect::<Vec<_>>(),
        "waypoints": index.for_waypoints().collect::<Vec<_>>(),
    })
}

/// Every stream and how far it is.
#[must_use]
pub fn connections(admin: &Admin) -> Value {
    let all = admin.connections.all();
    Value::Array(all.iter().map(connection).collect())
}

fn connection(connection: &Connection) -> Value {
    let mut types = serde_json::Map::new();
    for of in ResourceType::ALL {
        if let Some(progress) = connection.progress(of) {
            let nacks: Vec<_> = connection
                .nacks()
                .filter(|nack| nack.r#type == of.name())
                .collect();
            let about = json!({
                "pushed": progress.pushed,
                "acked": progress.acked,
                "settled": progress.settled,
                "last_nack": nacks.last().map(|nack| nack.message.clone()),
                "nacks": nacks,
            });
            types.insert(of.name().to_owned(), about);
        }
    }
    json!({
        "node": connection.node,
        "peer": connection.peer,
        "account": connection.account,
        "types": types,
    })
}

/// What is to be written back into objects: `[{kind, namespace, name, status}]`, the namespace empty for
/// kinds without. Conditions have no `lastTransitionTime`: that is for who writes them.
#[must_use]
pub fn statuses(admin: &Admin) -> Value {
    let index = admin.state.index();
    let statuses = index.statuses();
    statuses
        .map(|(key, status)| written_back(key, Some(status)))
        .collect()
}

/// What has changed of that since `after`, the cursor of an earlier answer: `{cursor, whole, statuses}`, a
/// status `null` when it is gone. `whole`: these are all, and what was known before is void.
#[must_use]
pub fn statuses_after(admin: &Admin, after: &str) -> Value {
    let index = admin.state.index();
    let revision = after
        .split_once('-')
        .filter(|(instance, _)| *instance == admin.instance)
        .and_then(|(_, revision)| revision.parse().ok());
    let changed = revision.and_then(|revision| index.statuses_after(revision));
    let whole = changed.is_none();
    let statuses: Value = match changed {
        Some(changed) => changed.map(|(key, it)| written_back(key, it)).collect(),
        None => {
            let all = index.statuses();
            all.map(|(key, it)| written_back(key, Some(it))).collect()
        }
    };
    json!({
        "cursor": format!("{}-{}", admin.instance, index.status_revision()),
        "whole": whole,
        "statuses": statuses,
    })
}

fn written_back(key: &Key, status: Option<&Value>) -> Value {
    json!({
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "status": status,
    })
}
