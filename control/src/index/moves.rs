//! Services as they are told: at once, or step by step to a waypoint and from one, see [`super::handover`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::model::Service;

use super::objects::Objects;
use super::{Change, Changes, Index, Step};
use crate::translate;

/// The Services that policies are attached to, by namespace; what was looked for in this change.
pub(super) type Judged = HashMap<Arc<str>, HashSet<Arc<str>>>;

/// Whether policies are attached to this Service.
fn is_judged(service: &Service, known: &mut Judged, objects: &Objects) -> bool {
    let namespace = &service.key.namespace;
    let names = known.entry(namespace.clone()).or_insert_with(|| {
        let policies = objects.policies.within(namespace);
        let names = policies.flat_map(|(_, policy)| translate::target::services(&policy.spec));
        names.map(Into::into).collect()
    });
    names.contains(&service.name)
}

impl Index {
    /// How often something was told by now.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.handovers.told()
    }

    /// How far services are on their way from or to a waypoint: once all proxies know a step, [`Index::advance`] takes the
    /// next one.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.handovers.steps()
    }

    /// Whether a service is on its way from or to a waypoint.
    #[must_use]
    pub fn is_underway(&self, service: &NamespacedName) -> bool {
        self.handovers.include(service)
    }

    /// Takes these services on their way, and gives what follows, in order.
    pub fn advance(&mut self, services: &[NamespacedName]) -> Vec<Change> {
        self.handovers.tick();
        let mut changes = Changes::default();
        for key in services {
            let Some(now) = self.services.get(key) else {
                continue;
            };
            let judged = || is_judged(now, &mut self.judged, &self.objects);
            if let Some(step) = self.handovers.advance(now, judged) {
                self.tell_service(step, &mut changes);
            }
        }
        self.with_readers(changes, Vec::new(), Vec::new())
    }

    /// Takes all services to the end of their way.
    #[cfg(test)]
    pub(crate) fn advance_all(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.steps().next().is_some() {
            let services: Vec<_> = self.steps().map(|step| step.service).collect();
            changes.extend(self.advance(&services));
        }
        changes
    }

    pub(super) fn set_service(&mut self, found: Service, changes: &mut Changes) {
        let told = match self.services.get(&found.key) {
            Some(now) => {
                let judged = || is_judged(now, &mut self.judged, &self.objects);
                self.handovers.begin(now, found, judged)
            }
            None => found,
        };
        self.tell_service(told, changes);
    }

    /// A Service on its way that has got a policy is where it goes.
    pub(super) fn end_handovers(
        &mut self,
        policies: &BTreeSet<NamespacedName>,
        changes: &mut Changes,
    ) {
        let mut ends = Vec::new();
        for name in policies {
            let namespace = &name.namespace;
            let policy = self.objects.policies.find(namespace, &name.name);
            let specs = policy.iter().map(|policy| &policy.spec);
            for service in specs.flat_map(translate::target::services) {
                let key = self.mesh.service_key(namespace, service);
                let now = self.services.get(&key);
                ends.extend(now.and_then(|now| self.handovers.end(now)));
            }
        }
        for target in ends {
            self.tell_service(target, changes);
        }
    }

    fn tell_service(&mut self, service: Service, changes: &mut Changes) {
        let known = self.services.get(&service.key);
        if known.is_none_or(|old| **old != service) {
            let service = Arc::new(service);
            self.services.insert(service.key.clone(), service.clone());
            changes.middle.push(Change::Service(service));
        }
    }
}
