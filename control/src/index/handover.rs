//! How a service comes to a waypoint, leaves one or changes it without a call being refused on its way.
//!
//! Proxies learn of a change one after the other. So it is told in steps, and each of them once all know the one before:
//!
//! 1. Whoever is to take calls takes them: the waypoint serves, and pods let its calls in, or direct ones. All are sent as
//!    before.
//! 2. They are sent as they are to be. Whoever took them before still does.
//! 3. Only whoever is to take calls does.
//!
//! What takes nobody's way (a port, a share) is told at once. So is everything of a service with policies of its own that
//! comes to a waypoint or leaves it: what judges direct calls by them is not what judges those of a waypoint.

use std::collections::BTreeMap;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{GatewayAddress, Service, WeightedWaypoint};

/// The services that are on their way.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    underway: BTreeMap<NamespacedName, Handover>,
    /// How often something was told.
    told: u64,
}

/// A step that is not the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    #[allow(missing_docs)]
    pub service: NamespacedName,
    /// It was told when so much was, see [`Index::told`](super::Index::told).
    pub told: u64,
    /// With the next one somebody takes no more calls, who is sent no new ones by now.
    pub leaves: bool,
}

#[derive(Debug)]
struct Handover {
    target: Service,
    /// When its last step was told.
    since: u64,
    /// See [`Step::leaves`].
    leaves: bool,
    /// Calls were sent another way since it began.
    has_turned: bool,
}

impl Handovers {
    /// Whatever is told from now on is newer than what was.
    pub(super) fn tick(&mut self) {
        self.told += 1;
    }

    /// What is to be told of a service that is to be `found`, of which `now` was told before; `judged` when it has policies
    /// of its own.
    pub(super) fn begin(
        &mut self,
        now: &Service,
        found: Service,
        judged: impl FnOnce() -> bool,
    ) -> Service {
        if let Some(handover) = self.underway.get_mut(&found.key) {
            if !handover.has_turned && sent(now) == sent(&found) {
                // It stays where it is: nobody was sent to whoever else takes calls.
                self.underway.remove(&found.key);
                return found;
            }
            // Not all may know what was told: its way changes with the next step.
            let told = on_the_way_of(now, &found);
            handover.target = found;
            return told;
        }
        let next = next(now, &found);
        if next == found || (next.takes_direct && judged()) {
            return found;
        }
        let handover = Handover {
            since: self.told,
            leaves: self::next(&next, &found) == next,
            has_turned: sent(now) != sent(&next),
            target: found,
        };
        self.underway.insert(next.key.clone(), handover);
        next
    }

    /// Where a service that takes direct calls on its way goes: it is there at once. `now` was told of it.
    pub(super) fn end(&mut self, now: &Service) -> Option<Service> {
        if !now.takes_direct {
            return None;
        }
        self.underway.remove(&now.key).map(|it| it.target)
    }

    /// The service is gone.
    pub(super) fn forget(&mut self, key: &NamespacedName) {
        self.underway.remove(key);
    }

    /// How often something was told by now.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Whether a service is on its way.
    pub(super) fn include(&self, key: &NamespacedName) -> bool {
        self.underway.contains_key(key)
    }

    /// The steps that are not the last ones.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        self.underway.iter().map(|(key, handover)| Step {
            service: key.clone(),
            told: handover.since,
            leaves: handover.leaves,
        })
    }

    /// What is told of a service next, given what was told of it. `None` when it is not on its way. `judged` when it has
    /// policies of its own.
    pub(super) fn advance(
        &mut self,
        now: &Service,
        judged: impl FnOnce() -> bool,
    ) -> Option<Service> {
        let handover = self.underway.get_mut(&now.key)?;
        let mut step = next(now, &handover.target);
        if step == *now || (step.takes_direct && judged()) {
            step = handover.target.clone();
        }
        handover.since = self.told;
        handover.leaves = next(&step, &handover.target) == step;
        handover.has_turned |= sent(now) != sent(&step);
        if step == handover.target {
            self.underway.remove(&now.key);
        }
        Some(step)
    }
}

/// The same service, whose calls go the way of another.
fn on_the_way_of(way: &Service, service: &Service) -> Service {
    Service {
        waypoint: way.waypoint.clone(),
        weighted_waypoints: way.weighted_waypoints.clone(),
        waypoint_bypass: way.waypoint_bypass,
        takes_direct: way.takes_direct,
        ..service.clone()
    }
}

/// Where new calls go: the waypoint, the shares of those that have any, and around them.
fn sent(service: &Service) -> (Option<&GatewayAddress>, Vec<&WeightedWaypoint>, bool) {
    let weighted = service.weighted_waypoints.iter();
    let mut shares: Vec<_> = weighted.filter(|it| it.weight > 0).collect();
    if let [one] = &shares[..]
        && Some(&one.waypoint) == service.waypoint.as_ref()
    {
        shares.clear();
    }
    (service.waypoint.as_ref(), shares, service.waypoint_bypass)
}

/// Who takes calls to a service.
struct Takers {
    waypoints: Vec<GatewayAddress>,
    /// Its pods, from anybody.
    direct: bool,
}

impl Takers {
    fn of(service: &Service) -> Self {
        Self {
            waypoints: service.waypoints().cloned().collect(),
            direct: service.takes_direct_calls(),
        }
    }

    fn include(&self, others: &Self) -> bool {
        let known = |waypoint| self.waypoints.contains(waypoint);
        others.waypoints.iter().all(known) && (self.direct || !others.direct)
    }

    /// The same service, to which these take calls besides.
    fn beside(&self, mut service: Service) -> Service {
        let takers = Self::of(&service);
        for waypoint in &self.waypoints {
            if takers.waypoints.contains(waypoint) {
                continue;
            }
            if let Some(bound_to) = &service.waypoint
                && service.weighted_waypoints.is_empty()
            {
                service.weighted_waypoints.push(WeightedWaypoint {
                    waypoint: bound_to.clone(),
                    weight: 1,
                });
            }
            service.weighted_waypoints.push(WeightedWaypoint {
                waypoint: waypoint.clone(),
                weight: 0,
            });
        }
        // Without a waypoint of its own, those beside are known by that alone.
        let is_left = service.waypoint.is_none() && !service.weighted_waypoints.is_empty();
        service.takes_direct |= is_left || (self.direct && !takers.direct);
        service
    }
}

/// What is told after `now` on the way to `target`.
fn next(now: &Service, target: &Service) -> Service {
    let (takers, wanted) = (Takers::of(now), Takers::of(target));
    if takers.include(&wanted) {
        return takers.beside(target.clone());
    }
    let as_before = on_the_way_of(now, target);
    wanted.beside(as_before)
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
