//! A service's port as a waypoint has come to know it by using it: how its endpoints do, who rests, how
//! much goes on; and the choice of an endpoint by that.
//!
//! A [`Cluster`] outlives every change of endpoints and policies. What it chooses from is made again when
//! they change, and only then.

mod chosen;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use ambit_core::addr::NamespacedName;
use ambit_core::balance::Picker;
use ambit_core::index::{Endpoint, Endpoints};
use ambit_core::model::{Service, Workload};
use ambit_core::plan::is_on_the_network_of;
use arc_swap::ArcSwapOption;
use hashbrown::HashMap;

use crate::balance::{Balancer, Registry, Spec, Stats, Wish};
use crate::breaker::{Gate, Kind};
use crate::model::traffic::{Limits, Outlier, RetryBudget, TrafficPolicy};
use crate::outlier::Ejector;
use crate::refusal::{Flag, Refusal};
use crate::retry::Budget;

pub use chosen::{Chosen, Counted};

/// Of locks.
const WHOLE: &str = "nobody panics while holding it";

/// All clusters of a waypoint. Shared by its workers.
#[derive(Debug, Default)]
pub struct Clusters(RwLock<HashMap<NamespacedName, Vec<Arc<Cluster>>>>);

impl Clusters {
    /// The cluster of a service port; a new one when it was not used yet.
    #[must_use]
    pub fn of(&self, service: &NamespacedName, port: u16, now: Instant) -> Arc<Cluster> {
        let find = |known: &[Arc<Cluster>]| known.iter().find(|it| it.port == port).cloned();
        if let Some(cluster) = self
            .0
            .read()
            .expect(WHOLE)
            .get(service)
            .and_then(|known| find(known))
        {
            return cluster;
        }
        let mut clusters = self.0.write().expect(WHOLE);
        let known = clusters.entry(service.clone()).or_default();
        find(known).unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::new(port, now));
            known.push(cluster.clone());
            cluster
        })
    }

    /// Forgets the clusters of services that are gone. Whoever holds one goes on with it.
    pub fn sweep(&self, is_there: impl Fn(&NamespacedName) -> bool) {
        self.0
            .write()
            .expect(WHOLE)
            .retain(|service, _| is_there(service));
    }
}

/// One service port.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    gate: Gate,
    made: ArcSwapOption<Made>,
    desk: Mutex<Desk>,
    budget: Mutex<Budget>,
}

/// What a cluster chooses from, as of one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    #[allow(missing_docs)]
    pub service: &'a Arc<Service>,
    /// Of the service; `None` when none was ever known.
    pub endpoints: Option<&'a Endpoints>,
    /// For the service's port.
    pub traffic: Option<&'a Arc<TrafficPolicy>>,
    /// The waypoint's own workload, for localities.
    pub local: &'a Arc<Workload>,
}

/// What was made from a [`View`].
#[derive(Debug)]
struct Made {
    service: Arc<Service>,
    version: Option<u64>,
    traffic: Option<Arc<TrafficPolicy>>,
    local: Arc<Workload>,
    balancer: Balancer,
}

/// What is changed under a lock: rarely, and by one thread at a time.
#[derive(Debug)]
struct Desk {
    registry: Registry,
    ejector: Option<Ejector>,
}

impl Cluster {
    fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            gate: Gate::default(),
            made: ArcSwapOption::empty(),
            desk: Mutex::new(Desk {
                registry: Registry::new(now),
                ejector: None,
            }),
            budget: Mutex::new(Budget::new(RetryBudget::default(), now)),
        }
    }

    /// The port of the service.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An endpoint for a request or a connection of no known protocol, which is counted as `kind` for as long
    /// as what this gives is held. `able` says which endpoints can be used at all (they serve the port, at
    /// an address that can be reached); it depends on nothing but the view.
    ///
    /// # Errors
    /// 503: UO when the service has as many of that kind as it may have, UH when there is no endpoint.
    pub fn pick(
        self: &Arc<Self>,
        view: &View<'_>,
        kind: Kind,
        wish: &Wish<'_>,
        now: Instant,
        picker: &mut impl Picker,
        able: impl Fn(&Endpoint) -> bool,
    ) -> Result<Chosen, Refusal> {
        let counted = self.count(kind, view.traffic.map(|it| &it.limits))?;
        let made = self.made(view, now, able);
        let picked = made.balancer.pick(wish, now, picker);
        let picked = picked.ok_or_else(|| self.no_endpoint(view))?;
        Ok(Chosen {
            endpoint: picked.endpoint.clone(),
            in_flight: picked.begin(now),
            traffic: view.traffic.cloned(),
            endpoints: made.balancer.len(),
            counted,
            connection: false,
        })
    }

    /// Counts one more, for as long as what this gives is held.
    ///
    /// # Errors
    /// 503 (UO) when `limits` do not let it in.
    pub fn count(
        self: &Arc<Self>,
        kind: Kind,
        limits: Option<&Limits>,
    ) -> Result<Counted, Refusal> {
        self.admit(kind, limits)?;
        Ok(Counted {
            cluster: self.clone(),
            kind,
        })
    }

    fn admit(&self, kind: Kind, limits: Option<&Limits>) -> Result<(), Refusal> {
        match limits {
            Some(limits) => self.gate.acquire(limits, kind),
            None => self.gate.acquire(&Limits::default(), kind),
        }
    }

    /// The budget of retries, as the port's traffic policy wants it now.
    pub fn budget(&self, traffic: Option<&TrafficPolicy>, now: Instant) -> MutexGuard<'_, Budget> {
        let mut budget = self.budget.lock().expect(WHOLE);
        match traffic {
            Some(traffic) => budget.reconfigure(&traffic.retry_budget, now),
            None => budget.reconfigure(&RetryBudget::default(), now),
        }
        budget
    }

    /// How many there are now, for telemetry.
    #[must_use]
    pub fn current(&self, kind: Kind) -> u32 {
        self.gate.current(kind)
    }

    fn made(&self, view: &View<'_>, now: Instant, able: impl Fn(&Endpoint) -> bool) -> Arc<Made> {
        let current = || self.made.load_full().filter(|made| made.is_of(view));
        if let Some(made) = current() {
            return made;
        }
        let mut desk = self.desk.lock().expect(WHOLE);
        // Another worker may have made it meanwhile.
        if let Some(made) = current() {
            return made;
        }
        let previous = self.made.load_full();
        let made = Made::new(view, &mut desk.registry, previous.as_deref(), now, &able);
        let made = Arc::new(made);
        desk.configure(view.traffic.and_then(|it| it.outlier.as_ref()));
        self.made.store(Some(made.clone()));
        // The old one still holds figures of endpoints that are gone: they go with the next change.
        desk.registry.sweep();
        made
    }

    /// Gives an endpoint a rest if the service's others allow it.
    fn eject(&self, stats: &Arc<Stats>, endpoints: usize, now: Instant) -> Option<Duration> {
        let mut desk = self.desk.lock().expect(WHOLE);
        desk.ejector.as_mut()?.eject(stats, endpoints, now)
    }

    fn no_endpoint(&self, view: &View<'_>) -> Refusal {
        let key = &view.service.key;
        let all = view.endpoints.map_or(0, Endpoints::len);
        let ready = view.endpoints.map_or(0, Endpoints::healthy_len);
        let reason = match (all, ready) {
            (0, _) => {
                format!("service {key} has no endpoints; check its selector and that pods run")
            }
            (all, 0) if !view.service.load_balancing.allow_unhealthy => {
                format!("none of the {all} endpoints of service {key} is ready")
            }
            (all, _) if elsewhere(view) => format!(
                "all {all} endpoints of service {key} are on other networks, where a waypoint does not send: let the \
                 waypoint run on theirs"
            ),
            (all, _) => format!(
                "none of the {all} endpoints of service {key} serves port {} at an address and place \
                 that fit the waypoint",
                self.port
            ),
        };
        Refusal::new(503, Flag::NoHealthyUpstream, reason)
    }
}

/// Whether all endpoints are on networks that are not the waypoint's.
fn elsewhere(view: &View<'_>) -> bool {
    let mut all = view.endpoints.iter().flat_map(|endpoints| endpoints.iter());
    all.all(|it| !is_on_the_network_of(it.workload(), view.local))
}

impl Desk {
    fn configure(&mut self, outlier: Option<&Outlier>) {
        match (&mut self.ejector, outlier) {
            (Some(ejector), Some(how)) => ejector.reconfigure(how.clone()),
            (ejector, how) => *ejector = how.cloned().map(Ejector::new),
        }
    }
}

impl Made {
    fn new(
        view: &View<'_>,
        registry: &mut Registry,
        previous: Option<&Self>,
        now: Instant,
        able: &impl Fn(&Endpoint) -> bool,
    ) -> Self {
        let none = Endpoints::default();
        let spec = Spec {
            endpoints: view.endpoints.unwrap_or(&none),
            how: &view.service.load_balancing,
            from: view.local,
            traffic: view.traffic.map(|it| &**it),
        };
        let previous = previous.map(|it| &it.balancer);
        Self {
            service: view.service.clone(),
            version: view.endpoints.map(Endpoints::version),
            traffic: view.traffic.cloned(),
            local: view.local.clone(),
            balancer: Balancer::new(&spec, registry, previous, now, able),
        }
    }

    /// Whether the view would lead to the same.
    fn is_of(&self, view: &View<'_>) -> bool {
        let same_traffic = match (&self.traffic, view.traffic) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        };
        same_traffic
            && self.version == view.endpoints.map(Endpoints::version)
            && Arc::ptr_eq(&self.service, view.service)
            && Arc::ptr_eq(&self.local, view.local)
    }
}
