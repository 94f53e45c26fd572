use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ambit_core::addr::NamespacedName;
use ambit_core::balance::{First, Seeded};
use ambit_core::index::{Change, Index};
use ambit_core::model::Locality;
use ambit_core::model::service::Scope;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{self, start};
use crate::model::traffic::{HashKey, Limits, Outlier, RetryBudget};
use crate::outlier::Ejector;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn key() -> NamespacedName {
    fixtures::key("web")
}

fn pod(name: &str) -> Workload {
    fixtures::pod(name, "web")
}

fn pods(count: usize) -> Vec<Workload> {
    (0..count).map(|n| pod(&format!("p{n}"))).collect()
}

/// A service, and time that only moves when told to.
struct World {
    index: Index,
    how: LoadBalancing,
    traffic: TrafficPolicy,
    registry: Registry,
    now: Instant,
    picker: Seeded,
}

impl World {
    fn new(balance: Balance, workloads: Vec<Workload>) -> Self {
        let now = start();
        let mut world = Self {
            index: Index::new("istio-system"),
            how: LoadBalancing::default(),
            traffic: TrafficPolicy {
                key: key(),
                service: key(),
                port: None,
                balance,
                slow_start: None,
                outlier: None,
                limits: Limits::default(),
                retry_budget: RetryBudget::default(),
            },
            registry: Registry::new(now),
            now,
            picker: Seeded::new(7),
        };
        world.put(workloads);
        world
    }

    fn put(&mut self, workloads: Vec<Workload>) {
        for workload in workloads {
            self.index.apply(Change::Workload(Arc::new(workload)));
        }
    }

    fn build(&mut self, previous: Option<&Balancer>) -> Balancer {
        let from = pod("waypoint");
        let spec = Spec {
            endpoints: self.index.endpoints(&key()).expect("endpoints"),
            how: &self.how,
            from: &from,
            traffic: Some(&self.traffic),
        };
        Balancer::new(&spec, &mut self.registry, previous, self.now, |_| true)
    }

    fn pick(&mut self, balancer: &Balancer, wish: &Wish<'_>) -> Option<String> {
        let picked = balancer.pick(wish, self.now, &mut self.picker)?;
        Some(picked.endpoint.workload().name.to_string())
    }

    /// How often each is picked, nothing being in flight.
    fn shares(&mut self, balancer: &Balancer, picks: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..picks {
            let name = self.pick(balancer, &Wish::default()).expect("an endpoint");
            *shares.entry(name).or_default() += 1;
        }
        shares
    }

    fn stats(&mut self, name: &str) -> Arc<Stats> {
        self.registry.stats(&name.into(), None)
    }

    /// Requests one after the other at `rate` a second, which the endpoints answer after `took`,
    /// or fail. Gives the share of each endpoint.
    fn serve(
        &mut self,
        balancer: &Balancer,
        requests: usize,
        gap: Duration,
        took: impl Fn(&str) -> (Duration, bool),
    ) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        let mut open: Vec<(Instant, bool, InFlight)> = Vec::new();
        for _ in 0..requests {
            self.now += gap;
            let now = self.now;
            let (done, still) = open.into_iter().partition(|(at, ..)| *at <= now);
            open = still;
            let done: Vec<(Instant, bool, InFlight)> = done;
            for (at, good, request) in done {
                request.answered(good, at);
            }
            let picked = balancer.pick(&Wish::default(), now, &mut self.picker);
            let picked = picked.expect("an endpoint");
            let name = picked.endpoint.workload().name.to_string();
            let (took, good) = took(&name);
            open.push((now + took, good, picked.begin(now)));
            *shares.entry(name).or_default() += 1;
        }
        shares
    }
}

fn all_ways() -> [Balance; 6] {
    [
        Balance::PeakEwma,
        Balance::LeastRequest,
        Balance::Random,
        Balance::RoundRobin,
        Balance::ConsistentHash(HashKey::SourceIp),
        Balance::ClientAffinity,
    ]
}

#[test]
fn equals_have_equal_shares() {
    for balance in all_ways() {
        let mut world = World::new(balance.clone(), pods(5));
        let balancer = world.build(None);
        let shares = world.shares(&balancer, 20_000);
        assert_eq!(shares.len(), 5, "{balance:?}");
        for (name, share) in shares {
            assert!(share.abs_diff(4_000) < 300, "{balance:?} {name}: {share}");
        }
    }
}

#[test]
fn shares_follow_capacity() {
    let sized = |name, capacity| Workload {
        capacity,
        ..pod(name)
    };
    for balance in [Balance::Random, Balance::RoundRobin] {
        let workloads = vec![sized("a", 1), sized("b", 2), sized("c", 5)];
        let mut world = World::new(balance.clone(), workloads);
        let balancer = world.build(None);
        let shares = world.shares(&balancer, 8_000);
        for (name, expected) in [("a", 1_000), ("b", 2_000), ("c", 5_000)] {
            let share = shares[name];
            assert!(
                share.abs_diff(expected) < 200,
                "{balance:?} {name}: {share}"
            );
        }
    }
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let workloads = vec![sized("a", 1), sized("b", 4)];
        let mut world = World::new(balance.clone(), workloads);
        let balancer = world.build(None);
        let shares = world.serve(&balancer, 20_000, MS(1), |_| (MS(50), true));
        let ratio = shares["b"] as f64 / shares["a"] as f64;
        assert!((3.0..6.0).contains(&ratio), "{balance:?}: {ratio}");
    }
}

#[test]
fn in_turn() {
    let mut world = World::new(Balance::RoundRobin, pods(3));
    let balancer = world.build(None);
    let first: Vec<_> = (0..3)
        .filter_map(|_| world.pick(&balancer, &Wish::default()))
        .collect();
    let next: Vec<_> = (0..3)
        .filter_map(|_| world.pick(&balancer, &Wish::default()))
        .collect();
    assert_eq!(first, next);
    let rebuilt = world.build(Some(&balancer));
    world.pick(&balancer, &Wish::default());
    let after = world.pick(&rebuilt, &Wish::default());
    assert_eq!(after.as_ref(), first.get(1), "the turn outlives a change");
}

#[test]
fn the_slow_get_less() {
    for (balance, most) in [(Balance::PeakEwma, 0.06), (Balance::LeastRequest, 0.35)] {
        let mut world = World::new(balance.clone(), pods(4));
        let balancer = world.build(None);
        let took = |name: &str| (if name == "p0" { MS(500) } else { MS(5) }, true);
        let shares = world.serve(&balancer, 10_000, MS(1), took);
        let share = shares["p0"] as f64 / 10_000.0;
        assert!(share < most, "{balance:?}: {share}");
    }
}

#[test]
fn failing_fast_does_not_attract_and_is_forgiven() {
    let mut world = World::new(Balance::PeakEwma, pods(4));
    let balancer = world.build(None);
    let took = |name: &str| match name {
        "p0" => (MS(1), false),
        _ => (MS(20), true),
    };
    let shares = world.serve(&balancer, 10_000, MS(2), took);
    let share = shares["p0"] as f64 / 10_000.0;
    assert!(share < 0.03, "{share}");
    // It recovers, and is found out to have.
    let shares = world.serve(&balancer, 60_000, MS(2), |_| (MS(20), true));
    let share = shares["p0"] as f64 / 60_000.0;
    assert!(share > 0.1, "{share}");
}

#[test]
fn an_estimate_rises_at_once_falls_slowly_and_is_bounded() {
    let now = start();
    let mut registry = Registry::new(now);
    let stats = registry.stats(&"a".into(), None);
    let at = |millis| now + MS(millis);
    let latency = |millis| stats.latency(at(millis)).as_millis();
    assert_eq!(latency(0), 30, "unknown");
    stats.observe(MS(100), true, at(0));
    assert_eq!(latency(0), 100);
    stats.observe(MS(10), true, at(1_000));
    assert_eq!(latency(1_000), 99 - 99 / 10 + 1);
    assert!(latency(100_000) < 1, "nothing is remembered for ever");
    stats.observe(MS(200), true, at(500));
    assert!(
        latency(1_000) >= 200,
        "news that come late do not turn the clock back"
    );
    for _ in 0..50 {
        stats.observe(MS(1), false, at(2_000));
    }
    assert_eq!(latency(2_000), 10_000);
}

#[test]
fn the_tried_and_the_resting_are_avoided_while_there_are_others() {
    for balance in all_ways() {
        let mut world = World::new(balance.clone(), pods(3));
        let balancer = world.build(None);
        let outlier = Outlier {
            consecutive_errors: 1,
            consecutive_gateway_errors: 0,
            base_ejection: MS(1_000),
            interval: MS(1_000),
            max_ejected_percent: 100,
        };
        let mut ejector = Ejector::new(outlier);
        let mut eject = |world: &mut World, name| {
            let stats = world.stats(name);
            ejector.eject(&stats, 3, world.now).expect("it may rest");
        };
        eject(&mut world, "p0");
        let tried = ["p1".into()];
        let seen = |world: &mut World, tried: &[Arc<str>]| {
            let mut seen = Vec::new();
            for n in 0..200u64 {
                let hash = Some(hash(&n.to_be_bytes()));
                seen.extend(world.pick(&balancer, &Wish { hash, tried }));
            }
            assert_eq!(seen.len(), 200, "there is always one");
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(seen(&mut world, &[]), ["p1", "p2"], "{balance:?}");
        assert_eq!(seen(&mut world, &tried), ["p2"], "{balance:?}");
        eject(&mut world, "p2");
        assert_eq!(seen(&mut world, &tried), ["p0", "p2"], "{balance:?}");
        let all = ["p0".into(), "p1".into(), "p2".into()];
        assert_eq!(seen(&mut world, &all), ["p0", "p1", "p2"], "{balance:?}");
        world.now += MS(1_000);
        assert_eq!(seen(&mut world, &[]), ["p0", "p1", "p2"], "{balance:?}");
    }
}

#[test]
fn health_and_locality() {
    let at = |name, zone: &str| Workload {
        locality: Locality {
            region: "".into(),
            zone: zone.into(),
            subzone: "".into(),
        },
        ..pod(name)
    };
    let ill = Workload {
        health: Health::Unhealthy,
        ..at("ill", "")
    };
    let workloads = vec![at("near", ""), at("near-too", ""), at("far", "z2"), ill];
    let cases = [
        (
            "all alike",
            Mode::Unspecified,
            false,
            &["far", "near", "near-too"][..],
        ),
        (
            "the ill as well",
            Mode::Unspecified,
            true,
            &["far", "ill", "near", "near-too"],
        ),
        ("near ones", Mode::Failover, false, &["near", "near-too"]),
        ("only near ones", Mode::Strict, false, &["near", "near-too"]),
    ];
    for (case, mode, allow_unhealthy, expected) in cases {
        let mut world = World::new(Balance::Random, workloads.clone());
        world.how = LoadBalancing {
            preference: vec![Scope::Zone],
            mode,
            allow_unhealthy,
            client_affinity: false,
        };
        let balancer = world.build(None);
        let shares = world.shares(&balancer, 500);
        assert_eq!(shares.keys().collect::<Vec<_>>(), expected, "{case}");
        let tried = ["near".into(), "near-too".into()];
        let hash = None;
        let next = world.pick(
            &balancer,
            &Wish {
                hash,
                tried: &tried,
            },
        );
        let far = next.as_deref() == Some("far");
        match mode {
            Mode::Strict => assert!(!far, "{case}"),
            Mode::Failover => assert!(far, "{case}: another one, be it farther"),
            _ => {}
        }
    }
    let mut world = World::new(Balance::Random, workloads[3..].to_vec());
    let balancer = world.build(None);
    assert!(balancer.is_empty());
    assert!(
        balancer
            .pick(&Wish::default(), world.now, &mut First)
            .is_none()
    );
}

#[test]
fn the_new_start_slowly_the_first_do_not() {
    for balance in [
        Balance::Random,
        Balance::RoundRobin,
        Balance::PeakEwma,
        Balance::LeastRequest,
    ] {
        let mut world = World::new(balance.clone(), pods(3));
        world.traffic.slow_start = Some(MS(10_000));
        let first = world.build(None);
        let shares = world.shares(&first, 9_000);
        assert!(
            shares["p0"].abs_diff(3_000) < 300,
            "{balance:?}: {shares:?}"
        );
        world.put(vec![pod("new")]);
        world.now += MS(1);
        let second = world.build(Some(&first));
        let young = world.shares(&second, 8_000);
        let young = young.get("new").copied().unwrap_or(0);
        assert!(young < 600, "{balance:?}: {young}");
        world.now += MS(10_000);
        for stats in ["p0", "p1", "p2", "new"] {
            // So that only age decides.
            let stats = world.stats(stats);
            stats.observe(MS(20), true, world.now);
        }
        let grown = world.shares(&second, 8_000)["new"];
        assert!(grown.abs_diff(2_000) < 300, "{balance:?}: {grown}");
    }
}

#[test]
fn a_key_keeps_its_endpoint_and_few_move() {
    for balance in [
        Balance::ConsistentHash(HashKey::SourceIp),
        Balance::ClientAffinity,
    ] {
        keeps_and_few_move(balance);
    }
}

fn keeps_and_few_move(balance: Balance) {
    let mut world = World::new(balance, pods(10));
    let keys: Vec<_> = (0..5_000u64).map(|n| hash(&n.to_be_bytes())).collect();
    let homes = |world: &mut World, balancer: &Balancer| -> Vec<String> {
        let wish = |hash| Wish {
            hash: Some(hash),
            tried: &[],
        };
        keys.iter()
            .filter_map(|key| world.pick(balancer, &wish(*key)))
            .collect()
    };
    let before = world.build(None);
    let homes_before = homes(&mut world, &before);
    assert_eq!(homes(&mut world, &before), homes_before);
    world.put(vec![pod("new")]);
    let after = world.build(Some(&before));
    let homes_after = homes(&mut world, &after);
    let moved: Vec<_> = homes_before
        .iter()
        .zip(&homes_after)
        .filter(|(a, b)| a != b)
        .collect();
    assert!(
        moved.iter().all(|(_, to)| *to == "new"),
        "only to the new one"
    );
    assert!((200..900).contains(&moved.len()), "{}", moved.len());
    world.index.apply(Change::RemoveAddress("new".into()));
    let again = world.build(Some(&after));
    assert_eq!(homes(&mut world, &again), homes_before, "and back");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for home in homes_before {
        *counts.entry(home).or_default() += 1;
    }
    let fair = counts.values().all(|count| (250..850).contains(count));
    assert!(counts.len() == 10 && fair, "{counts:?}");
}

#[test]
fn a_key_that_is_everything_spills() {
    let hashed = Balance::ConsistentHash(HashKey::SourceIp);
    let mut world = World::new(hashed, pods(10));
    let balancer = world.build(None);
    let wish = Wish {
        hash: Some(hash(b"x")),
        tried: &[],
    };
    let mut open = Vec::new();
    for _ in 0..1_000 {
        let picked = balancer
            .pick(&wish, world.now, &mut world.picker)
            .expect("one");
        open.push(picked.begin(world.now));
    }
    let loads: Vec<_> = (0..10)
        .map(|n| world.stats(&format!("p{n}")).in_flight())
        .collect();
    assert!(loads.iter().all(|load| *load <= 201), "{loads:?}");
    assert!(
        loads.iter().filter(|load| **load > 100).count() >= 4,
        "{loads:?}"
    );
    drop(open);
    assert_eq!(
        world.stats("p0").in_flight(),
        0,
        "what is dropped has ended"
    );
}

#[test]
fn a_client_that_is_to_stay_stays_whatever_it_sends() {
    let mut world = World::new(Balance::ClientAffinity, pods(10));
    let balancer = world.build(None);
    let wish = |tried| Wish {
        hash: Some(hash(b"x")),
        tried,
    };
    let mut open = Vec::new();
    let mut homes = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let picked = balancer.pick(&wish(&[]), world.now, &mut world.picker);
        let picked = picked.expect("one");
        homes.insert(picked.endpoint.workload().uid.clone());
        open.push(picked.begin(world.now));
    }
    assert_eq!(homes.len(), 1, "{homes:?}");
    let tried: Vec<_> = homes.into_iter().collect();
    let mut others: Vec<_> = (0..10)
        .filter_map(|_| world.pick(&balancer, &wish(&tried)))
        .collect();
    others.dedup();
    assert_eq!(others.len(), 1, "the next one is one as well: {others:?}");
    assert_ne!(*others[0], *tried[0]);
}

#[test]
fn to_pick_looks_at_few_and_draws_little() {
    for balance in all_ways() {
        let mut world = World::new(balance.clone(), pods(5_000));
        let balancer = world.build(None);
        let mut draws = 0;
        let mut picker = |bound: u32| {
            draws += 1;
            bound / 2
        };
        assert!(
            balancer
                .pick(&Wish::default(), world.now, &mut picker)
                .is_some()
        );
        assert!(draws <= 3, "{balance:?}: {draws}");
    }
}

#[test]
fn what_is_known_survives_a_change_and_goes_with_the_endpoint() {
    let mut world = World::new(Balance::PeakEwma, pods(2));
    let first = world.build(None);
    let stats = world.stats("p0");
    stats.observe(MS(700), true, world.now);
    drop(stats);
    world.put(vec![pod("new")]);
    let second = world.build(Some(&first));
    drop(first);
    assert_eq!(world.registry.sweep(), 3);
    assert_eq!(world.stats("p0").latency(world.now), MS(700));
    world.index.apply(Change::RemoveAddress("p0".into()));
    let third = world.build(Some(&second));
    let open = second
        .pick(&Wish::default(), world.now, &mut First)
        .map(|it| it.begin(world.now));
    drop(second);
    let left = world.registry.sweep();
    assert!(left >= 2, "a request in flight keeps what it counts on");
    drop(open);
    assert_eq!(world.registry.sweep(), 2);
    assert_eq!(third.len(), 2);
}

proptest! {
    #[test]
    fn weighted_draws_are_fair(weights in prop::collection::vec(1u32..50, 1..8), seed: u64) {
        let draw = Draw::new(weights.iter().copied());
        let total: u32 = weights.iter().sum();
        let mut picker = Seeded::new(seed);
        let (mut drawn, mut turns) = (vec![0u32; weights.len()], vec![0u32; weights.len()]);
        for turn in 0..10_000 {
            drawn[draw.next(&mut picker)] += 1;
            turns[draw.in_turn(turn)] += 1;
        }
        for (at, weight) in weights.iter().enumerate() {
            let expected = 10_000 * weight / total;
            prop_assert!(drawn[at].abs_diff(expected) < 350, "{at}: {} for {expected}", drawn[at]);
            prop_assert!(turns[at].abs_diff(expected) < 60, "{at}: {} for {expected}", turns[at]);
        }
    }
}
