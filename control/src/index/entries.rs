//! What follows from ServiceEntries and WorkloadEntries.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::addr::NamespacedName;

use super::touched::Touched;
use super::{Changes, Index, Report, key_of};
use crate::source::{Key, Kind};
use crate::translate::entry::{self, allocation::Allocation};

impl Index {
    /// Gives hosts their addresses anew. Touches the entries for which that makes a difference, and gives their keys.
    pub(super) fn allocate(&mut self, touched: &mut Touched) -> Vec<Key> {
        if !touched.allocation {
            return Vec::new();
        }
        let new = Allocation::of(&self.objects.service_entries);
        let differs = self.objects.allocation.differs(&new);
        self.objects.allocation = new;
        let keys = differs.into_iter().map(|(namespace, name)| {
            let entry = NamespacedName::new(namespace, name);
            let key = key_of(Kind::ServiceEntry, &entry);
            touched.entries.insert(entry);
            key
        });
        keys.collect()
    }

    /// What is gone goes first, unless another object's service has the host now.
    pub(super) fn translate_entries(
        &mut self,
        names: &BTreeSet<NamespacedName>,
        changes: &mut Changes,
    ) {
        let (mut set, mut gone) = (Vec::new(), BTreeSet::new());
        for name in names {
            let services = self.services_of_entry(name);
            let now: BTreeSet<_> = services.iter().map(|service| service.key.clone()).collect();
            let before = self.entry_services.remove(name).unwrap_or_default();
            gone.extend(before.difference(&now).cloned());
            if !now.is_empty() {
                self.entry_services.insert(name.clone(), now);
            }
            set.extend(services);
        }
        for key in gone {
            if !self.is_served(&key) {
                self.remove_service(&key, changes);
            }
        }
        for service in set {
            self.set_service(service, changes);
        }
        for name in names {
            self.translate_endpoints(name, changes);
        }
    }

    fn services_of_entry(&mut self, name: &NamespacedName) -> Vec<ambit_core::model::Service> {
        let (ns, entry_name) = (&*name.namespace, &*name.name);
        let result = self
            .objects
            .service_entries
            .find(ns, entry_name)
            .map(|found| entry::services(ns, entry_name, found, &self.objects, &self.mesh));
        let (services, report) = match result {
            Some(Ok(services)) => {
                let report = Report {
                    problems: Vec::new(),
                    notices: services.notices,
                };
                (services.found, report)
            }
            Some(Err(error)) => {
                let report = Report {
                    problems: vec![error],
                    notices: Vec::new(),
                };
                (Vec::new(), report)
            }
            None => (Vec::new(), Report::default()),
        };
        self.set_report(Kind::ServiceEntry, name, report);
        services
    }

    /// Whether an entry or a Service of Kubernetes gives this service.
    fn is_served(&self, key: &NamespacedName) -> bool {
        let of_entry = |name: &Arc<str>| {
            let entry = NamespacedName::new(key.namespace.clone(), name.clone());
            self.entry_services
                .get(&entry)
                .is_some_and(|keys| keys.contains(key))
        };
        self.objects.claims.of(key).any(of_entry)
            || entry::service_named(key, &self.objects, &self.mesh).is_some()
    }

    fn translate_endpoints(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let (ns, entry_name) = (&*name.namespace, &*name.name);
        let served = self.entry_services.contains_key(name);
        let entry = self.objects.service_entries.find(ns, entry_name);
        let result = entry.filter(|_| served).map(|found| {
            entry::workload::endpoints(ns, entry_name, found, &self.objects, &self.mesh)
        });
        let found = match result {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                let report = self.reports.entry(key_of(Kind::ServiceEntry, name));
                report.or_default().problems.push(error);
                Vec::new()
            }
            None => Vec::new(),
        };
        let before = self.entry_workloads.remove(name);
        if let Some(now) = self.replace_workloads(before, found, changes) {
            self.entry_workloads.insert(name.clone(), now);
        }
    }

    pub(super) fn translate_workload_entry(
        &mut self,
        name: &NamespacedName,
        changes: &mut Changes,
    ) {
        let (ns, entry_name) = (&*name.namespace, &*name.name);
        let result = self
            .objects
            .workload_entries
            .find(ns, entry_name)
            .map(|found| {
                entry::workload::translate(ns, entry_name, found, &self.objects, &self.mesh)
            });
        let uid = entry::workload::uid(ns, entry_name, &self.mesh);
        match self.accept(Kind::WorkloadEntry, name, result) {
            Some(found) => self.set_workload(found, changes),
            None => self.remove_workload(&uid, changes),
        }
    }
}
