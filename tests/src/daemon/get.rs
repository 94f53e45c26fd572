//! Shows objects, with what the control plane says of them.

use serde_json::Value;

use crate::api::{Key, Kind};
use crate::cluster::Cluster;

/// The object `name`, or all of a kind; of one namespace when given.
///
/// # Errors
/// There is no such kind or object.
pub(super) fn get(
    cluster: &Cluster,
    kind: &str,
    name: Option<&str>,
    namespace: Option<String>,
) -> Result<Vec<Value>, Vec<String>> {
    let kind = Kind::called(kind).ok_or_else(|| vec![format!("no kind is called {kind:?}")])?;
    let namespace = namespace.filter(|_| kind.namespaced);
    let mut objects = match name {
        Some(name) => {
            let default = if kind.namespaced { "default" } else { "" };
            let key = Key::new(namespace.as_deref().unwrap_or(default), name);
            let found = cluster.write(|store| store.find(kind, &key));
            vec![found.ok_or_else(|| vec![format!("{kind} {key} not found")])?]
        }
        None => cluster.write(|store| store.list(kind, namespace.as_deref())),
    };
    if let Some(mesh) = cluster.mesh() {
        let statuses = mesh.synced().borrow().statuses.clone();
        for object in &mut objects {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let key = Key::new(text("namespace"), text("name"));
            statuses.show(kind, &key, object);
        }
    }
    Ok(objects)
}
