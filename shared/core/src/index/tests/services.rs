//! Services by address, range and hostname, and their endpoints.

use std::sync::Arc;

use crate::addr::NetworkAddr;
use crate::fixtures::{index, ip, key, pod, service};
use crate::index::{Change, Index, Target};
use crate::model::{Destination, Health, Service, Workload};

fn at(index: &Index, addr: &str, client: &str) -> Option<String> {
    let addr = NetworkAddr::new("", ip(addr));
    index
        .service_at(&addr, client)
        .map(|service| service.key.to_string())
}

fn endpoints(index: &Index, service: &str) -> Vec<String> {
    let Some(endpoints) = index.endpoints(&key(service)) else {
        return Vec::new();
    };
    assert_eq!(endpoints.iter().count(), endpoints.len());
    for (position, endpoint) in endpoints.iter().enumerate() {
        let uid = &endpoint.workload().uid;
        assert_eq!(endpoints.get(position), Some(endpoint));
        assert_eq!(endpoints.by_uid(uid), Some(endpoint));
        let healthy = endpoint.workload().health == Health::Healthy;
        assert_eq!(healthy, position < endpoints.healthy_len());
    }
    let mut names: Vec<String> = endpoints
        .iter()
        .map(|endpoint| endpoint.workload().name.to_string())
        .collect();
    names.sort();
    names
}

fn web(name: &str, addr: &str) -> Workload {
    pod(name, &[addr]).serving("ns/web", &[(80, 8080)])
}

fn remove_pod(name: &str) -> Change {
    Change::RemoveAddress(format!("Kubernetes//Pod/ns/{name}").into())
}

fn remove_service(name: &str) -> Change {
    Change::RemoveAddress(name.into())
}

#[test]
fn arrival_order_does_not_matter() {
    let changes = || -> [Change; 3] {
        [
            service("ns/web", &["10.1.0.1", "10.2.0.0/16"]).into(),
            web("a", "10.0.0.1").into(),
            web("b", "10.2.0.1").into(),
        ]
    };
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let all = changes();
        let index = index(order.map(|at| all[at].clone()));
        assert_eq!(endpoints(&index, "ns/web"), ["a", "b"], "{order:?}");
        assert_eq!(at(&index, "10.1.0.1", "ns").as_deref(), Some("ns/web"));
        assert_eq!(at(&index, "10.2.9.9", "ns").as_deref(), Some("ns/web"));
    }
}

#[test]
fn endpoint_updates_and_removals_are_exact() {
    let mut index = index([
        service("ns/web", &["10.2.0.0/16"]).into(),
        web("a", "10.2.0.1").into(),
        web("b", "10.2.0.2").into(),
        web("c", "10.2.0.3").into(),
    ]);
    index.apply(remove_pod("a"));
    assert_eq!(endpoints(&index, "ns/web"), ["b", "c"]);

    let mut ill = web("b", "10.2.0.2");
    ill.health = Health::Unhealthy;
    index.apply(ill.into());
    assert_eq!(endpoints(&index, "ns/web"), ["b", "c"]);
    let all = index.endpoints(&key("ns/web")).expect("known");
    assert_eq!(all.healthy_len(), 1);

    index.apply(pod("c", &["10.2.0.3"]).into());
    assert_eq!(endpoints(&index, "ns/web"), ["b"], "c serves it no more");

    let mut moved = web("b", "10.2.0.2");
    moved.services[0].1[0].target_port = 9090;
    index.apply(moved.into());
    let all = index.endpoints(&key("ns/web")).expect("known");
    assert_eq!(all.get(0).expect("b").ports()[0].target_port, 9090);
    assert_eq!(all.healthy_len(), 1);

    index.apply(remove_pod("b"));
    assert_eq!(endpoints(&index, "ns/web"), [""; 0]);
}

#[test]
fn a_service_that_comes_back_has_its_endpoints() {
    let mut index = index([
        web("a", "10.0.0.1").into(),
        service("ns/web", &["10.1.0.1", "10.2.0.0/16"]).into(),
    ]);
    index.apply(remove_service("ns/web"));
    assert!(index.service(&key("ns/web")).is_none());
    assert_eq!(at(&index, "10.1.0.1", "ns"), None);
    assert_eq!(at(&index, "10.2.0.1", "ns"), None);
    assert!(index.service_by_hostname("web", "ns").is_none());

    index.apply(web("b", "10.0.0.2").into());
    index.apply(remove_pod("a"));
    index.apply(service("ns/web", &["10.1.0.9"]).into());
    assert_eq!(endpoints(&index, "ns/web"), ["b"]);
    assert_eq!(at(&index, "10.1.0.9", "ns").as_deref(), Some("ns/web"));
    assert_eq!(at(&index, "10.1.0.1", "ns"), None);
}

#[test]
fn the_longest_prefix_wins() {
    let mut index = index([
        service("ns/all", &["10.0.0.0/8"]).into(),
        service("ns/some", &["10.2.0.0/16"]).into(),
        service("ns/one", &["10.2.0.1"]).into(),
        service("ns/six", &["fd00::/16"]).into(),
    ]);
    let cases = [
        ("10.2.0.1", Some("ns/one")),
        ("10.2.0.2", Some("ns/some")),
        ("10.3.0.1", Some("ns/all")),
        ("11.0.0.1", None),
        ("fd00::1", Some("ns/six")),
        ("fd01::1", None),
        ("::ffff:10.3.0.1", Some("ns/all")),
    ];
    for (addr, expected) in cases {
        assert_eq!(at(&index, addr, "ns").as_deref(), expected, "{addr}");
    }
    index.apply(service("ns/some", &["10.3.0.0/16"]).into());
    assert_eq!(at(&index, "10.2.0.2", "ns").as_deref(), Some("ns/all"));
    assert_eq!(at(&index, "10.3.0.1", "ns").as_deref(), Some("ns/some"));
    index.apply(remove_service("ns/all"));
    assert_eq!(at(&index, "10.2.0.2", "ns"), None);
}

#[test]
fn updates_reach_every_way_in() {
    let mut index = index([service("ns/web", &["10.1.0.1", "10.2.0.0/16"]).into()]);
    let mut changed = service("ns/web", &["10.1.0.1", "10.2.0.0/16", "10.2.0.0/16"]);
    changed.canonical = true;
    let changed = Arc::new(changed);
    index.apply(Change::Service(changed.clone()));
    let addr = |text| NetworkAddr::new("", ip(text));
    assert_eq!(index.service(&changed.key), Some(&changed));
    assert_eq!(index.service_at(&addr("10.1.0.1"), "ns"), Some(&changed));
    assert_eq!(index.service_at(&addr("10.2.0.1"), "ns"), Some(&changed));
    assert_eq!(index.service_by_hostname("web", "ns"), Some(&changed));
    index.apply(remove_service("ns/web"));
    assert_eq!(index.service_at(&addr("10.2.0.1"), "ns"), None);
    assert_eq!(index.services().count(), 0);
}

#[test]
fn preference_among_services_that_share_a_name_or_address() {
    fn same(namespace: &str, change: impl FnOnce(&mut Service)) -> Change {
        let mut service = service(&format!("{namespace}/db.example"), &["10.1.0.1"]);
        change(&mut service);
        service.into()
    }
    let plain = |_: &mut Service| {};
    let canonical = |service: &mut Service| service.canonical = true;
    let private = |service: &mut Service| service.namespace_private = true;
    let cases = [
        (
            "own namespace",
            vec![same("b", canonical), same("c", plain)],
            "c",
            Some("c/db.example"),
        ),
        (
            "canonical",
            vec![same("a", plain), same("b", canonical)],
            "c",
            Some("b/db.example"),
        ),
        (
            "first by name, whatever the order",
            vec![same("b", plain), same("a", plain), same("c", plain)],
            "x",
            Some("a/db.example"),
        ),
        ("private to others", vec![same("a", private)], "x", None),
        (
            "private to its own",
            vec![same("a", private), same("b", canonical)],
            "a",
            Some("a/db.example"),
        ),
        (
            "private is passed over",
            vec![same("a", private), same("b", plain)],
            "x",
            Some("b/db.example"),
        ),
    ];
    for (case, changes, client, expected) in cases {
        let index = index(changes);
        assert_eq!(
            at(&index, "10.1.0.1", client).as_deref(),
            expected,
            "{case}"
        );
        let by_name = index.service_by_hostname("db.example", client);
        let by_name = by_name.map(|service| service.key.to_string());
        assert_eq!(by_name.as_deref(), expected, "{case}");
    }
}

#[test]
fn a_private_service_does_not_hide_the_range_around_it() {
    let mut private = service("a/one", &["10.2.0.1"]);
    private.namespace_private = true;
    let index = index([private.into(), service("b/all", &["10.0.0.0/8"]).into()]);
    assert_eq!(at(&index, "10.2.0.1", "a").as_deref(), Some("a/one"));
    assert_eq!(at(&index, "10.2.0.1", "b").as_deref(), Some("b/all"));
}

#[test]
fn gateways_are_found_by_hostname_service_address_and_pod_address() {
    let index = index([
        service("ns/gw", &["10.1.0.1"]).into(),
        pod("gw", &["10.0.0.1"]).into(),
    ]);
    let found = |destination: Destination| match index.destination(&destination) {
        Some(Target::Service(service)) => service.key.to_string(),
        Some(Target::Workload(workload)) => workload.uid.to_string(),
        None => "none".to_owned(),
    };
    let address = |text| Destination::Address(NetworkAddr::new("", ip(text)));
    assert_eq!(found(Destination::Hostname(key("ns/gw"))), "ns/gw");
    assert_eq!(found(address("10.1.0.1")), "ns/gw");
    assert_eq!(found(address("10.0.0.1")), "Kubernetes//Pod/ns/gw");
    assert_eq!(found(address("10.9.9.9")), "none");
    assert_eq!(found(Destination::Hostname(key("ns/x"))), "none");
}

#[test]
fn the_version_of_endpoints_tells_every_state_from_every_other() {
    let mut index = index([service("ns/web", &[]).into(), web("a", "10.0.0.1").into()]);
    let version = |index: &Index| {
        let endpoints = index.endpoints(&key("ns/web"));
        endpoints.map(|endpoints| endpoints.version())
    };
    let mut seen = vec![version(&index)];
    let mut unready = web("a", "10.0.0.1");
    unready.health = Health::Unhealthy;
    let changes = [
        unready.into(),
        web("b", "10.0.0.2").into(),
        Change::RemoveAddress(pod("b", &[]).uid),
        web("b", "10.0.0.2").into(),
        Change::RemoveAddress(pod("a", &[]).uid),
    ];
    for change in changes {
        index.apply(change);
        let now = version(&index);
        assert!(!seen.contains(&now), "{seen:?} {now:?}");
        seen.push(now);
    }
    let last = version(&index);
    index.apply(web("b", "10.0.0.2").into());
    index.apply(
        pod("x", &["10.0.0.9"])
            .serving("ns/other", &[(80, 8080)])
            .into(),
    );
    index.apply(service("ns/web", &["10.1.0.1"]).into());
    assert_eq!(
        version(&index),
        last,
        "nothing of it was about its endpoints"
    );
}
