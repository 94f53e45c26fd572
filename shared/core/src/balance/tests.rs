mod affinity;

use std::collections::BTreeMap;

use super::*;
use crate::fixtures::{index, key, pod};
use crate::index::{Endpoints, Index};
use crate::model::service::{Mode, Scope};
use crate::model::{Health, LoadBalancing, Locality, Workload};

fn endpoint(name: &str, change: impl FnOnce(&mut Workload)) -> Workload {
    let mut workload = pod(name, &["10.0.0.1"]).serving("ns/web", &[(80, 8080)]);
    change(&mut workload);
    workload
}

fn located(region: &str, zone: &str) -> Locality {
    Locality {
        region: region.into(),
        zone: zone.into(),
        subzone: "".into(),
    }
}

fn with(workloads: Vec<Workload>) -> Index {
    index(workloads.into_iter().map(Into::into))
}

fn endpoints(index: &Index) -> &Endpoints {
    index.endpoints(&key("ns/web")).expect("has endpoints")
}

/// How often each endpoint is chosen in `draws` draws.
fn shares(
    index: &Index,
    how: &LoadBalancing,
    from: &Workload,
    draws: u32,
) -> BTreeMap<String, u32> {
    let mut picker = Seeded::new(7);
    let mut shares = BTreeMap::new();
    for _ in 0..draws {
        let picked = pick(endpoints(index), how, from, &mut picker, |_| Some(()));
        if let Some((endpoint, ())) = picked {
            *shares
                .entry(endpoint.workload().name.to_string())
                .or_default() += 1;
        }
    }
    shares
}

fn chosen(index: &Index, how: &LoadBalancing, from: &Workload) -> Vec<String> {
    shares(index, how, from, 400).into_keys().collect()
}

#[test]
fn equal_endpoints_have_equal_shares() {
    let plain = |name| endpoint(name, |_| {});
    let index = with(vec![plain("a"), plain("b"), plain("c"), plain("d")]);
    let shares = shares(&index, &LoadBalancing::default(), &pod("x", &[]), 40_000);
    assert_eq!(shares.len(), 4);
    for (name, share) in shares {
        assert!((9_500..10_500).contains(&share), "{name}: {share}");
    }
}

#[test]
fn shares_follow_capacity() {
    let sized = |name, capacity| endpoint(name, |w| w.capacity = capacity);
    let index = with(vec![sized("a", 1), sized("b", 2), sized("c", 5)]);
    let shares = shares(&index, &LoadBalancing::default(), &pod("x", &[]), 80_000);
    for (name, expected) in [("a", 10_000), ("b", 20_000), ("c", 50_000)] {
        let share = shares[name];
        assert!(share.abs_diff(expected) < 800, "{name}: {share}");
    }
}

#[test]
fn the_common_case_is_one_draw_and_one_look() {
    let workloads = (0..5_000).map(|n| endpoint(&format!("p{n}"), |_| {}));
    let index = with(workloads.collect());
    let mut draws = 0;
    let mut looks = 0;
    let mut picker = |bound: u32| {
        draws += 1;
        bound - 1
    };
    let how = LoadBalancing::default();
    let picked = pick(endpoints(&index), &how, &pod("x", &[]), &mut picker, |_| {
        looks += 1;
        Some(())
    });
    assert!(picked.is_some());
    assert_eq!((draws, looks), (1, 1));
}

#[test]
fn the_nearest_of_many_are_found_without_a_look_at_all_and_share_alike() {
    let zones = ["z1", "z2", "z3"];
    let workloads = (0..3_000).map(|n| {
        endpoint(&format!("p{n}"), |w| {
            w.locality = located("r1", zones[n % 3])
        })
    });
    let index = with(workloads.collect());
    let how = LoadBalancing {
        preference: vec![Scope::Region, Scope::Zone],
        mode: Mode::Failover,
        allow_unhealthy: false,
        client_affinity: false,
    };
    let mut from = pod("x", &[]);
    from.locality = located("r1", "z2");
    let (mut picker, mut looks, mut early) = (Seeded::new(5), 0, 0);
    for _ in 0..1_000 {
        let picked = pick(endpoints(&index), &how, &from, &mut picker, |_| {
            looks += 1;
            Some(())
        });
        let (endpoint, ()) = picked.expect("a thousand are near");
        assert_eq!(&*endpoint.workload().locality.zone, "z2");
        let number: u32 = endpoint.workload().name[1..].parse().expect("a number");
        early += u32::from(number < 1_500);
    }
    assert!(looks < 100_000, "{looks} looks for 1,000 choices");
    assert!(
        early.abs_diff(500) < 60,
        "{early} of 1,000 in the first half"
    );
}

#[test]
fn an_endpoint_that_is_able_is_always_found_and_shares_stay_fair() {
    let workloads = (0..200).map(|n| endpoint(&format!("p{n}"), |_| {}));
    let index = with(workloads.collect());
    let how = LoadBalancing::default();
    let from = pod("x", &[]);
    let mut picker = Seeded::new(1);
    let mut counts = [0u32; 2];
    for _ in 0..4_000 {
        let picked = pick(endpoints(&index), &how, &from, &mut picker, |endpoint| {
            ["p17", "p171"]
                .iter()
                .position(|name| **name == *endpoint.workload().name)
        });
        counts[picked.expect("two are able").1] += 1;
    }
    assert!(counts[0].abs_diff(counts[1]) < 300, "{counts:?}");
    let none = pick(endpoints(&index), &how, &from, &mut picker, |_| None::<()>);
    assert!(none.is_none());
}

#[test]
fn unhealthy_endpoints_only_when_wanted() {
    let ill = |name| endpoint(name, |w| w.health = Health::Unhealthy);
    let index = with(vec![endpoint("well", |_| {}), ill("ill"), ill("worse")]);
    let from = pod("x", &[]);
    let mut how = LoadBalancing::default();
    assert_eq!(chosen(&index, &how, &from), ["well"]);
    how.allow_unhealthy = true;
    assert_eq!(chosen(&index, &how, &from), ["ill", "well", "worse"]);
    let index = with(vec![ill("ill")]);
    how.allow_unhealthy = false;
    assert_eq!(chosen(&index, &how, &from), [""; 0]);
}

#[test]
fn locality() {
    let at = |name, region, zone, node: &str| {
        endpoint(name, |w| {
            w.locality = located(region, zone);
            w.node = node.into();
        })
    };
    let mut ill = at("ill", "r1", "z1", "n1");
    ill.health = Health::Unhealthy;
    let index = with(vec![
        at("here", "r1", "z1", "n1"),
        at("zone", "r1", "z1", "n2"),
        at("region", "r1", "z2", "n3"),
        at("same-zone-name", "r2", "z1", "n4"),
        ill,
    ]);
    let in_zone = |region, zone| {
        let mut from = pod("x", &[]);
        from.locality = located(region, zone);
        from.node = "n1".into();
        from
    };
    let all = ["here", "region", "same-zone-name", "zone"];
    use Mode::{Failover, Strict, Unspecified};
    use Scope::{Cluster, Node, Region, Zone};
    let cases = [
        (
            "no mode",
            Unspecified,
            vec![Region, Zone],
            ("r1", "z1"),
            all.to_vec(),
        ),
        ("no preference", Strict, vec![], ("r1", "z1"), all.to_vec()),
        (
            "strict",
            Strict,
            vec![Region, Zone],
            ("r1", "z1"),
            vec!["here", "zone"],
        ),
        (
            "strict, elsewhere",
            Strict,
            vec![Region, Zone],
            ("r3", "z1"),
            vec![],
        ),
        (
            "failover",
            Failover,
            vec![Region, Zone],
            ("r1", "z1"),
            vec!["here", "zone"],
        ),
        (
            "failover to the region",
            Failover,
            vec![Region, Zone],
            ("r1", "z9"),
            vec!["here", "region", "zone"],
        ),
        (
            "failover to any",
            Failover,
            vec![Region, Zone],
            ("r3", "z1"),
            all.to_vec(),
        ),
        (
            "a zone is of its region",
            Failover,
            vec![Zone],
            ("r2", "z1"),
            vec!["same-zone-name"],
        ),
        ("node", Strict, vec![Node], ("r1", "z1"), vec!["here"]),
        ("cluster", Strict, vec![Cluster], ("r9", "z9"), all.to_vec()),
        (
            "only leading scopes count",
            Failover,
            vec![Region, Zone, Node],
            ("r3", "z3"),
            all.to_vec(),
        ),
    ];
    for (case, mode, preference, (region, zone), expected) in cases {
        let how = LoadBalancing {
            preference,
            mode,
            allow_unhealthy: false,
            client_affinity: false,
        };
        assert_eq!(
            chosen(&index, &how, &in_zone(region, zone)),
            expected,
            "{case}"
        );
    }
}

#[test]
fn failover_passes_over_what_is_near_but_not_able() {
    let at = |name, zone| endpoint(name, |w| w.locality = located("r1", zone));
    let index = with(vec![at("near", "z1"), at("far", "z2")]);
    let mut from = pod("x", &[]);
    from.locality = located("r1", "z1");
    let how = LoadBalancing {
        preference: vec![Scope::Region, Scope::Zone],
        mode: Mode::Failover,
        allow_unhealthy: false,
        client_affinity: false,
    };
    let picked = pick(endpoints(&index), &how, &from, &mut First, |endpoint| {
        (&*endpoint.workload().name != "near").then_some(())
    });
    assert_eq!(picked.map(|(e, ())| &*e.workload().name), Some("far"));
}

#[test]
fn draws_stay_below_their_bound() {
    let mut picker = Seeded::new(3);
    for bound in [1, 2, 3, 1000, u32::MAX] {
        for _ in 0..1_000 {
            assert!(picker.next(bound) < bound);
        }
    }
}

#[test]
fn of_two_the_less_busy_one_for_its_capacity() {
    let at = |name, zone, capacity| {
        endpoint(name, |w| {
            w.locality = located("r1", zone);
            w.capacity = capacity;
        })
    };
    let index = with(vec![
        at("a", "z1", 1),
        at("b", "z1", 1),
        at("big", "z1", 4),
        at("far", "z2", 1),
    ]);
    let mut from = pod("x", &[]);
    from.locality = located("r1", "z1");
    let nearby = LoadBalancing {
        preference: vec![Scope::Region, Scope::Zone],
        mode: Mode::Failover,
        allow_unhealthy: false,
        client_affinity: false,
    };
    for (case, how, loads, expected) in [
        (
            "idle ones share",
            &nearby,
            [0, 0, 0, 0],
            vec!["a", "b", "big"],
        ),
        (
            "the busiest is left out",
            &nearby,
            [9, 1, 4, 0],
            vec!["b", "big"],
        ),
        (
            "capacity counts",
            &nearby,
            [2, 2, 7, 0],
            vec!["a", "b", "big"],
        ),
        (
            "and is not unlimited",
            &nearby,
            [2, 2, 9, 0],
            vec!["a", "b"],
        ),
        (
            "nearness comes first",
            &nearby,
            [9, 9, 99, 0],
            vec!["a", "b"],
        ),
        (
            "without a preference all count",
            &LoadBalancing::default(),
            [9, 9, 99, 0],
            vec!["a", "b", "far"],
        ),
    ] {
        let load = |endpoint: &crate::index::Endpoint, _: &()| {
            let names = ["a", "b", "big", "far"];
            let at = names
                .iter()
                .position(|name| **name == *endpoint.workload().name);
            loads[at.expect("one of them")]
        };
        let mut picker = Seeded::new(5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let picked = pick_less_busy(
                endpoints(&index),
                how,
                &from,
                &mut picker,
                |_| Some(()),
                load,
            );
            seen.extend(picked.map(|(endpoint, ())| endpoint.workload().name.to_string()));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected, "{case}");
    }
}

#[test]
fn one_endpoint_is_picked_however_busy() {
    let index = with(vec![endpoint("only", |_| {})]);
    let how = LoadBalancing::default();
    let picked = pick_less_busy(
        endpoints(&index),
        &how,
        &pod("x", &[]),
        &mut First,
        |_| Some(()),
        |_, ()| 9,
    );
    assert_eq!(picked.map(|(e, ())| &*e.workload().name), Some("only"));
    let none = pick_less_busy(
        endpoints(&index),
        &how,
        &pod("x", &[]),
        &mut First,
        |_| None::<()>,
        |_, ()| 0,
    );
    assert!(none.is_none());
}
