//! Puts manifests in force.

use std::time::Duration;

use super::serve::Caller;
use super::wait;
use crate::api::{Applied, Document, Key, Manifest, parse};
use crate::cluster::Cluster;
use crate::protocol::Reply;

/// Stores what the manifests say and waits until all of it is in force: pods ready, service addresses
/// set, configuration acknowledged by every proxy. Nothing is stored when a document cannot be read.
pub(super) async fn apply(
    cluster: &Cluster,
    caller: &mut Caller,
    manifests: &[Manifest],
    patience: Duration,
) -> Result<Reply, Vec<String>> {
    let deadline = wait::deadline(patience);
    let (mut documents, errors) = parse(manifests);
    if !errors.is_empty() {
        return Err(errors.iter().map(ToString::to_string).collect());
    }
    documents.sort_by_key(order);
    let mut errors = Vec::new();
    for document in &documents {
        match cluster.write(|store| store.apply(document)) {
            Ok(applied) => {
                let word = match applied {
                    Applied::Created => "created",
                    Applied::Configured => "configured",
                    Applied::Unchanged => "unchanged",
                };
                // A caller that went away does not undo what it asked for.
                let _ = caller.line(format!("{document} {word}")).await;
            }
            Err(error) => errors.push(document.error(error).to_string()),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let missing = |store: &crate::api::Store| {
        let mut left = Vec::new();
        for document in &documents {
            let key = Key::new(&document.namespace, &document.name);
            if let Some(reason) = wait::unready(store, document.kind, &key)? {
                left.push(format!("{document}: {reason}"));
            }
        }
        Ok(left)
    };
    // The controllers first: what they have not seen looks ready.
    let mine: Vec<String> = documents.iter().map(ToString::to_string).collect();
    let _ = wait::in_force(cluster, deadline, &mine).await?;
    wait::until(cluster, deadline, missing).await?;
    for warning in wait::in_force(cluster, deadline, &mine).await? {
        let _ = caller.line(format!("warning: {warning}")).await;
    }
    Ok(Reply::Done(0))
}

/// What others refer to goes first.
fn order(document: &Document) -> u8 {
    match document.kind.kind {
        "Namespace" => 0,
        "ServiceAccount" | "ConfigMap" | "Secret" => 1,
        "AuthorizationPolicy" | "PeerAuthentication" => 2,
        "Service" => 3,
        _ => 4,
    }
}
