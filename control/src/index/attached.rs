//! What waypoints know and what is written back: made anew for those who looked at what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ambit_http::model::{Resource, ResourceKey};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::objects::Objects;
use super::revisions::Revisions;
use crate::source::{Key, Object};
use crate::translate::view::{Looked, Outcome, View};
use crate::translate::{
    Mesh, authentication, authorizer, entry, extension, gateway, labels, policy, route, tls,
    traffic,
};

/// What was made of each object, and what it looked at.
#[derive(Debug, Default)]
pub(super) struct Attached {
    made: BTreeMap<Key, (Outcome, BTreeSet<Looked>)>,
    lookers: HashMap<Looked, BTreeSet<Key>>,
    revisions: Revisions,
}

impl Attached {
    /// Whose outcome may differ after a change of this object.
    pub(super) fn touched(&self, key: &Key) -> BTreeSet<Key> {
        let looked = [
            Looked::At(key.clone()),
            Looked::Within(key.kind, key.namespace.clone()),
        ];
        let mut touched = BTreeSet::from([key.clone()]);
        for looked in looked {
            touched.extend(self.lookers.get(&looked).into_iter().flatten().cloned());
        }
        touched
    }

    /// Makes these anew and gives what is new or different, and what is gone, routes first.
    pub(super) fn translate(
        &mut self,
        touched: BTreeSet<Key>,
        objects: &Objects,
        mesh: &Mesh,
    ) -> (Vec<Resource>, Vec<ResourceKey>) {
        let mut set = Vec::new();
        let mut gone: Vec<ResourceKey> = Vec::new();
        for key in touched {
            let view = View::new(objects, mesh);
            let outcome = make(&key, &view);
            let old = self.replace(&key, outcome, view.looked());
            let status = self.status(&key);
            if status != old.status.as_ref() {
                let there = status.is_some();
                self.revisions.changed(&key, there);
            }
            let now = self
                .made
                .get(&key)
                .map_or(&[][..], |(made, _)| &made.resources);
            let mut before: BTreeMap<ResourceKey, Resource> =
                old.resources.into_iter().map(|it| (it.key(), it)).collect();
            for resource in now {
                if before.remove(&resource.key()).as_ref() != Some(resource) {
                    set.push(resource.clone());
                }
            }
            gone.extend(before.into_keys());
        }
        gone.sort_by_key(|key| !matches!(key, ResourceKey::Route(_)));
        (set, gone)
    }

    fn replace(&mut self, key: &Key, outcome: Outcome, looked: BTreeSet<Looked>) -> Outcome {
        let old = self.made.remove(key);
        if let Some((_, before)) = &old {
            for at in before.difference(&looked) {
                if let Some(lookers) = self.lookers.get_mut(at) {
                    lookers.remove(key);
                    if lookers.is_empty() {
                        self.lookers.remove(at);
                    }
                }
            }
        }
        for at in &looked {
            self.lookers
                .entry(at.clone())
                .or_default()
                .insert(key.clone());
        }
        if outcome != Outcome::default() || !looked.is_empty() {
            self.made.insert(key.clone(), (outcome, looked));
        }
        old.map(|(outcome, _)| outcome).unwrap_or_default()
    }

    /// What is written back into an object.
    pub(super) fn status(&self, key: &Key) -> Option<&serde_json::Value> {
        self.made.get(key)?.0.status.as_ref()
    }

    /// When which status changed.
    pub(super) fn revisions(&self) -> &Revisions {
        &self.revisions
    }

    /// What was made of every object.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&Key, &Outcome)> {
        self.made.iter().map(|(key, (outcome, _))| (key, outcome))
    }
}

/// What is said of the label that puts a namespace or a pod into the mesh.
fn mode(of: &ObjectMeta) -> Outcome {
    let notice = labels::unknown_mode(labels::label(of, labels::DATAPLANE_MODE));
    Outcome {
        notices: notice.into_iter().collect(),
        ..Outcome::default()
    }
}

/// What is made of an object; nothing when it is not there.
fn make(key: &Key, view: &View<'_>) -> Outcome {
    let (namespace, name) = (&*key.namespace, &*key.name);
    match view.objects.find(key) {
        Some(Object::Service(object)) => gateway::service(namespace, name, &object, view),
        Some(Object::AuthorizationPolicy(object)) => {
            policy::translate(namespace, name, &object, view)
        }
        Some(Object::RequestAuthentication(object)) => {
            authentication::translate(namespace, name, &object, view)
        }
        Some(Object::Namespace(object)) => mode(&object.metadata),
        Some(Object::Pod(object)) => mode(&object.metadata),
        Some(Object::GatewayClass(object)) => gateway::class(name, &object),
        Some(Object::Gateway(object)) => gateway::gateway(namespace, name, &object, view),
        Some(Object::HTTPRoute(object)) => route::http(namespace, name, &object, view),
        Some(Object::GRPCRoute(object)) => route::grpc(namespace, name, &object, view),
        Some(Object::TLSRoute(object)) => route::tls(namespace, name, &object, view),
        Some(Object::TCPRoute(object)) => route::tcp(namespace, name, &object, view),
        Some(Object::BackendTLSPolicy(object)) => tls::policy(namespace, &object, view),
        Some(Object::XBackendTrafficPolicy(object)) => {
            traffic::backend_policy(namespace, name, &object, view)
        }
        Some(Object::DestinationRule(object)) => {
            traffic::destination_rule(namespace, name, &object, view)
        }
        Some(Object::ServiceEntry(object)) => Outcome {
            status: entry::status(namespace, name, &object, view.objects),
            ..Outcome::default()
        },
        Some(Object::ExternalAuthorizer(object)) => {
            authorizer::translate(namespace, name, &object, view)
        }
        Some(Object::RateLimit(object)) => {
            let named = ambit_core::addr::NamespacedName::new(namespace, name);
            let error = extension::rate_limit(named, &object.spec).err();
            extension::checked(&object.metadata, error)
        }
        Some(Object::FaultInjection(object)) => {
            extension::checked(&object.metadata, extension::fault(&object.spec).err())
        }
        _ => Outcome::default(),
    }
}
