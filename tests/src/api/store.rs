//! Every object of the lab, as the API server of a cluster keeps them.

use ambit_control::translate::Mesh;
use ambit_core::trust_domain::TrustDomains;
use ambit_ztunnel::agent::MARK;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::Kind;
use super::meta::{new_uid, now};
use super::parse::Document;
use super::table::{Key, Table};

/// An object that the lab stores but does not act upon itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl k8s_openapi::Resource for Object {
    const API_VERSION: &'static str = "";
    const GROUP: &'static str = "";
    const KIND: &'static str = "";
    const VERSION: &'static str = "";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl Metadata for Object {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What applying a document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// It was new.
    Created,
    /// It replaced another state of itself.
    Configured,
    /// It was there already.
    Unchanged,
}

/// What peers have to know of the mesh's certificate authority, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Whom they trust.
    pub roots: String,
    /// Whom they do not believe any longer; nothing, where nothing is said of it.
    pub revoked: Option<String>,
}

/// Every object, by kind.
#[derive(Debug, Default)]
pub struct Store {
    /// Namespaces.
    pub namespaces: Table<Namespace>,
    /// Nodes.
    pub nodes: Table<Node>,
    /// Pods.
    pub pods: Table<Pod>,
    /// Services.
    pub services: Table<Service>,
    /// Service accounts.
    pub service_accounts: Table<ServiceAccount>,
    /// Configuration files of pods.
    pub config_maps: Table<ConfigMap>,
    /// Secret files of pods.
    pub secrets: Table<Secret>,
    /// Deployments.
    pub deployments: Table<Deployment>,
    /// Replica sets, made by deployments or users.
    pub replica_sets: Table<ReplicaSet>,
    /// Stateful sets.
    pub stateful_sets: Table<StatefulSet>,
    /// Daemon sets.
    pub daemon_sets: Table<DaemonSet>,
    /// Jobs.
    pub jobs: Table<Job>,
    /// Endpoint slices, made for services.
    pub endpoint_slices: Table<EndpointSlice>,
    mesh: Mesh,
    published: Option<Published>,
    /// How often something of the mesh changed that is no object.
    facts: u64,
    /// The rest, by kind: routes, policies and other objects that only control reads.
    others: Vec<(&'static Kind, Table<Object>)>,
}

/// Runs `$body` with `$table` bound to the table of the kind named `$kind`.
macro_rules! with_table {
    ($store:expr, $kind:expr, $table:ident => $body:expr) => {{
        let kind: &'static Kind = $kind;
        match kind.kind {
            "Namespace" => {
                let $table = &mut $store.namespaces;
                $body
            }
            "Node" => {
                let $table = &mut $store.nodes;
                $body
            }
            "Pod" => {
                let $table = &mut $store.pods;
                $body
            }
            "Service" => {
                let $table = &mut $store.services;
                $body
            }
            "ServiceAccount" => {
                let $table = &mut $store.service_accounts;
                $body
            }
            "ConfigMap" => {
                let $table = &mut $store.config_maps;
                $body
            }
            "Secret" => {
                let $table = &mut $store.secrets;
                $body
            }
            "Deployment" => {
                let $table = &mut $store.deployments;
                $body
            }
            "ReplicaSet" => {
                let $table = &mut $store.replica_sets;
                $body
            }
            "StatefulSet" => {
                let $table = &mut $store.stateful_sets;
                $body
            }
            "DaemonSet" => {
                let $table = &mut $store.daemon_sets;
                $body
            }
            "Job" => {
                let $table = &mut $store.jobs;
                $body
            }
            "EndpointSlice" => {
                let $table = &mut $store.endpoint_slices;
                $body
            }
            _ => {
                let $table = $store.other(kind);
                $body
            }
        }
    }};
}

impl Store {
    /// The mesh as control tells it to the waypoints that it deploys.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Calls the mesh's trust domain by these names.
    pub fn name_mesh(&mut self, trust_domains: TrustDomains) {
        self.mesh.trust_domains = trust_domains;
        self.facts += 1;
    }

    /// What the control plane publishes, once there is a mesh.
    #[must_use]
    pub fn published(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// Takes in what the control plane publishes.
    pub fn publish(&mut self, published: Published) {
        if self.published.as_ref() != Some(&published) {
            self.published = Some(published);
            self.facts += 1;
        }
    }

    /// How often something changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.facts
            + self.namespaces.changes()
            + self.nodes.changes()
            + self.pods.changes()
            + self.services.changes()
            + self.service_accounts.changes()
            + self.config_maps.changes()
            + self.secrets.changes()
            + self.deployments.changes()
            + self.replica_sets.changes()
            + self.stateful_sets.changes()
            + self.daemon_sets.changes()
            + self.jobs.changes()
            + self.endpoint_slices.changes()
            + self
                .others
                .iter()
                .map(|(_, table)| table.changes())
                .sum::<u64>()
    }

    /// The objects of a kind as JSON, with `apiVersion` and `kind`; of one namespace when given.
    pub fn list(&mut self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Value> {
        with_table!(self, kind, table => {
            let wanted = |key: &Key| namespace.is_none_or(|wanted| key.namespace == wanted);
            table.iter().filter(|(key, _)| wanted(key)).map(|(_, it)| typed(kind, it)).collect()
        })
    }

    /// One object as JSON.
    pub fn find(&mut self, kind: &'static Kind, key: &Key) -> Option<Value> {
        with_table!(self, kind, table => table.get(key).map(|object| typed(kind, object)))
    }

    /// Removes an object at once. Pods are removed by ending them instead.
    pub fn erase(&mut self, kind: &'static Kind, key: &Key) -> bool {
        with_table!(self, kind, table => table.remove(key).is_some())
    }

    /// What changed of a kind since this was asked last: the object now, or nothing when removed.
    pub fn take_changed(&mut self, kind: &'static Kind) -> Vec<(Key, Option<Value>)> {
        with_table!(self, kind, table => {
            let changed = table.take_changed();
            let value = |key: &Key| table.get(key).map(|object| typed(kind, object));
            changed.into_iter().map(|key| { let now = value(&key); (key, now) }).collect()
        })
    }

    /// Stores what a document says, keeping what the cluster added: identity, status, addresses.
    ///
    /// # Errors
    /// What is wrong with the object, in words for its author.
    pub fn apply(&mut self, document: &Document) -> Result<Applied, String> {
        let kind = document.kind;
        let key = Key::new(&document.namespace, &document.name);
        if kind.namespaced && !self.namespaces.contains(&Key::new("", &key.namespace)) {
            return Err(format!("namespaces {:?} not found", key.namespace));
        }
        let current = self.find(kind, &key);
        let before = self.changes();
        with_table!(self, kind, table => {
            // Through its type first, so that it compares with what is stored.
            let mut value = typed(kind, &decode(table, document.value.clone())?);
            merge(kind, &mut value, current.as_ref())?;
            let object = decode(table, value)?;
            table.put(object);
        });
        Ok(match current {
            None => Applied::Created,
            Some(_) if self.changes() == before => Applied::Unchanged,
            Some(_) => Applied::Configured,
        })
    }

    fn other(&mut self, kind: &'static Kind) -> &mut Table<Object> {
        let index = self
            .others
            .iter()
            .position(|(known, _)| *known == kind)
            .unwrap_or_else(|| {
                self.others.push((kind, Table::default()));
                self.others.len() - 1
            });
        &mut self.others[index].1
    }
}

/// Reads an object of a table's type.
fn decode<T: DeserializeOwned>(_: &Table<T>, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// `object` as JSON with its type said.
fn typed(kind: &Kind, object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.entry("apiVersion")
            .or_insert_with(|| kind.versions[0].into());
        map.entry("kind").or_insert_with(|| kind.kind.into());
    }
    value
}

/// Carries into `new` what the cluster decided for `current`.
fn merge(kind: &Kind, new: &mut Value, current: Option<&Value>) -> Result<(), String> {
    let Some(map) = new.as_object_mut() else {
        return Err("not an object".to_owned());
    };
    map.remove("status");
    let metadata = map
        .entry("metadata")
        .or_insert_with(|| Value::Object(Default::default()));
    let Some(metadata) = metadata.as_object_mut() else {
        return Err("metadata is not an object".to_owned());
    };
    metadata.remove("resourceVersion");
    let Some(current) = current else {
        metadata.insert("uid".to_owned(), new_uid().into());
        let created = serde_json::to_value(now()).unwrap_or_default();
        metadata.insert("creationTimestamp".to_owned(), created);
        metadata.insert("generation".to_owned(), 1.into());
        return Ok(());
    };
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "ownerReferences",
    ] {
        if let Some(kept) = current["metadata"].get(field) {
            metadata.insert(field.to_owned(), kept.clone());
        }
    }
    // Written by the node's agent, not by who applies.
    if let Some(mark) = current["metadata"]["annotations"].get(MARK) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(MARK.to_owned(), mark.clone());
        }
    }
    if let Some(status) = current.get("status") {
        map.insert("status".to_owned(), status.clone());
    }
    let server_owned: &[&str] = match kind.kind {
        "Service" => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"],
        "Pod" => &["nodeName", "serviceAccountName"],
        _ => &[],
    };
    if let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) {
        for field in server_owned {
            if let (None, Some(kept)) = (spec.get(*field), current["spec"].get(field)) {
                spec.insert((*field).to_owned(), kept.clone());
            }
        }
    }
    let changed = map.get("spec") != current.get("spec");
    if changed && kind.kind == "Pod" {
        return Err("a pod's spec cannot be changed: delete the pod first".to_owned());
    }
    if changed && let Some(generation) = current["metadata"]["generation"].as_i64() {
        map["metadata"]["generation"] = (generation + 1).into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Manifest, parse};
    use super::*;

    fn apply(store: &mut Store, text: &str) -> Result<Applied, String> {
        let manifest = Manifest {
            file: "t.yaml".to_owned(),
            text: text.to_owned(),
        };
        let (documents, errors) = parse(&[manifest]);
        assert!(errors.is_empty(), "{errors:?}");
        store.apply(&documents[0])
    }

    #[test]
    fn applying_keeps_what_the_cluster_added() {
        let mut store = Store::default();
        let service =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}";
        assert!(apply(&mut store, service).is_err_and(|error| error.contains("not found")));
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}";
        assert_eq!(apply(&mut store, namespace), Ok(Applied::Created));
        assert_eq!(apply(&mut store, service), Ok(Applied::Created));
        let key = Key::new("default", "a");
        store.services.update(&key, |service| {
            let spec = service.spec.get_or_insert_default();
            spec.cluster_ip = Some("10.96.0.20".to_owned());
        });
        assert_eq!(apply(&mut store, service), Ok(Applied::Unchanged));
        let uid = store
            .services
            .get(&key)
            .expect("stored")
            .metadata
            .uid
            .clone();
        assert_eq!(
            apply(&mut store, &service.replace("80", "81")),
            Ok(Applied::Configured)
        );
        let now = store.services.get(&key).expect("stored");
        assert_eq!(now.metadata.uid, uid);
        assert_eq!(now.metadata.generation, Some(2));
        let spec = now.spec.as_ref().expect("a spec");
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.20"));
    }

    #[test]
    fn applying_keeps_the_mark_of_a_captured_pod() {
        let mut store = Store::default();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}";
        assert_eq!(apply(&mut store, namespace), Ok(Applied::Created));
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {b: c}}\nspec: {containers: []}";
        assert_eq!(apply(&mut store, pod), Ok(Applied::Created));
        let key = Key::new("default", "a");
        let marked = |store: &Store| {
            let pod = store.pods.get(&key).expect("stored");
            pod.metadata.annotations.clone().unwrap_or_default()
        };
        store.pods.update(&key, |pod| {
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(MARK.to_owned(), "enabled".to_owned());
        });
        assert_eq!(apply(&mut store, pod), Ok(Applied::Unchanged));
        let bare = pod.replace(", annotations: {b: c}", "");
        assert_eq!(apply(&mut store, &bare), Ok(Applied::Configured));
        let mark = (MARK.to_owned(), "enabled".to_owned());
        assert_eq!(marked(&store), [mark].into());
    }

    #[test]
    fn objects_of_other_kinds_keep_every_field() {
        let mut store = Store::default();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}";
        assert_eq!(apply(&mut store, namespace), Ok(Applied::Created));
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                      metadata: {name: p}\nspec: {action: DENY, rules: [{from: []}]}";
        assert_eq!(apply(&mut store, policy), Ok(Applied::Created));
        let kind = Kind::of("AuthorizationPolicy").expect("a kind");
        let found = store.find(kind, &Key::new("default", "p")).expect("stored");
        assert_eq!(found["spec"]["action"], "DENY");
        assert_eq!(found["apiVersion"], "security.istio.io/v1");
        assert_eq!(store.take_changed(kind).len(), 1);
        assert_eq!(store.take_changed(kind).len(), 0);
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        let mut store = Store::default();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}";
        assert_eq!(apply(&mut store, namespace), Ok(Applied::Created));
        let bad =
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: web}]}";
        assert!(apply(&mut store, bad).is_err());
    }
}
