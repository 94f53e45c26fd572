//! What a changed object touches: the objects whose resources may differ now.
//!
//! Too much costs time, too little leaves stale resources; `tests` compares with translating all.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::addr::NamespacedName;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Index;
use super::objects::Table;
use crate::source::entry::ServiceEntry;
use crate::source::{Key, Object};
use crate::translate::labels::{
    GATEWAY_NAME, INBOUND_BINDING, INGRESS_USE_WAYPOINT, NETWORK, USE_WAYPOINT,
    USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE, USE_WAYPOINT_CANARY_WEIGHT,
    USE_WAYPOINT_NAMESPACE, WAYPOINT_BYPASS, annotation, label, selects,
};
use crate::translate::{entry, service, slice, target, waypoint, workload};

/// Objects to translate again.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) pods: BTreeSet<NamespacedName>,
    pub(super) services: BTreeSet<NamespacedName>,
    pub(super) slices: BTreeSet<NamespacedName>,
    pub(super) entries: BTreeSet<NamespacedName>,
    pub(super) workload_entries: BTreeSet<NamespacedName>,
    /// Hosts of ServiceEntries may have other addresses.
    pub(super) allocation: bool,
    /// Gateways that may say at which address they are reached.
    pub(super) gateways: BTreeSet<NamespacedName>,
    /// There may be other networks, or other gateways between them.
    pub(super) networks: bool,
    pub(super) policies: BTreeSet<NamespacedName>,
    pub(super) peers: BTreeSet<NamespacedName>,
    pub(super) static_strict: bool,
}

impl Touched {
    /// Adds what a change from `old` to `new` touches; `index` has the new object already.
    pub(super) fn by(
        &mut self,
        key: &Key,
        old: Option<&Object>,
        new: Option<&Object>,
        index: &Index,
    ) {
        let name = NamespacedName::new(key.namespace.clone(), key.name.clone());
        match new.or(old) {
            Some(Object::Namespace(_)) => self.namespace(&key.name, old, new, index),
            Some(Object::Node(_)) => self.node(&key.name, old, new, index),
            Some(Object::Pod(_)) => {
                self.pods.insert(name);
            }
            Some(Object::Service(_)) => self.service(name, old, new, index),
            Some(Object::EndpointSlice(_)) => self.slice(name, old, new),
            Some(Object::AuthorizationPolicy(_)) => self.policy(name, old, new, index),
            Some(Object::PeerAuthentication(_)) => self.peer(name, old, new, index),
            Some(Object::Gateway(_)) => {
                self.networks = true;
                self.gateways.insert(name);
                self.everyone(index);
            }
            Some(Object::GatewayClass(_)) => {
                let said = |object: Option<&Object>| {
                    let said = annotation(object?.metadata(), INBOUND_BINDING);
                    said.map(ToOwned::to_owned)
                };
                if said(old) != said(new) {
                    self.everyone(index);
                }
            }
            Some(Object::ServiceEntry(_)) => {
                let entries = [old, new].map(|object| object?.service_entry().map(|it| &**it));
                let (allocation, key) = (&index.objects.allocation, (&*key.namespace, &*key.name));
                self.allocation |= allocation.is_touched(key, entries[0], entries[1]);
                for entry in entries.into_iter().flatten() {
                    self.entry(&name, entry, index);
                }
            }
            Some(Object::WorkloadEntry(_)) => {
                self.workload_entries.insert(name);
            }
            // The others have to do with waypoints alone, see `Index::apply`.
            _ => {}
        }
    }

    fn namespace(&mut self, name: &str, old: Option<&Object>, new: Option<&Object>, index: &Index) {
        let read = [
            USE_WAYPOINT,
            USE_WAYPOINT_NAMESPACE,
            USE_WAYPOINT_CANARY,
            USE_WAYPOINT_CANARY_NAMESPACE,
            INGRESS_USE_WAYPOINT,
            WAYPOINT_BYPASS,
        ];
        let differs = |name: &&str| label_of(old, name) != label_of(new, name);
        self.networks |= *name == *index.mesh.root_namespace && differs(&NETWORK);
        let weight = |object: Option<&Object>| {
            let weight = annotation(object?.metadata(), USE_WAYPOINT_CANARY_WEIGHT);
            weight.map(ToOwned::to_owned)
        };
        // Gateways may select namespaces by any label.
        let labels = |object: Option<&Object>| object.and_then(|o| o.metadata().labels.clone());
        let selected = !index.objects.gateways.is_empty() && labels(old) != labels(new);
        if read.iter().any(differs) || weight(old) != weight(new) || selected {
            add_within(&mut self.pods, &index.objects.pods, name);
            add_within(&mut self.services, &index.objects.services, name);
            add_within(&mut self.entries, &index.objects.service_entries, name);
            let entries = &index.objects.workload_entries;
            add_within(&mut self.workload_entries, entries, name);
            add_within(&mut self.policies, &index.objects.policies, name);
        }
    }

    /// An entry, who is selected by it, and the entries of its namespace that have a host of it.
    fn entry(&mut self, name: &NamespacedName, entry: &ServiceEntry, index: &Index) {
        self.entry_alone(name, entry, index);
        for host in entry::hosts(entry) {
            self.entries_of_host(&name.namespace, &host, index);
        }
    }

    fn entry_alone(&mut self, name: &NamespacedName, entry: &ServiceEntry, index: &Index) {
        self.entries.insert(name.clone());
        let selector = entry.spec.workload_selector.as_ref();
        if let Some(selector) = selector.filter(|selector| !selector.labels.is_empty()) {
            self.workloads_with(&name.namespace, &selector.labels, index);
        }
    }

    fn entries_of_host(&mut self, namespace: &str, host: &str, index: &Index) {
        let objects = &index.objects;
        for name in objects.claims.of(&NamespacedName::new(namespace, host)) {
            if let Some(entry) = objects.service_entries.find(namespace, name) {
                let name = NamespacedName::new(namespace, name.clone());
                self.entry_alone(&name, entry, index);
            }
        }
    }

    fn node(&mut self, name: &str, old: Option<&Object>, new: Option<&Object>, index: &Index) {
        let locality = |object: Option<&Object>| match object {
            Some(Object::Node(node)) => workload::locality(node),
            _ => Default::default(),
        };
        let network = label_of(old, NETWORK) != label_of(new, NETWORK);
        self.networks |= network;
        if locality(old) == locality(new) && !network {
            return;
        }
        let pods = index.pods_by_node.get(name);
        self.pods.extend(pods.into_iter().flatten().cloned());
        for (namespace, slice, found) in index.objects.slices.all() {
            let on_node = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
                e.node_name.as_deref() == Some(name)
            };
            if found.endpoints.iter().any(on_node) {
                self.slices
                    .insert(NamespacedName::new(namespace.clone(), slice.clone()));
            }
        }
    }

    fn service(
        &mut self,
        name: NamespacedName,
        old: Option<&Object>,
        new: Option<&Object>,
        index: &Index,
    ) {
        let (old, new) = (service_of(old), service_of(new));
        // Other labels and the addresses of a service are no business of its endpoints.
        let binding = |service: &Service| {
            [USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, GATEWAY_NAME]
                .map(|name| label(&service.metadata, name).map(ToOwned::to_owned))
        };
        let bound_differently = old.map(binding) != new.map(binding);
        if bound_differently {
            add_within(&mut self.policies, &index.objects.policies, &name.namespace);
        }
        if bound_differently || old.map(|s| &s.spec) != new.map(|s| &s.spec) {
            for service in [old, new].into_iter().flatten() {
                self.endpoints(&name, service, index);
            }
        }
        if old.and_then(waypoint::role) != new.and_then(waypoint::role) {
            self.everyone(index);
        }
        let host = index.mesh.service_key(&name.namespace, &name.name).name;
        self.entries_of_host(&name.namespace, &host, index);
        self.services.insert(name);
    }

    fn endpoints(&mut self, name: &NamespacedName, service: &Service, index: &Index) {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        if let Some(selector) = selector.filter(|_| service::has_selector(service)) {
            self.workloads_with(&name.namespace, selector, index);
        } else {
            self.slices_of(name, index);
        }
    }

    /// Anyone may be bound to a gateway that has changed, or be reached through it.
    pub(super) fn everyone(&mut self, index: &Index) {
        add_all(&mut self.pods, &index.objects.pods);
        add_all(&mut self.services, &index.objects.services);
        add_all(&mut self.entries, &index.objects.service_entries);
        add_all(&mut self.policies, &index.objects.policies);
        add_all(&mut self.workload_entries, &index.objects.workload_entries);
    }

    fn slices_of(&mut self, service: &NamespacedName, index: &Index) {
        for (name, slice) in index.objects.slices.within(&service.namespace) {
            if slice::service_name(slice) == Some(&*service.name) {
                self.pods.extend(
                    slice::pods(&service.namespace, slice)
                        .map(|pod| NamespacedName::new(service.namespace.clone(), pod)),
                );
                self.slices
                    .insert(NamespacedName::new(service.namespace.clone(), name.clone()));
            }
        }
    }

    fn slice(&mut self, name: NamespacedName, old: Option<&Object>, new: Option<&Object>) {
        for object in [old, new] {
            if let Some(Object::EndpointSlice(slice)) = object {
                self.pods.extend(
                    slice::pods(&name.namespace, slice)
                        .map(|pod| NamespacedName::new(name.namespace.clone(), pod)),
                );
            }
        }
        self.slices.insert(name);
    }

    fn policy(
        &mut self,
        name: NamespacedName,
        old: Option<&Object>,
        new: Option<&Object>,
        index: &Index,
    ) {
        for object in [old, new] {
            let Some(Object::AuthorizationPolicy(policy)) = object else {
                continue;
            };
            for service in target::services(&policy.spec) {
                if let Some(found) = index.objects.services.find(&name.namespace, service) {
                    let service = NamespacedName::new(name.namespace.clone(), service);
                    self.endpoints(&service, found, index);
                }
            }
            if let Some(selector) = &policy.spec.selector
                && !selector.match_labels.is_empty()
            {
                if name.namespace == index.mesh.root_namespace {
                    for (namespace, pod, found) in index.objects.pods.all() {
                        if selects(&selector.match_labels, &found.metadata) {
                            self.pods
                                .insert(NamespacedName::new(namespace.clone(), pod.clone()));
                        }
                    }
                    add_all(&mut self.workload_entries, &index.objects.workload_entries);
                } else {
                    self.workloads_with(&name.namespace, &selector.match_labels, index);
                }
            }
        }
        self.policies.insert(name);
    }

    fn peer(
        &mut self,
        name: NamespacedName,
        old: Option<&Object>,
        new: Option<&Object>,
        index: &Index,
    ) {
        self.static_strict = true;
        let wide = [old, new].into_iter().flatten().any(|object| {
            matches!(object, Object::PeerAuthentication(peer)
                if peer.spec.selector.as_ref().is_none_or(|s| s.match_labels.is_empty()))
        });
        let objects = &index.objects;
        if wide && name.namespace == index.mesh.root_namespace {
            add_all(&mut self.pods, &objects.pods);
            add_all(&mut self.peers, &objects.peers);
            add_all(&mut self.workload_entries, &index.objects.workload_entries);
        } else {
            add_within(&mut self.pods, &objects.pods, &name.namespace);
            let entries = &objects.workload_entries;
            add_within(&mut self.workload_entries, entries, &name.namespace);
            add_within(&mut self.peers, &objects.peers, &name.namespace);
        }
        self.peers.insert(name);
    }

    fn workloads_with(
        &mut self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
        index: &Index,
    ) {
        for (name, pod) in index.objects.pods.within(namespace) {
            if selects(selector, &pod.metadata) {
                self.pods
                    .insert(NamespacedName::new(namespace, name.clone()));
            }
        }
        for (name, entry) in index.objects.workload_entries.within(namespace) {
            if selects(selector, &entry::workload::labelled(entry)) {
                self.workload_entries
                    .insert(NamespacedName::new(namespace, name.clone()));
            }
        }
    }
}

fn add_all<T>(to: &mut BTreeSet<NamespacedName>, table: &Table<T>) {
    let names = table.all();
    to.extend(
        names.map(|(namespace, name, _)| NamespacedName::new(namespace.clone(), name.clone())),
    );
}

fn add_within<T>(to: &mut BTreeSet<NamespacedName>, table: &Table<T>, namespace: &str) {
    to.extend(
        table
            .within(namespace)
            .map(|(name, _)| NamespacedName::new(namespace, name.clone())),
    );
}

fn service_of(object: Option<&Object>) -> Option<&Service> {
    match object? {
        Object::Service(service) => Some(service),
        _ => None,
    }
}

fn label_of<'a>(object: Option<&'a Object>, name: &str) -> Option<&'a str> {
    let metadata: &ObjectMeta = object?.metadata();
    label(metadata, name)
}
