//! Objects and the resources that follow from them, kept in step change by change.
//!
//! A change marks what it touches; only that is translated again, and only what then differs is a
//! [`Change`]. Nothing here does IO.

mod attached;
pub mod directory;
mod entries;
mod handover;
mod moves;
mod networks;
pub mod objects;
pub mod readers;
mod reports;
mod revisions;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{AuthorizationPolicy, Service, Workload};
use ambit_http::model::{Resource, ResourceKey};

use crate::source::{Event, Key, Kind, Object, Origin};
use crate::translate::{self, Mesh};
use attached::Attached;
use handover::Handovers;
use moves::Judged;
use objects::Objects;
use readers::{Readers, ReadersOf};
use reports::Report;
use touched::Touched;

pub use handover::Step;

/// A resource that is new, different or gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A workload as it is now.
    Workload(Arc<Workload>),
    /// The workload of this uid is gone.
    RemoveWorkload(Arc<str>),
    /// A service as it is now.
    Service(Arc<Service>),
    /// The service of this key is gone.
    RemoveService(NamespacedName),
    /// A policy as it is now.
    Policy(Arc<AuthorizationPolicy>),
    /// The policy of this key is gone.
    RemovePolicy(NamespacedName),
    /// Something for these waypoints as it is now.
    Waypoint(Resource, Arc<Readers>),
    /// What waypoints know under this key is gone.
    RemoveWaypoint(ResourceKey),
}

/// Objects, and the resources that follow from them.
#[derive(Debug)]
pub struct Index {
    mesh: Mesh,
    objects: Objects,
    origins: HashMap<Key, Origin>,
    reports: BTreeMap<Key, Report>,
    pods_by_node: HashMap<Arc<str>, BTreeSet<NamespacedName>>,
    slice_workloads: HashMap<NamespacedName, BTreeSet<Arc<str>>>,
    entry_workloads: HashMap<NamespacedName, BTreeSet<Arc<str>>>,
    entry_services: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    gateway_workloads: HashMap<NamespacedName, BTreeSet<Arc<str>>>,
    workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    services: BTreeMap<NamespacedName, Arc<Service>>,
    policies: BTreeMap<NamespacedName, Arc<AuthorizationPolicy>>,
    attached: Attached,
    readers: ReadersOf,
    handovers: Handovers,
    judged: Judged,
}

fn key_of(kind: Kind, name: &NamespacedName) -> Key {
    Key {
        kind,
        namespace: name.namespace.clone(),
        name: name.name.clone(),
    }
}

impl Index {
    /// An index without objects.
    #[must_use]
    pub fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            objects: Objects::default(),
            origins: HashMap::new(),
            reports: BTreeMap::new(),
            pods_by_node: HashMap::new(),
            slice_workloads: HashMap::new(),
            entry_workloads: HashMap::new(),
            entry_services: HashMap::new(),
            gateway_workloads: HashMap::new(),
            workloads: BTreeMap::new(),
            services: BTreeMap::new(),
            policies: BTreeMap::new(),
            attached: Attached::default(),
            readers: ReadersOf::default(),
            handovers: Handovers::default(),
            judged: Judged::new(),
        }
    }

    /// Takes in what happened and gives what follows, in an order that proxies can apply one by
    /// one without a gap: policies before what refers to them, and gone only after it.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Change> {
        self.handovers.tick();
        self.judged.clear();
        let mut touched = Touched::default();
        let mut for_waypoints = BTreeSet::new();
        for event in events {
            let (key, object) = match event {
                Event::Apply(object, origin) => {
                    let key = object.key();
                    self.origins.insert(key.clone(), origin);
                    (key, Some(object))
                }
                Event::Delete(key) => {
                    self.origins.remove(&key);
                    self.reports.remove(&key);
                    (key, None)
                }
            };
            let old = self.objects.set(&key, object.clone());
            let same = matches!((&old, &object), (Some(a), Some(b)) if a.same(b));
            if !same {
                self.reindex(&key, old.as_ref(), object.as_ref());
                touched.by(&key, old.as_ref(), object.as_ref(), self);
                for_waypoints.extend(self.attached.touched(&key));
            }
        }
        for_waypoints.extend(self.allocate(&mut touched));
        for_waypoints.extend(self.find_networks(&mut touched));
        let mut changes = self.translate(&touched);
        self.end_handovers(&touched.policies, &mut changes);
        let (set, gone) = self
            .attached
            .translate(for_waypoints, &self.objects, &self.mesh);
        self.with_readers(changes, set, gone)
    }

    /// All changes in order, with whom of the waypoints they concern.
    fn with_readers(
        &mut self,
        mut changes: Changes,
        set: Vec<Resource>,
        gone: Vec<ResourceKey>,
    ) -> Vec<Change> {
        let (first, last) = self.readers.apply(&self.mesh, &changes.middle, set, gone);
        changes.first.extend(first);
        changes.last.extend(last);
        changes.ordered()
    }

    fn reindex(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let node = |object: Option<&Object>| match object {
            Some(Object::Pod(pod)) => pod.spec.as_ref()?.node_name.clone(),
            _ => None,
        };
        let name = NamespacedName::new(key.namespace.clone(), key.name.clone());
        if let Some(node) = node(old)
            && let Some(pods) = self.pods_by_node.get_mut(node.as_str())
        {
            pods.remove(&name);
            if pods.is_empty() {
                self.pods_by_node.remove(node.as_str());
            }
        }
        if let Some(node) = node(new) {
            let pods = self.pods_by_node.entry(node.into()).or_default();
            pods.insert(name);
        }
    }

    fn translate(&mut self, touched: &Touched) -> Changes {
        let mut changes = Changes::default();
        for name in &touched.policies {
            self.translate_policy(name, &mut changes);
        }
        for name in &touched.peers {
            self.translate_peer(name, &mut changes);
        }
        if touched.static_strict {
            let wanted = (!self.objects.peers.is_empty())
                .then(|| translate::peer::static_strict(&self.mesh));
            let key = translate::peer::static_key(&self.mesh);
            self.set_policy(key, wanted, &mut changes);
        }
        for name in &touched.services {
            self.translate_service(name, &mut changes);
        }
        self.translate_entries(&touched.entries, &mut changes);
        for name in &touched.pods {
            self.translate_pod(name, &mut changes);
        }
        for name in &touched.workload_entries {
            self.translate_workload_entry(name, &mut changes);
        }
        for name in &touched.slices {
            self.translate_slice(name, &mut changes);
        }
        for name in &touched.gateways {
            self.translate_gateway(name, &mut changes);
        }
        changes
    }

    fn translate_policy(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let object = self.objects.policies.find(&name.namespace, &name.name);
        let outcome = object.map(|object| {
            let (namespace, name) = (&name.namespace, &name.name);
            translate::authorization::translate(namespace, name, object, &self.objects, &self.mesh)
        });
        let outcome = self.report(Kind::AuthorizationPolicy, name, outcome);
        self.set_policy(name.clone(), outcome.policy, changes);
    }

    fn translate_peer(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, peer) = (&*name.namespace, &*name.name);
        let outcome =
            self.objects.peers.find(ns, peer).map(|object| {
                translate::peer::translate(ns, peer, object, &self.objects, &self.mesh)
            });
        let outcome = self.report(Kind::PeerAuthentication, name, outcome);
        let key = translate::peer::converted_key(ns, peer);
        self.set_policy(key, outcome.policy, changes);
    }

    fn translate_service(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, service) = (&*name.namespace, &*name.name);
        let result = self.objects.services.find(ns, service).map(|object| {
            translate::service::translate(ns, service, object, &self.objects, &self.mesh)
        });
        let found = self.accept(Kind::Service, name, result).flatten();
        let key = self.mesh.service_key(ns, service);
        match found {
            Some(found) => self.set_service(found, changes),
            None => self.remove_service(&key, changes),
        }
    }

    fn translate_pod(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, pod) = (&*name.namespace, &*name.name);
        let result = self.objects.pods.find(ns, pod).map(|object| {
            translate::workload::translate(ns, pod, object, &self.objects, &self.mesh)
        });
        let uid = translate::workload::uid(ns, pod, &self.mesh);
        match self.accept(Kind::Pod, name, result).flatten() {
            Some(found) => self.set_workload(found, changes),
            None => self.remove_workload(&uid, changes),
        }
    }

    fn translate_slice(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, slice) = (&*name.namespace, &*name.name);
        let result = self.objects.slices.find(ns, slice).map(|object| {
            translate::slice::translate(ns, slice, object, &self.objects, &self.mesh)
        });
        let found = self
            .accept(Kind::EndpointSlice, name, result)
            .unwrap_or_default();
        let before = self.slice_workloads.remove(name);
        if let Some(now) = self.replace_workloads(before, found, changes) {
            self.slice_workloads.insert(name.clone(), now);
        }
    }

    /// Sets what an object gives now and removes what it gives no more. The uids of what it gives, if anything.
    fn replace_workloads(
        &mut self,
        before: Option<BTreeSet<Arc<str>>>,
        found: Vec<Workload>,
        changes: &mut Changes,
    ) -> Option<BTreeSet<Arc<str>>> {
        let now: BTreeSet<Arc<str>> = found.iter().map(|w| w.uid.clone()).collect();
        for workload in found {
            self.set_workload(workload, changes);
        }
        for uid in before.unwrap_or_default().difference(&now) {
            self.remove_workload(uid, changes);
        }
        Some(now).filter(|now| !now.is_empty())
    }

    fn remove_service(&mut self, key: &NamespacedName, changes: &mut Changes) {
        self.handovers.forget(key);
        if self.services.remove(key).is_some() {
            changes.middle.push(Change::RemoveService(key.clone()));
        }
    }

    fn set_workload(&mut self, found: Workload, changes: &mut Changes) {
        if self
            .workloads
            .get(&found.uid)
            .is_none_or(|old| **old != found)
        {
            let found = Arc::new(found);
            self.workloads.insert(found.uid.clone(), found.clone());
            changes.middle.push(Change::Workload(found));
        }
    }

    fn remove_workload(&mut self, uid: &Arc<str>, changes: &mut Changes) {
        if self.workloads.remove(uid).is_some() {
            changes.middle.push(Change::RemoveWorkload(uid.clone()));
        }
    }

    fn set_policy(
        &mut self,
        key: NamespacedName,
        policy: Option<AuthorizationPolicy>,
        changes: &mut Changes,
    ) {
        match policy {
            Some(policy) => {
                if self.policies.get(&key).is_none_or(|old| **old != policy) {
                    let policy = Arc::new(policy);
                    self.policies.insert(key, policy.clone());
                    changes.first.push(Change::Policy(policy));
                }
            }
            None => {
                if self.policies.remove(&key).is_some() {
                    changes.last.push(Change::RemovePolicy(key));
                }
            }
        }
    }

    /// What is to be written back into objects: the object and its `status`, without
    /// `lastTransitionTime`.
    pub fn statuses(&self) -> impl Iterator<Item = (&Key, &serde_json::Value)> {
        let outcomes = self.attached.outcomes();
        outcomes.filter_map(|(key, outcome)| Some((key, outcome.status.as_ref()?)))
    }

    /// What is to be written back into one object.
    #[must_use]
    pub fn status(&self, key: &Key) -> Option<&serde_json::Value> {
        self.attached.status(key)
    }

    /// Whether a class of Gateways is ours: no other controller has claimed it.
    #[must_use]
    pub fn is_our_class(&self, class: &str) -> bool {
        let class = self.objects.classes.find("", class);
        class.is_none_or(|class| class.spec.controller_name == translate::status::CONTROLLER)
    }

    /// How often a status has changed.
    #[must_use]
    pub fn status_revision(&self) -> u64 {
        self.attached.revisions().last()
    }

    /// The statuses that have changed after a revision, `None` for those that are gone; nothing when it is
    /// too long ago to know.
    #[must_use]
    pub fn statuses_after(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = (&Key, Option<&serde_json::Value>)>> {
        let keys = self.attached.revisions().after(revision)?;
        Some(keys.map(|key| (key, self.attached.status(key))))
    }

    /// All that waypoints know beyond workloads and services.
    pub fn for_waypoints(&self) -> impl Iterator<Item = &Resource> {
        let outcomes = self.attached.outcomes();
        outcomes.flat_map(|(_, outcome)| &outcome.resources)
    }

    /// All objects.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What holds for the whole mesh.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// All workloads, by uid.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// All services, by key.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// All policies of node proxies, by key.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.policies.values()
    }
}

/// Changes by when they may be applied.
#[derive(Default)]
struct Changes {
    first: Vec<Change>,
    middle: Vec<Change>,
    last: Vec<Change>,
}

impl Changes {
    fn ordered(mut self) -> Vec<Change> {
        self.first.append(&mut self.middle);
        self.first.append(&mut self.last);
        self.first
    }
}

#[cfg(test)]
mod tests;
