//! Clients that stay.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{endpoint, endpoints, located, with};
use crate::balance::keep;
use crate::fixtures::pod;
use crate::index::{Change, Index};
use crate::model::service::{Mode, Scope};
use crate::model::{Health, LoadBalancing, Workload};

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

/// The endpoint of each of so many clients.
fn homes(index: &Index, how: &LoadBalancing, from: &Workload, clients: u32) -> Vec<String> {
    let home = |number| {
        let kept = keep(endpoints(index), how, from, client(number), |_| Some(()));
        kept.map_or_else(String::new, |(it, ())| it.workload().name.to_string())
    };
    (0..clients).map(home).collect()
}

fn shares(homes: &[String]) -> BTreeMap<&str, u32> {
    let mut shares = BTreeMap::new();
    for home in homes {
        *shares.entry(&**home).or_default() += 1;
    }
    shares
}

#[test]
fn clients_have_shares_that_follow_capacity() {
    let sized = |name, capacity| endpoint(name, |w| w.capacity = capacity);
    for (case, sizes) in [
        ("equals", [("a", 1), ("b", 1), ("c", 1)]),
        ("none counts as one", [("a", 0), ("b", 1), ("c", 2)]),
        ("unequal", [("a", 1), ("b", 2), ("c", 5)]),
    ] {
        let index = with(
            sizes
                .iter()
                .map(|(name, size)| sized(name, *size))
                .collect(),
        );
        let homes = homes(&index, &LoadBalancing::default(), &pod("x", &[]), 40_000);
        let shares = shares(&homes);
        let total: u32 = sizes.iter().map(|(_, size)| size.max(&1)).sum();
        for (name, size) in sizes {
            let expected = 40_000 * size.max(1) / total;
            let share = shares[name];
            assert!(share.abs_diff(expected) < 600, "{case}: {name}: {share}");
        }
    }
}

#[test]
fn who_may_have_a_client() {
    let at = |name, zone| endpoint(name, |w| w.locality = located("r1", zone));
    let mut ill = at("ill", "z1");
    ill.health = Health::Unhealthy;
    let index = with(vec![at("a", "z1"), at("b", "z1"), at("far", "z2"), ill]);
    let zones = vec![Scope::Region, Scope::Zone];
    let how = |mode, allow_unhealthy| LoadBalancing {
        preference: zones.clone(),
        mode,
        allow_unhealthy,
        client_affinity: true,
    };
    use Mode::{Failover, Strict, Unspecified};
    for (case, how, zone, expected) in [
        (
            "any that is ready",
            how(Unspecified, false),
            "z1",
            vec!["a", "b", "far"],
        ),
        (
            "ready or not",
            how(Unspecified, true),
            "z1",
            vec!["a", "b", "far", "ill"],
        ),
        ("the nearest", how(Failover, false), "z1", vec!["a", "b"]),
        (
            "farther when there is none",
            how(Failover, false),
            "z3",
            vec!["a", "b", "far"],
        ),
        ("none but the near", how(Strict, false), "z2", vec!["far"]),
        ("none at all", how(Strict, false), "z3", vec![""]),
    ] {
        let mut from = pod("x", &[]);
        from.locality = located("r1", zone);
        let homes = homes(&index, &how, &from, 200);
        assert_eq!(
            shares(&homes).into_keys().collect::<Vec<_>>(),
            expected,
            "{case}"
        );
    }
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    let index = with(
        (0..50)
            .map(|n| endpoint(&format!("p{n}"), |_| {}))
            .collect(),
    );
    let home = |client: &str| {
        let client = client.parse().expect("an address");
        let how = LoadBalancing::default();
        let kept = keep(
            endpoints(&index),
            &how,
            &pod("x", &[]),
            client,
            |_| Some(()),
        );
        kept.map(|(it, ())| it.workload().name.clone())
    };
    assert_eq!(home("10.0.0.7"), home("::ffff:10.0.0.7"));
    assert_ne!(home("10.0.0.7"), home("10.0.0.8"), "of 50");
}

#[test]
fn few_are_asked_whether_they_are_able() {
    let index = with(
        (0..10_000)
            .map(|n| endpoint(&format!("p{n}"), |_| {}))
            .collect(),
    );
    let mut looks = 0;
    for number in 0..20 {
        let kept = keep(
            endpoints(&index),
            &LoadBalancing::default(),
            &pod("x", &[]),
            client(number),
            |_| {
                looks += 1;
                Some(())
            },
        );
        assert!(kept.is_some());
    }
    // The nth is better than all before it in one of n cases: ten of 10,000.
    assert!(looks < 20 * 20, "{looks}");
}

/// Capacities of endpoints, and which one of them comes or goes.
fn worlds() -> impl Strategy<Value = (Vec<u32>, prop::sample::Index)> {
    (
        prop::collection::vec(0u32..6, 2..12),
        any::<prop::sample::Index>(),
    )
}

proptest! {
    #[test]
    fn only_the_clients_of_who_goes_or_comes_move((sizes, which) in worlds()) {
        let named = |(n, size): (usize, &u32)| endpoint(&format!("p{n}"), |w| w.capacity = *size);
        let mut index = with(sizes.iter().enumerate().map(named).collect());
        let (how, from) = (LoadBalancing::default(), pod("x", &[]));
        let before = homes(&index, &how, &from, 300);
        let leaving = format!("p{}", which.index(sizes.len()));
        let uid = format!("Kubernetes//Pod/ns/{leaving}");

        let elsewhere: Vec<_> = (0..300).filter_map(|number| {
            let other = |it: &crate::index::Endpoint| (*it.workload().uid != *uid).then_some(());
            let kept = keep(endpoints(&index), &how, &from, client(number), other);
            kept.map(|(it, ())| it.workload().name.to_string())
        }).collect();
        index.apply(Change::RemoveAddress(uid.as_str().into()));
        let after = homes(&index, &how, &from, 300);
        for (before, after) in before.iter().zip(&after) {
            prop_assert_ne!(after, &leaving);
            prop_assert!(before == after || *before == leaving);
        }
        // To fail one after the other leads to where clients go when it is gone.
        prop_assert_eq!(&elsewhere, &after);

        let at = which.index(sizes.len());
        index.apply(named((at, &sizes[at])).into());
        prop_assert_eq!(homes(&index, &how, &from, 300), before, "and back");
    }
}
