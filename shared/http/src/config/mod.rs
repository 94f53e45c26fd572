//! What a waypoint knows of L7 configuration, as one value.
//!
//! A [`Config`] is built on persistent maps: a writer clones it, applies a whole push and publishes the
//! result, while requests go on with the old one. What is not understood fails closed: see
//! [`Change::Undecodable`].

mod attached;
mod per_service;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ambit_core::addr::NamespacedName;
use ambit_core::trust_domain::TrustDomains;

use crate::model::route::Protocol;
use crate::model::{
    Authorizer, BackendTls, Policy, RequestAuthentication, Resource, ResourceKey, RouteKey,
    RouteRule, Target, TrafficPolicy,
};
use crate::refusal::{Flag, Refusal};
use crate::route::{Routes, ServiceRoutes};
use attached::Attached;
use per_service::PerService;

type Map<K, V> = rpds::HashTrieMapSync<K, V, hashbrown::DefaultHashBuilder>;

/// Routes, policies and the rest, with every lookup a decision needs.
#[derive(Debug, Clone, Default)]
pub struct Config {
    trust_domains: TrustDomains,
    rules: Map<RouteKey, Arc<RouteRule>>,
    http: Map<NamespacedName, ServiceRoutes>,
    opaque: Map<NamespacedName, Arc<Vec<Arc<RouteRule>>>>,
    policies: Attached<Policy>,
    authentications: Attached<RequestAuthentication>,
    authorizers: Map<NamespacedName, Arc<Authorizer>>,
    traffic: PerService<TrafficPolicy>,
    tls: PerService<BackendTls>,
}

/// One change to a [`Config`].
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// New or different.
    Set(Resource),
    /// Gone.
    Remove(ResourceKey),
    /// It is there and could not be understood. A route keeps its last good state. A policy denies,
    /// and an authentication refuses tokens, where it was attached, or everywhere when that is not
    /// known. An authorizer is gone, which denies. A traffic policy keeps its last good state; TLS to a
    /// service is refused rather than left out.
    Undecodable(ResourceKey, Arc<str>),
}

/// Where a request or a connection goes through, for lookups of what is attached.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `namespace/name` of the Gateway.
    pub waypoint: &'a NamespacedName,
    /// The service that was dialled, or those that select the pod that was.
    pub services: &'a [NamespacedName],
}

impl Config {
    /// Nothing yet, of a mesh whose trust domain has these names: policies that are applied are spelled out.
    #[must_use]
    pub fn within(trust_domains: TrustDomains) -> Self {
        Self {
            trust_domains,
            ..Self::default()
        }
    }

    /// Applies one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Set(resource) => self.set(resource),
            Change::Remove(key) => self.remove(&key),
            Change::Undecodable(key, reason) => self.undecodable(key, &reason),
        }
    }

    fn set(&mut self, resource: Resource) {
        match resource {
            Resource::Route(rule) => self.set_rule(&rule),
            Resource::Policy(mut policy) => {
                Arc::make_mut(&mut policy).spell_out(&self.trust_domains);
                self.policies.set(policy);
            }
            Resource::Authentication(it) => self.authentications.set(it),
            Resource::Authorizer(it) => self.authorizers.insert_mut(it.key.clone(), it),
            Resource::Traffic(it) => self.traffic.set(it),
            Resource::Tls(it) => self.tls.set(it),
        }
    }

    fn remove(&mut self, key: &ResourceKey) {
        match key {
            ResourceKey::Route(key) => self.remove_rule(key),
            ResourceKey::Policy(key) => self.policies.remove(key),
            ResourceKey::Authentication(key) => self.authentications.remove(key),
            ResourceKey::Authorizer(key) => {
                self.authorizers.remove_mut(key);
            }
            ResourceKey::Traffic(key) => self.traffic.remove(key),
            ResourceKey::Tls(key) => self.tls.remove(key),
        }
    }

    fn undecodable(&mut self, key: ResourceKey, reason: &Arc<str>) {
        let undecodable = Some(reason.clone());
        match key {
            ResourceKey::Route(_) | ResourceKey::Traffic(_) => {}
            ResourceKey::Policy(key) => {
                let targets = self.policies.targets(&key);
                self.policies.set(Arc::new(Policy {
                    key,
                    targets: targets.unwrap_or_else(|| vec![Target::Mesh]),
                    action: crate::model::Action::Deny,
                    rules: Vec::new(),
                    dry_run: false,
                    undecodable,
                }));
            }
            ResourceKey::Authentication(key) => {
                let targets = self.authentications.targets(&key);
                self.authentications.set(Arc::new(RequestAuthentication {
                    key,
                    targets: targets.unwrap_or_else(|| vec![Target::Mesh]),
                    rules: Vec::new(),
                    undecodable,
                }));
            }
            ResourceKey::Authorizer(_) => self.remove(&key),
            ResourceKey::Tls(key) => {
                if let Some(old) = self.tls.of(&key) {
                    self.tls.set(Arc::new(BackendTls {
                        invalid: undecodable.clone(),
                        ..(*old).clone()
                    }));
                }
            }
        }
    }

    fn set_rule(&mut self, rule: &Arc<RouteRule>) {
        self.remove_rule(&rule.key);
        self.rules.insert_mut(rule.key.clone(), rule.clone());
        for parent in &rule.parents {
            match rule.key.protocol {
                Protocol::Http | Protocol::Grpc => {
                    let mut routes = self.http.get(&parent.service).cloned().unwrap_or_default();
                    routes.insert(rule, parent.port);
                    self.http.insert_mut(parent.service.clone(), routes);
                }
                Protocol::Tls | Protocol::Tcp => {
                    let mut rules = self
                        .opaque
                        .get(&parent.service)
                        .cloned()
                        .unwrap_or_default();
                    let list = Arc::make_mut(&mut rules);
                    list.push(rule.clone());
                    list.sort_by(|a, b| (age(a), &a.key).cmp(&(age(b), &b.key)));
                    self.opaque.insert_mut(parent.service.clone(), rules);
                }
            }
        }
    }

    fn remove_rule(&mut self, key: &RouteKey) {
        let Some(rule) = self.rules.get(key).cloned() else {
            return;
        };
        self.rules.remove_mut(key);
        for parent in &rule.parents {
            match rule.key.protocol {
                Protocol::Http | Protocol::Grpc => {
                    let Some(mut routes) = self.http.get(&parent.service).cloned() else {
                        continue;
                    };
                    routes.remove(&rule, parent.port);
                    if routes.is_empty() {
                        self.http.remove_mut(&parent.service);
                    } else {
                        self.http.insert_mut(parent.service.clone(), routes);
                    }
                }
                Protocol::Tls | Protocol::Tcp => {
                    let Some(mut rules) = self.opaque.get(&parent.service).cloned() else {
                        continue;
                    };
                    Arc::make_mut(&mut rules).retain(|known| known.key != *key);
                    if rules.is_empty() {
                        self.opaque.remove_mut(&parent.service);
                    } else {
                        self.opaque.insert_mut(parent.service.clone(), rules);
                    }
                }
            }
        }
    }

    /// The HTTP and gRPC rules of a service port for clients of a namespace; `None` when no route is
    /// attached to it.
    #[must_use]
    pub fn routes(
        &self,
        service: &NamespacedName,
        port: u16,
        client_namespace: &str,
    ) -> Option<Routes<'_>> {
        self.http.get(service)?.at(port, client_namespace)
    }

    /// The rule for a connection to a service port: of a TLSRoute when it says a name (SNI) that one
    /// has, the most specific first; else of a TCPRoute. `None`: there is no route.
    ///
    /// # Errors
    /// There are TLSRoutes, and none has the name.
    pub fn opaque_route(
        &self,
        service: &NamespacedName,
        port: u16,
        sni: Option<&str>,
    ) -> Result<Option<&Arc<RouteRule>>, Refusal> {
        let Some(rules) = self.opaque.get(service) else {
            return Ok(None);
        };
        let attached = |rule: &&Arc<RouteRule>| {
            let here = |it: &crate::model::route::Parent| {
                it.service == *service && it.port.is_none_or(|it| it == port)
            };
            rule.parents.iter().any(here)
        };
        let of = |protocol| {
            let all = rules.iter().filter(attached);
            all.filter(move |rule| rule.key.protocol == protocol)
        };
        let by_name = of(Protocol::Tls)
            .filter_map(|rule| Some((specificity(rule, sni?)?, rule)))
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let found = by_name
            .map(|(_, rule)| rule)
            .or_else(|| of(Protocol::Tcp).next());
        if found.is_none() && of(Protocol::Tls).next().is_some() {
            let name = sni.unwrap_or("no name");
            let reason = format!("no TLSRoute of {service}:{port} takes a connection to {name}");
            return Err(Refusal::new(404, Flag::NoRouteFound, reason));
        }
        Ok(found)
    }

    /// Policies that are attached to what a request goes through, each once.
    pub fn policies<'a>(&'a self, scope: Scope<'a>) -> impl Iterator<Item = &'a Arc<Policy>> {
        self.policies.within(scope)
    }

    /// Authentications that are attached to what a request goes through, each once.
    pub fn authentications<'a>(
        &'a self,
        scope: Scope<'a>,
    ) -> impl Iterator<Item = &'a Arc<RequestAuthentication>> {
        self.authentications.within(scope)
    }

    /// An external authorizer.
    #[must_use]
    pub fn authorizer(&self, key: &NamespacedName) -> Option<&Arc<Authorizer>> {
        self.authorizers.get(key)
    }

    /// How endpoints of a service port are chosen and protected.
    #[must_use]
    pub fn traffic(&self, service: &NamespacedName, port: u16) -> Option<&Arc<TrafficPolicy>> {
        self.traffic.find(service, port)
    }

    /// How TLS is spoken to a service port.
    #[must_use]
    pub fn tls(&self, service: &NamespacedName, port: u16) -> Option<&Arc<BackendTls>> {
        self.tls.find(service, port)
    }

    /// All rules, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        self.rules.values()
    }

    /// All policies, in no order.
    pub fn all_policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.all()
    }
}

fn age(rule: &RouteRule) -> i64 {
    match rule.created {
        0 => i64::MAX,
        seconds => seconds,
    }
}

/// How exactly a TLSRoute names this SNI: the number of bytes that agree, a whole name before all.
fn specificity(rule: &RouteRule, sni: &str) -> Option<usize> {
    if rule.sni.is_empty() {
        return Some(0);
    }
    let sni = sni.to_ascii_lowercase();
    let fits = rule
        .sni
        .iter()
        .filter_map(|name| match name.strip_prefix('*') {
            Some(suffix) => {
                (sni.len() > suffix.len() && sni.ends_with(suffix)).then_some(suffix.len())
            }
            None => (**name == *sni).then_some(usize::MAX),
        });
    fits.max()
}
