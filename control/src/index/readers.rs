//! Which waypoints a resource concerns.
//!
//! A route concerns those that its parents are bound to. What is attached to a service (policies, tokens, traffic, TLS)
//! concerns those that serve anything in its namespace: with a pod that is addressed itself, all services that select
//! it count, also those of another waypoint. What these refer to (authorizers; traffic and TLS of backends)
//! concerns whoever refers to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{Destination, GatewayAddress};
use ambit_http::model::route::BackendRef;
use ambit_http::model::{Action, Filter, KeySource, Resource, ResourceKey, Target};

use super::Change;
use crate::translate::Mesh;

/// A waypoint by the key of its Service, `namespace/hostname`, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reader {
    #[allow(missing_docs)]
    Everyone,
    #[allow(missing_docs)]
    Waypoint(NamespacedName),
}

/// Those whom a resource concerns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readers(BTreeSet<Reader>);

impl FromIterator<Reader> for Readers {
    fn from_iter<T: IntoIterator<Item = Reader>>(readers: T) -> Self {
        Self(readers.into_iter().collect())
    }
}

impl Readers {
    /// Whether this waypoint is one of them.
    #[must_use]
    pub fn include(&self, waypoint: &NamespacedName) -> bool {
        self.0.contains(&Reader::Everyone) || self.0.contains(&Reader::Waypoint(waypoint.clone()))
    }

    fn and(&self, others: &Self) -> Self {
        Self(self.0.union(&others.0).cloned().collect())
    }
}

/// What gives readers to the resources that hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hook {
    /// Waypoints that a service is bound to.
    Bound(NamespacedName),
    /// Waypoints that a service or a pod of a namespace is bound to.
    Serving(Arc<str>),
    /// Readers of what refers to an authorizer.
    Authorizer(NamespacedName),
    /// Readers of what sends to a service.
    Backend(NamespacedName),
}

/// Why a resource has readers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Reader(Reader),
    Hook(Hook),
}

/// Every resource with its readers, kept in step.
#[derive(Debug, Default)]
pub(super) struct ReadersOf {
    resources: HashMap<ResourceKey, Known>,
    hooks: HashMap<Hook, Hooked>,
    /// In which namespace, and to which waypoints.
    bound: HashMap<Bound, (Arc<str>, Readers)>,
}

/// Who is bound to a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bound {
    Service(NamespacedName),
    /// A workload, by uid.
    Workload(Arc<str>),
}

#[derive(Debug)]
struct Known {
    resource: Resource,
    reasons: Vec<Reason>,
    refers: Vec<Hook>,
    readers: Arc<Readers>,
}

#[derive(Debug, Default)]
struct Hooked {
    /// How many reasons each has.
    readers: BTreeMap<Reader, usize>,
    resources: BTreeSet<ResourceKey>,
}

/// Hooks that may have other readers than these.
type Touched = HashMap<Hook, BTreeSet<Reader>>;

impl ReadersOf {
    /// Takes in what else has changed and which resources are new or different (`set`) or gone. Gives what is to be
    /// told before that change: resources for all that they concern before or after it; and after it: those
    /// that fewer read now, and what is gone.
    pub(super) fn apply(
        &mut self,
        mesh: &Mesh,
        changes: &[Change],
        set: Vec<Resource>,
        gone: Vec<ResourceKey>,
    ) -> (Vec<Change>, Vec<Change>) {
        let mut touched = Touched::new();
        for change in changes {
            self.binding(change, &mut touched);
        }
        let mut told: BTreeSet<ResourceKey> = BTreeSet::new();
        let mut levels = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for key in &gone {
            self.remove(key, &mut touched);
        }
        for resource in set {
            let key = resource.key();
            told.insert(key.clone());
            levels[level(&key)].insert(key);
            self.insert(mesh, resource, &mut touched);
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for at in 0..levels.len() {
            for key in self.whose_hooks_differ(&mut touched) {
                levels[level(&key)].insert(key);
            }
            for key in std::mem::take(&mut levels[at]) {
                let Some((before, known)) = self.judge(&key, &mut touched) else {
                    continue;
                };
                let both = before.and(&known.readers);
                if told.contains(&key) || both != *before {
                    first.push(Change::Waypoint(
                        known.resource.clone(),
                        both.clone().into(),
                    ));
                }
                if both != *known.readers {
                    last.push(Change::Waypoint(
                        known.resource.clone(),
                        known.readers.clone(),
                    ));
                }
            }
        }
        // Policies before what they judge, and gone after it.
        first.sort_by_key(is_route);
        last.sort_by_key(|change| !is_route(change));
        last.extend(gone.into_iter().map(Change::RemoveWaypoint));
        (first, last)
    }

    /// Who is bound to which waypoints after a change.
    fn binding(&mut self, change: &Change, touched: &mut Touched) {
        let (who, now) = match change {
            Change::Service(it) => (
                Bound::Service(it.key.clone()),
                bound_to(&it.key.namespace, it.waypoints()),
            ),
            Change::RemoveService(key) => (Bound::Service(key.clone()), None),
            Change::Workload(it) => (
                Bound::Workload(it.uid.clone()),
                bound_to(&it.namespace, &it.waypoint),
            ),
            Change::RemoveWorkload(uid) => (Bound::Workload(uid.clone()), None),
            _ => return,
        };
        let before = match &now {
            Some(now) => self.bound.insert(who.clone(), now.clone()),
            None => self.bound.remove(&who),
        };
        if before == now {
            return;
        }
        for (binding, more) in [(now, true), (before, false)] {
            let Some((namespace, waypoints)) = binding else {
                continue;
            };
            let mut hooks = vec![Hook::Serving(namespace)];
            if let Bound::Service(key) = &who {
                hooks.push(Hook::Bound(key.clone()));
            }
            self.count(&hooks, &waypoints, touched, more);
        }
    }

    fn insert(&mut self, mesh: &Mesh, resource: Resource, touched: &mut Touched) {
        let key = resource.key();
        let (reasons, refers) = (reasons(mesh, &resource), refers(&resource));
        let readers = match self.resources.get(&key) {
            Some(known) => known.readers.clone(),
            None => Arc::default(),
        };
        // In this order nobody is without a reason in between.
        self.count(&refers, &readers, touched, true);
        self.remove(&key, touched);
        for reason in &reasons {
            if let Reason::Hook(hook) = reason {
                let hooked = self.hooks.entry(hook.clone()).or_default();
                hooked.resources.insert(key.clone());
            }
        }
        let known = Known {
            resource,
            reasons,
            refers,
            readers,
        };
        self.resources.insert(key, known);
    }

    fn remove(&mut self, key: &ResourceKey, touched: &mut Touched) {
        let Some(known) = self.resources.remove(key) else {
            return;
        };
        for reason in &known.reasons {
            if let Reason::Hook(hook) = reason
                && let Some(hooked) = self.hooks.get_mut(hook)
            {
                hooked.resources.remove(key);
                self.forget_if_empty(hook);
            }
        }
        self.count(&known.refers, &known.readers, touched, false);
    }

    /// Finds out who reads a resource now. Gives who did, too.
    fn judge(
        &mut self,
        key: &ResourceKey,
        touched: &mut Touched,
    ) -> Option<(Arc<Readers>, &Known)> {
        let known = self.resources.get(key)?;
        let mut now = BTreeSet::new();
        for reason in &known.reasons {
            match reason {
                Reason::Reader(reader) => drop(now.insert(reader.clone())),
                Reason::Hook(hook) => {
                    let hooked = self.hooks.get(hook);
                    now.extend(hooked.into_iter().flat_map(|it| it.readers.keys().cloned()));
                }
            }
        }
        let (before, now) = (known.readers.clone(), Readers(now));
        if now != *before {
            let refers = known.refers.clone();
            self.count(&refers, &now, touched, true);
            self.count(&refers, &before, touched, false);
            self.resources.get_mut(key)?.readers = now.into();
        }
        Some((before, self.resources.get(key)?))
    }

    /// Adds reasons to hooks, or takes them away.
    fn count(&mut self, hooks: &[Hook], readers: &Readers, touched: &mut Touched, more: bool) {
        for hook in hooks.iter().filter(|_| !readers.0.is_empty()) {
            let hooked = self.hooks.entry(hook.clone()).or_default();
            let before = || hooked.readers.keys().cloned().collect();
            touched.entry(hook.clone()).or_insert_with(before);
            for reader in &readers.0 {
                let count = hooked.readers.entry(reader.clone()).or_default();
                *count = if more { *count + 1 } else { *count - 1 };
                if *count == 0 {
                    hooked.readers.remove(reader);
                }
            }
            self.forget_if_empty(hook);
        }
    }

    fn forget_if_empty(&mut self, hook: &Hook) {
        let empty = |it: &Hooked| it.readers.is_empty() && it.resources.is_empty();
        if self.hooks.get(hook).is_some_and(empty) {
            self.hooks.remove(hook);
        }
    }

    fn whose_hooks_differ(&self, touched: &mut Touched) -> BTreeSet<ResourceKey> {
        let differs = touched.drain().filter_map(|(hook, before)| {
            let hooked = self.hooks.get(&hook)?;
            (!hooked.readers.keys().eq(&before)).then_some(&hooked.resources)
        });
        differs.flatten().cloned().collect()
    }
}

/// The waypoints among these that have a name.
fn bound_to<'a>(
    namespace: &Arc<str>,
    waypoints: impl IntoIterator<Item = &'a GatewayAddress>,
) -> Option<(Arc<str>, Readers)> {
    let named = waypoints
        .into_iter()
        .filter_map(|it| match &it.destination {
            Destination::Hostname(key) => Some(Reader::Waypoint(key.clone())),
            Destination::Address(_) => None,
        });
    let readers = Readers::from_iter(named);
    (!readers.0.is_empty()).then(|| (namespace.clone(), readers))
}

/// Each refers to those of a later level alone.
fn level(key: &ResourceKey) -> usize {
    match key {
        ResourceKey::Route(_) | ResourceKey::Policy(_) | ResourceKey::Authentication(_) => 0,
        ResourceKey::Authorizer(_) => 1,
        ResourceKey::Traffic(_) | ResourceKey::Tls(_) => 2,
    }
}

fn is_route(change: &Change) -> bool {
    matches!(change, Change::Waypoint(Resource::Route(_), _))
}

fn reasons(mesh: &Mesh, resource: &Resource) -> Vec<Reason> {
    let of_targets = |targets: &[Target]| {
        let reasons = targets.iter().map(|target| match target {
            Target::Mesh => Reason::Reader(Reader::Everyone),
            Target::Waypoint(gateway) => Reason::Reader(Reader::Waypoint(
                mesh.service_key(&gateway.namespace, &gateway.name),
            )),
            Target::Service(service) => Reason::Hook(Hook::Serving(service.namespace.clone())),
        });
        reasons.collect()
    };
    let of_service = |service: &NamespacedName| {
        let serving = Hook::Serving(service.namespace.clone());
        let hooks = [serving, Hook::Backend(service.clone())];
        hooks.map(Reason::Hook).to_vec()
    };
    match resource {
        Resource::Route(rule) => {
            let parents = rule.parents.iter().map(|it| it.service.clone());
            parents.map(|it| Reason::Hook(Hook::Bound(it))).collect()
        }
        Resource::Policy(policy) => of_targets(&policy.targets),
        Resource::Authentication(authentication) => of_targets(&authentication.targets),
        Resource::Authorizer(authorizer) => {
            vec![Reason::Hook(Hook::Authorizer(authorizer.key.clone()))]
        }
        Resource::Traffic(traffic) => of_service(&traffic.service),
        Resource::Tls(tls) => of_service(&tls.service),
    }
}

/// Each as often as it is referred to.
fn refers(resource: &Resource) -> Vec<Hook> {
    let backend = |backend: &BackendRef| match backend {
        BackendRef::Service { service, .. } => Some(Hook::Backend(service.clone())),
        BackendRef::Invalid { .. } => None,
    };
    match resource {
        Resource::Route(rule) => {
            let filters = rule.backends.iter().flat_map(|it| &it.filters);
            let filters = rule.filters.iter().chain(filters);
            let of_filters = filters.filter_map(|filter| match filter {
                Filter::Mirror(mirror) => backend(&mirror.backend),
                Filter::ExternalAuth(key) => Some(Hook::Authorizer(key.clone())),
                _ => None,
            });
            let backends = rule.backends.iter().filter_map(|it| backend(&it.backend));
            backends.chain(of_filters).collect()
        }
        Resource::Policy(policy) => match &policy.action {
            Action::Custom(key) => vec![Hook::Authorizer(key.clone())],
            Action::Deny | Action::Allow | Action::Audit => Vec::new(),
        },
        Resource::Authentication(authentication) => {
            let keys = authentication.rules.iter().map(|rule| &rule.keys);
            let services = keys.filter_map(|keys| match keys {
                KeySource::Service { backend: it, .. } => backend(it),
                KeySource::Inline(_) | KeySource::Url(_) => None,
            });
            services.collect()
        }
        Resource::Authorizer(authorizer) => backend(&authorizer.backend).into_iter().collect(),
        Resource::Traffic(_) | Resource::Tls(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "readers_tests.rs"]
mod tests;
