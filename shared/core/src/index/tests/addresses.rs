//! Workloads by uid and address.

use crate::addr::NetworkAddr;
use crate::fixtures::{index, ip, pod};
use crate::index::{Change, Index};
use crate::model::NetworkMode;

fn at(index: &Index, addr: &str) -> Option<String> {
    let addr = NetworkAddr::new("", ip(addr));
    index.workload_at(&addr).map(|w| w.name.to_string())
}

fn is_of_a_node(index: &Index, addr: &str) -> bool {
    index.is_of_a_node(&NetworkAddr::new("", ip(addr)))
}

fn remove(name: &str) -> Change {
    Change::RemoveAddress(format!("Kubernetes//Pod/ns/{name}").into())
}

#[test]
fn a_workload_is_found_by_each_of_its_addresses() {
    let mut index = index([pod("a", &["10.0.0.1", "fd00::1"]).into()]);
    assert_eq!(at(&index, "10.0.0.1").as_deref(), Some("a"));
    assert_eq!(at(&index, "fd00::1").as_deref(), Some("a"));
    assert_eq!(at(&index, "::ffff:10.0.0.1").as_deref(), Some("a"));
    assert_eq!(at(&index, "10.0.0.2"), None);
    assert!(index.workload("Kubernetes//Pod/ns/a").is_some());

    index.apply(pod("a", &["10.0.0.2"]).into());
    assert_eq!(at(&index, "10.0.0.1"), None, "the old address is released");
    assert_eq!(at(&index, "10.0.0.2").as_deref(), Some("a"));

    index.apply(remove("a"));
    assert_eq!(at(&index, "10.0.0.2"), None);
    assert!(index.workload("Kubernetes//Pod/ns/a").is_none());
    index.apply(remove("a"));
}

#[test]
fn the_same_address_on_another_network_is_another_address() {
    let mut remote = pod("a", &["10.0.0.1"]);
    remote.network = "net2".into();
    let index = index([remote.into()]);
    assert_eq!(at(&index, "10.0.0.1"), None);
    let addr = NetworkAddr::new("net2", ip("10.0.0.1"));
    assert!(index.workload_at(&addr).is_some());
}

/// One address, two pods, every order in which their messages can arrive.
#[test]
fn an_address_moves_while_the_removal_is_late() {
    let old = || Change::from(pod("old", &["10.0.0.1"]));
    let new = || Change::from(pod("new", &["10.0.0.1"]));
    let relabelled = || {
        let mut pod = pod("old", &["10.0.0.1"]);
        pod.canonical_name = "renamed".into();
        Change::from(pod)
    };
    let entry = || {
        let mut entry = pod("entry", &["10.0.0.1"]);
        entry.node = "".into();
        Change::from(entry)
    };
    let cases = [
        ("in order", vec![old(), remove("old"), new()], Some("new")),
        ("an entry after a pod", vec![old(), entry()], Some("old")),
        ("an entry before a pod", vec![entry(), old()], Some("old")),
        ("an entry alone", vec![entry()], Some("entry")),
        (
            "late removal",
            vec![old(), new(), remove("old")],
            Some("new"),
        ),
        ("both there", vec![old(), new()], Some("new")),
        (
            "an update of the old takes nothing back",
            vec![old(), new(), relabelled()],
            Some("new"),
        ),
        (
            "the new one goes first",
            vec![old(), new(), remove("new")],
            Some("old"),
        ),
        (
            "both go",
            vec![old(), new(), remove("new"), remove("old")],
            None,
        ),
    ];
    for (case, changes, expected) in cases {
        let index = index(changes);
        assert_eq!(at(&index, "10.0.0.1").as_deref(), expected, "{case}");
    }
}

#[test]
fn host_network_pods_do_not_claim_the_nodes_address() {
    let mut host = pod("host", &["192.168.0.1"]);
    host.network_mode = NetworkMode::HostNetwork;
    let mut index = index([host.clone().into()]);
    assert_eq!(at(&index, "192.168.0.1"), None);
    assert!(is_of_a_node(&index, "192.168.0.1"));
    assert!(index.workload(&host.uid).is_some());

    host.network_mode = NetworkMode::Standard;
    index.apply(host.clone().into());
    assert_eq!(at(&index, "192.168.0.1").as_deref(), Some("host"));
    assert!(!is_of_a_node(&index, "192.168.0.1"));
    host.network_mode = NetworkMode::HostNetwork;
    index.apply(host.into());
    assert_eq!(at(&index, "192.168.0.1"), None);
    assert!(is_of_a_node(&index, "192.168.0.1"));
}

#[test]
fn a_node_is_known_by_the_pods_that_share_its_address() {
    let on_node = |name: &str, addresses: &[&str]| {
        let mut pod = pod(name, addresses);
        pod.network_mode = NetworkMode::HostNetwork;
        Change::from(pod)
    };
    let mut index = index([
        on_node("a", &["192.168.0.1", "fd02::1"]),
        on_node("b", &["192.168.0.1"]),
    ]);
    index.apply(remove("b"));
    assert!(is_of_a_node(&index, "192.168.0.1"), "the other is there");
    index.apply(on_node("a", &["192.168.0.2"]));
    for (address, known) in [
        ("192.168.0.1", false),
        ("fd02::1", false),
        ("192.168.0.2", true),
    ] {
        assert_eq!(is_of_a_node(&index, address), known, "{address}");
    }
    index.apply(remove("a"));
    assert!(!is_of_a_node(&index, "192.168.0.2"));
    assert!(index.holds_nothing());
}

#[test]
fn a_clone_is_a_snapshot() {
    let before = index([pod("a", &["10.0.0.1"]).into()]);
    let mut after = before.clone();
    after.apply(remove("a"));
    after.apply(pod("b", &["10.0.0.1"]).into());
    assert_eq!(at(&before, "10.0.0.1").as_deref(), Some("a"));
    assert_eq!(at(&after, "10.0.0.1").as_deref(), Some("b"));
}

#[test]
fn live_connections_are_judged_again_when_references_change() {
    let mut index = index([pod("a", &["10.0.0.1"]).into()]);
    let mut epoch = index.authorization_epoch();
    let mut moved = |index: &Index| {
        let before = std::mem::replace(&mut epoch, index.authorization_epoch());
        index.authorization_epoch() != before
    };
    index.apply(pod("a", &["10.0.0.1"]).into());
    assert!(!moved(&index), "nothing changed");
    let mut labelled = pod("a", &["10.0.0.1"]);
    labelled.authorization_policies = vec![crate::fixtures::key("ns/p")];
    index.apply(labelled.into());
    assert!(moved(&index), "its policies changed");
    let mut labelled = pod("a", &["10.0.0.1"]);
    labelled.authorization_policies = vec![crate::fixtures::key("ns/p")];
    index.apply(remove("a"));
    index.apply(labelled.into());
    assert!(moved(&index), "it came back with a policy");
    index.apply(pod("b", &["10.0.0.2"]).into());
    assert!(!moved(&index), "a new pod changes nothing for others");
    let mut bound = crate::fixtures::service("ns/bound", &["10.1.0.1"]);
    bound.waypoint = Some(crate::fixtures::by_hostname("ns/gw"));
    bound.takes_direct = true;
    index.apply(bound.clone().into());
    assert!(moved(&index), "a bound service came");
    bound.takes_direct = false;
    index.apply(bound.clone().into());
    assert!(moved(&index), "it takes no direct calls any more");
    bound.waypoint_bypass = true;
    index.apply(bound.clone().into());
    assert!(moved(&index), "it takes them again");
    bound.canonical = !bound.canonical;
    index.apply(bound.into());
    assert!(!moved(&index), "who takes calls is the same");
    index.apply(Change::RemovePolicy(crate::fixtures::key("ns/never")));
    assert!(!moved(&index), "an unknown policy was removed");
    index.apply(Change::undecodable_policy(
        crate::fixtures::key("ns/p"),
        "garbage",
    ));
    assert!(moved(&index), "a policy arrived");
}
