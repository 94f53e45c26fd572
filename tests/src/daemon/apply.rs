//! Puts manifests in force.

use std::time::Duration;

use ambit_control::translate::gateway::known_classes;
use ambit_control::translate::labels::{DATAPLANE_MODE, unknown_mode};
use ambit_control::translate::{network, waypoint};

use super::serve::Caller;
use super::wait;
use crate::api::{Applied, Document, Key, Kind, Manifest, parse};
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
    let waited = async {
        let _ = wait::in_force(cluster, deadline, &mine).await?;
        wait::until(cluster, deadline, missing).await?;
        wait::in_force(cluster, deadline, &mine).await
    };
    let placed = |lines| placed(lines, &documents);
    let warnings = waited.await.map(placed).map_err(placed)?;
    let class = Kind::of("GatewayClass").expect("a kind of the lab");
    let notices: Vec<String> = cluster.write(|store| {
        let is_there = |name: &str| store.find(class, &Key::new("", name)).is_some();
        notices(&documents, is_there).collect()
    });
    for warning in warnings.into_iter().chain(notices) {
        let _ = caller.line(format!("warning: {warning}")).await;
    }
    Ok(Reply::Done(0))
}

/// Lines about documents, with the place at which each stands in the user's files. Of an object that is given twice the last is
/// in force.
fn placed(lines: Vec<String>, documents: &[Document]) -> Vec<String> {
    let lines = lines.into_iter().map(|line| {
        let about = |document: &&Document| {
            let rest = line.strip_prefix(&document.to_string());
            rest.is_some_and(|rest| rest.starts_with(": "))
        };
        match documents.iter().rev().find(about) {
            Some(document) => format!("{}: {line}", document.place()),
            None => line,
        }
    });
    lines.collect()
}

/// What has no effect in a lab, or none that the control plane would say. Whether a GatewayClass is there, `has_class` tells: of a
/// Gateway without one the control plane speaks itself.
fn notices(
    documents: &[Document],
    mut has_class: impl FnMut(&str) -> bool,
) -> impl Iterator<Item = String> {
    documents.iter().filter_map(move |document| {
        let why = match document.kind.kind {
            "NetworkPolicy" => {
                "the lab enforces no NetworkPolicy; on a cluster its CNI plugin does".to_owned()
            }
            "Gateway" => {
                let class = document.value.pointer("/spec/gatewayClassName")?.as_str()?;
                let is_known = waypoint::CLASSES.contains(&class) || network::CLASSES.contains(&class);
                if is_known || !has_class(class) {
                    return None;
                }
                let known = known_classes();
                format!("spec.gatewayClassName {class:?}: the lab runs no controller of it, nothing comes of the Gateway ({known})")
            }
            _ => {
                let labels = document.value.pointer("/spec/template/metadata/labels")?;
                unknown_mode(labels[DATAPLANE_MODE].as_str())?
            }
        };
        Some(format!("{}: {document}: {why}", document.place()))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        let manifest = Manifest {
            file: "a.yaml".to_owned(),
            text: text.to_owned(),
        };
        let (documents, errors) = parse(&[manifest]);
        assert_eq!(errors, []);
        documents
    }

    #[test]
    fn what_has_no_effect_is_said_with_its_place() {
        let documents = documents(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\n\
             spec: {template: {metadata: {labels: {istio.io/dataplane-mode: ambinet}}}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: e, namespace: shop}\n\
             spec: {template: {metadata: {labels: {istio.io/dataplane-mode: none}}}}\n",
        );
        let said: Vec<String> = notices(&documents, |_| false).collect();
        assert_eq!(
            said,
            [
                "a.yaml:1: NetworkPolicy shop/n: the lab enforces no NetworkPolicy; on a cluster its CNI plugin does",
                "a.yaml:5: Deployment shop/d: label istio.io/dataplane-mode is \"ambinet\", which has no effect; write ambient or none",
            ]
        );
        let lines = [
            "Deployment shop/d: x",
            "Deployment shop/dd: x",
            "still wrong: Deployment shop/d: x",
        ];
        let lines = lines.map(str::to_owned).to_vec();
        assert_eq!(
            placed(lines, &documents),
            [
                "a.yaml:5: Deployment shop/d: x",
                "Deployment shop/dd: x",
                "still wrong: Deployment shop/d: x"
            ]
        );
    }

    #[test]
    fn a_gateway_of_others_is_said_where_their_class_is_there() {
        let of = |class: &str| {
            let gateway = documents(&format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: shop}}\n\
                 spec: {{gatewayClassName: {class}}}\n"
            ));
            notices(&gateway, |name| name != "missing").collect::<Vec<_>>()
        };
        let said = of("nginx");
        let expected = "a.yaml:1: Gateway shop/g: spec.gatewayClassName \"nginx\": the lab runs no controller of it";
        assert!(said[0].starts_with(expected), "{said:?}");
        for quiet in ["missing", "ambit-waypoint", "istio-east-west"] {
            assert_eq!(of(quiet), [""; 0]);
        }
    }

    #[test]
    fn of_an_object_that_is_given_twice_the_last_is_named() {
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        let documents = documents(&format!("{namespace}---\n{namespace}"));
        let lines = vec!["Namespace shop: x".to_owned()];
        assert_eq!(placed(lines, &documents), ["a.yaml:5: Namespace shop: x"]);
    }
}
