//! Which endpoint of a service takes a request, by what the others of this proxy are doing there.
//!
//! What is known of an endpoint ([`Stats`]) lives as long as anybody has it as an endpoint; what is
//! chosen from ([`Balancer`]) is built anew when endpoints or policies change, and then shared and
//! never written. To pick is a few draws and looks, whatever the number of endpoints, and nothing is
//! allocated. Only when most of them rest or were tried are all looked at.

mod draw;
mod ring;
mod stats;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ambit_core::balance::{Picker, hash, rank};
use ambit_core::index::{Endpoint, Endpoints};
use ambit_core::model::service::Mode;
use ambit_core::model::{Health, LoadBalancing, Workload};

use crate::model::traffic::{Balance, HashKey, TrafficPolicy};
use draw::Draw;
use ring::Ring;

pub use stats::{InFlight, Registry, Stats};

/// Draws before giving up on luck and looking at every endpoint.
const DRAWS: usize = 4;
/// The least share of a new endpoint, in thousandths of a full one.
const LEAST_SHARE: u32 = 100;

/// What a [`Balancer`] is built from.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    #[allow(missing_docs)]
    pub endpoints: &'a Endpoints,
    /// Of the service: locality preference, and whether unhealthy endpoints are used.
    pub how: &'a LoadBalancing,
    /// Who asks: the waypoint's own workload, for localities.
    pub from: &'a Workload,
    #[allow(missing_docs)]
    pub traffic: Option<&'a TrafficPolicy>,
}

/// The endpoints of a service that requests may go to.
#[derive(Debug)]
pub struct Balancer {
    /// Nearest first.
    tiers: Vec<Tier>,
    balance: Balance,
    slow_start: Option<Duration>,
    turn: Arc<AtomicU32>,
    in_flight: Arc<AtomicU32>,
}

/// Endpoints that are equally near.
#[derive(Debug)]
struct Tier {
    rank: usize,
    slots: Vec<Slot>,
    draw: Draw,
    ring: Option<Ring>,
}

#[derive(Debug)]
struct Slot {
    endpoint: Endpoint,
    stats: Arc<Stats>,
    weight: u32,
}

/// [`Wish::hash`] of a client's address, where that is what keeps requests and connections together.
#[must_use]
pub fn address_hash(client: IpAddr, balance: &Balance) -> Option<u64> {
    let by_address = balance.key() == Some(&HashKey::SourceIp);
    by_address.then(|| hash(client.to_canonical().to_string().as_bytes()))
}

/// What is special about one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// [`hash`](ambit_core::balance::hash()) of what keeps requests together ([`Balance::key`]). Requests without are spread.
    pub hash: Option<u64>,
    /// Uids of workloads to avoid, if there are others: they were tried.
    pub tried: &'a [Arc<str>],
}

/// The endpoint for a request.
#[derive(Debug, Clone, Copy)]
pub struct Picked<'a> {
    #[allow(missing_docs)]
    pub endpoint: &'a Endpoint,
    #[allow(missing_docs)]
    pub stats: &'a Arc<Stats>,
    service: &'a Arc<AtomicU32>,
}

impl Picked<'_> {
    /// The request is sent there; it is in flight until what this gives is dropped.
    #[must_use]
    pub fn begin(&self, now: Instant) -> InFlight {
        InFlight::new(self.stats.clone(), self.service.clone(), now)
    }
}

/// Whom a pass over the endpoints leaves out.
#[derive(Clone, Copy)]
struct Pass<'a> {
    now: Instant,
    turn: u32,
    resting: bool,
    tried: &'a [Arc<str>],
}

impl Balancer {
    /// Of the endpoints that `able` takes (it serves the port, it can be reached). `previous` is
    /// what this replaces: endpoints that were not in the first one start slowly.
    #[must_use]
    pub fn new(
        spec: &Spec<'_>,
        registry: &mut Registry,
        previous: Option<&Self>,
        now: Instant,
        able: impl Fn(&Endpoint) -> bool,
    ) -> Self {
        let balance = spec.traffic.map(|it| it.balance.clone());
        let balance = balance.unwrap_or_default();
        let mut tiers: Vec<Tier> = Vec::new();
        let nearby = matches!(spec.how.mode, Mode::Strict | Mode::Failover);
        let preference = if nearby {
            &spec.how.preference[..]
        } else {
            &[]
        };
        for endpoint in spec.endpoints.iter().filter(|it| able(it)) {
            let workload = endpoint.workload();
            let rank = rank(preference, spec.from, workload);
            let strict = spec.how.mode == Mode::Strict && rank < preference.len();
            if strict || workload.health == Health::Unhealthy && !spec.how.allow_unhealthy {
                continue;
            }
            let stats = registry.stats(&workload.uid, previous.map(|_| now));
            let slot = Slot {
                endpoint: endpoint.clone(),
                stats,
                weight: workload.capacity.max(1),
            };
            match tiers.iter_mut().find(|tier| tier.rank == rank) {
                Some(tier) => tier.slots.push(slot),
                None => tiers.push(Tier::new(rank, slot)),
            }
        }
        tiers.sort_by_key(|tier| std::cmp::Reverse(tier.rank));
        let hashed = balance.key().is_some();
        for tier in &mut tiers {
            tier.draw = Draw::new(tier.slots.iter().map(|slot| slot.weight));
            tier.ring = hashed.then(|| Ring::new(tier.slots.iter().map(Slot::point)));
        }
        Self {
            tiers,
            balance,
            slow_start: spec.traffic.and_then(|it| it.slow_start),
            turn: previous.map(|it| it.turn.clone()).unwrap_or_default(),
            in_flight: previous.map(|it| it.in_flight.clone()).unwrap_or_default(),
        }
    }

    /// How many endpoints there are to choose from.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tiers.iter().map(|tier| tier.slots.len()).sum()
    }

    /// There is none: 503 (UH).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// An endpoint for the next request. Those that rest are used when there are no others, and so
    /// are those that were tried; `None` only when there is none at all.
    pub fn pick(
        &self,
        wish: &Wish<'_>,
        now: Instant,
        picker: &mut impl Picker,
    ) -> Option<Picked<'_>> {
        let turn = match self.balance {
            Balance::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        let tried = wish.tried;
        let passes = [(false, tried), (true, tried), (true, &[])];
        let all = || self.tiers.iter();
        let slot = passes.into_iter().find_map(|(resting, tried)| {
            let pass = Pass {
                now,
                turn,
                resting,
                tried,
            };
            all().find_map(|tier| self.pick_of(tier, pass, wish.hash, picker))
        })?;
        Some(Picked {
            endpoint: &slot.endpoint,
            stats: &slot.stats,
            service: &self.in_flight,
        })
    }

    fn pick_of<'a>(
        &self,
        tier: &'a Tier,
        pass: Pass<'_>,
        hash: Option<u64>,
        picker: &mut impl Picker,
    ) -> Option<&'a Slot> {
        if let [only] = &tier.slots[..] {
            return pass.takes(only).then_some(only);
        }
        let lucky = match (&self.balance, hash, &tier.ring) {
            (_, Some(hash), Some(ring)) => self.on_ring(tier, ring, hash, pass),
            (Balance::Random, ..) => self.drawn(tier, pass, picker).map(|at| &tier.slots[at]),
            (Balance::RoundRobin, ..) => self.in_turn(tier, pass, picker),
            _ => self.better_of_two(tier, pass, picker),
        };
        lucky.or_else(|| self.best_of_all(tier, pass, picker))
    }

    fn better_of_two<'a>(
        &self,
        tier: &'a Tier,
        pass: Pass<'_>,
        picker: &mut impl Picker,
    ) -> Option<&'a Slot> {
        let one = self.drawn(tier, pass, picker)?;
        let mut other = tier.draw.next(picker);
        if other == one {
            let count = tier.slots.len();
            other = (one + 1 + picker.next(bound(count - 1)) as usize) % count;
        }
        let (one, other) = (&tier.slots[one], &tier.slots[other]);
        if !self.admits(other, pass, picker) {
            return Some(one);
        }
        let better = self.load(other, pass.now) < self.load(one, pass.now);
        Some(if better { other } else { one })
    }

    fn drawn(&self, tier: &Tier, pass: Pass<'_>, picker: &mut impl Picker) -> Option<usize> {
        (0..DRAWS).find_map(|_| {
            let at = tier.draw.next(picker);
            self.admits(&tier.slots[at], pass, picker).then_some(at)
        })
    }

    fn in_turn<'a>(
        &self,
        tier: &'a Tier,
        pass: Pass<'_>,
        picker: &mut impl Picker,
    ) -> Option<&'a Slot> {
        (0..DRAWS as u32).find_map(|next| {
            let slot = &tier.slots[tier.draw.in_turn(pass.turn.wrapping_add(next))];
            self.admits(slot, pass, picker).then_some(slot)
        })
    }

    /// The first on the ring that has room: one key that is all the traffic does not drown its
    /// endpoint. What is spilt goes to the same neighbour. Nothing is spilt of clients that are to be kept.
    fn on_ring<'a>(
        &self,
        tier: &'a Tier,
        ring: &Ring,
        hash: u64,
        pass: Pass<'_>,
    ) -> Option<&'a Slot> {
        let mut first = None;
        let kept = self.balance == Balance::ClientAffinity;
        let room = ring::Room::new(self.in_flight.load(Ordering::Relaxed), tier.draw.total());
        for at in ring.walk(hash) {
            let slot = &tier.slots[at];
            if !pass.takes(slot) {
                continue;
            }
            if kept || room.has(slot.stats.in_flight(), slot.weight) {
                return Some(slot);
            }
            first = first.or(Some(slot));
        }
        first
    }

    fn best_of_all<'a>(
        &self,
        tier: &'a Tier,
        pass: Pass<'_>,
        picker: &mut impl Picker,
    ) -> Option<&'a Slot> {
        // From anywhere, so that equals get equal shares.
        let start = picker.next(bound(tier.slots.len())) as usize;
        let (later, sooner) = tier.slots.split_at(start);
        let takes = sooner.iter().chain(later).filter(|slot| pass.takes(slot));
        let loads = takes.map(|slot| (self.load(slot, pass.now), slot));
        loads
            .reduce(|best, next| if next.0 < best.0 { next } else { best })
            .map(|(_, slot)| slot)
    }

    /// It is taken, and if it is new, by as much of a chance as it is old.
    fn admits(&self, slot: &Slot, pass: Pass<'_>, picker: &mut impl Picker) -> bool {
        if !pass.takes(slot) {
            return false;
        }
        let Some(age) = self.slow_start.and(slot.stats.age(pass.now)) else {
            return true;
        };
        let window = self.slow_start.unwrap_or_default();
        let share = age.as_secs_f64() * 1000.0 / window.as_secs_f64().max(f64::MIN_POSITIVE);
        share >= 1000.0 || picker.next(1000) < (share as u32).max(LEAST_SHARE)
    }

    fn load(&self, slot: &Slot, now: Instant) -> f64 {
        let load = match self.balance {
            Balance::LeastRequest | Balance::Random | Balance::RoundRobin => {
                f64::from(slot.stats.in_flight().saturating_add(1))
            }
            _ => slot.stats.cost(now),
        };
        load / f64::from(slot.weight)
    }
}

impl Tier {
    fn new(rank: usize, slot: Slot) -> Self {
        Self {
            rank,
            slots: vec![slot],
            draw: Draw::default(),
            ring: None,
        }
    }
}

impl Slot {
    fn point(&self) -> (&str, u32) {
        (&self.endpoint.workload().uid, self.weight)
    }
}

impl Pass<'_> {
    fn takes(&self, slot: &Slot) -> bool {
        let uid = &slot.endpoint.workload().uid;
        (self.resting || !slot.stats.rests(self.now)) && !self.tried.contains(uid)
    }
}

fn bound(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}
