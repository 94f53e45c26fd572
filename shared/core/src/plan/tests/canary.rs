//! Several waypoints of a service: who takes a new connection, and from whom calls are taken.

use std::collections::BTreeMap;

use super::outbound::{client, outbound, plan, shown};
use crate::balance::{First, Seeded};
use crate::fixtures::{by_hostname, identity, index, key, pod, ports, service, sock};
use crate::index::{Change, Index};
use crate::model::{Health, Service, WeightedWaypoint, Workload};
use crate::plan::{GatewayTunnel, Inbound, plan_inbound, plan_outbound, plan_tunnel};

const GW: &str = "10.0.0.100";
const CANARY: &str = "10.0.0.101";

fn waypoint(name: &str, vip: &str) -> Service {
    let mut waypoint = service(&format!("ns/{name}"), &[vip]);
    waypoint.ports = ports(&[(15008, 15008)]);
    waypoint
}

fn instance(name: &str, ip: &str) -> Workload {
    let mut instance = pod(name, &[ip]).serving(&format!("ns/{name}"), &[(15008, 15008)]);
    instance.native_tunnel = true;
    instance
}

/// A service bound to `gw` whose new connections are shared out like this.
fn shared(weights: &[(&str, u32)]) -> Service {
    let mut shared = service("ns/web", &["10.1.0.1"]);
    shared.waypoint = Some(by_hostname("ns/gw"));
    let weighted = weights.iter().map(|(name, weight)| WeightedWaypoint {
        waypoint: by_hostname(&format!("ns/{name}")),
        weight: *weight,
    });
    shared.weighted_waypoints = weighted.collect();
    shared
}

/// `web` is served by `a` on 8080, which has another port; `gw` and `canary` have an instance each.
fn mesh(weights: &[(&str, u32)]) -> Index {
    let changes: Vec<Change> = vec![
        waypoint("gw", "10.1.0.100").into(),
        waypoint("canary", "10.1.0.101").into(),
        waypoint("other", "10.1.0.102").into(),
        instance("gw", GW).into(),
        instance("canary", CANARY).into(),
        instance("other", "10.0.0.102").into(),
        shared(weights).into(),
        pod("a", &["10.0.0.1"])
            .serving("ns/web", &[(80, 8080)])
            .into(),
    ];
    index(changes)
}

/// How many of 10,000 new connections each waypoint gets; `-` are those that are refused.
fn shares(index: &Index, destination: &str) -> BTreeMap<String, u32> {
    let client = client();
    let mut picker = Seeded::new(11);
    let mut shares = BTreeMap::new();
    for _ in 0..10_000 {
        let plan = plan_outbound(index, &outbound(&client, destination), &mut picker);
        let to = plan.map_or_else(
            |_| "-".to_owned(),
            |plan| plan.workload.expect("known").name.to_string(),
        );
        *shares.entry(to).or_default() += 1;
    }
    shares
}

#[test]
fn new_connections_are_shared_out_by_weight() {
    type Weights = &'static [(&'static str, u32)];
    let cases: [(&str, Weights, Weights); 7] = [
        ("nothing shared", &[], &[("gw", 10_000)]),
        (
            "the canary has nothing",
            &[("gw", 100), ("canary", 0)],
            &[("gw", 10_000)],
        ),
        (
            "the canary has all",
            &[("gw", 0), ("canary", 100)],
            &[("canary", 10_000)],
        ),
        (
            "nobody has anything",
            &[("gw", 0), ("canary", 0)],
            &[("gw", 10_000)],
        ),
        (
            "a share",
            &[("gw", 70), ("canary", 30)],
            &[("gw", 7_000), ("canary", 3_000)],
        ),
        (
            "three",
            &[("gw", 1), ("canary", 2), ("other", 5)],
            &[("gw", 1_250), ("canary", 2_500), ("other", 6_250)],
        ),
        (
            "more than fits a number",
            &[("gw", u32::MAX), ("canary", u32::MAX)],
            &[("gw", 10_000)],
        ),
    ];
    for (case, weights, expected) in cases {
        let found = shares(&mesh(weights), "10.1.0.1:80");
        assert_eq!(found.len(), expected.len(), "{case}: {found:?}");
        for (name, share) in expected {
            let found = found[*name];
            assert!(found.abs_diff(*share) < 200, "{case}: {name} {found}");
        }
    }
}

#[test]
fn what_is_called_by_address_goes_through_the_waypoint_itself() {
    let index = mesh(&[("gw", 0), ("canary", 100)]);
    let found = shares(&index, "10.0.0.1:8080");
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("gw".into(), 10_000)]
    );
}

#[test]
fn a_canary_that_cannot_take_its_share_leaves_it_to_the_waypoint() {
    let weights = [("gw", 0), ("canary", 100)];
    let mut ill = instance("canary", CANARY);
    ill.health = Health::Unhealthy;
    let cases: [(&str, Change); 3] = [
        ("not ready", ill.into()),
        (
            "no pod",
            Change::RemoveAddress("Kubernetes//Pod/ns/canary".into()),
        ),
        ("no service", Change::RemoveAddress("ns/canary".into())),
    ];
    let through = format!("waypoint {GW}:15008 for 10.1.0.1:80 as gw [gw web]");
    for (case, change) in cases {
        let mut index = mesh(&weights);
        assert!(shown(&plan(&index, "10.1.0.1:80")).contains(CANARY));
        index.apply(change);
        assert_eq!(shown(&plan(&index, "10.1.0.1:80")), through, "{case}");
    }
    // An instance that was tried in vain is as good as none.
    let index = mesh(&weights);
    let tried = ["Kubernetes//Pod/ns/canary".into()];
    let client = client();
    let again = crate::plan::Outbound {
        exclude: &tried,
        ..outbound(&client, "10.1.0.1:80")
    };
    let planned = plan_outbound(&index, &again, &mut First);
    assert_eq!(shown(&planned), through);
}

/// A canary has its share and never more.
#[test]
fn a_waypoint_that_is_away_is_not_replaced_by_its_canary() {
    let mut index = mesh(&[("gw", 70), ("canary", 30)]);
    index.apply(Change::RemoveAddress("Kubernetes//Pod/ns/gw".into()));
    let found = shares(&index, "10.1.0.1:80");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found["-"].abs_diff(7_000) < 200, "{found:?}");
    let refused = shown(&plan(&index, "10.1.0.1:80"));
    assert!(
        refused.contains("service ns/web is bound to waypoint ns/gw"),
        "{refused}"
    );
}

/// Whether the node proxy of `a` takes a call of this waypoint, and whose word it believes.
fn called_by(index: &Index, peer: &str, address: &str, authority: &str) -> String {
    let local = index.workload("Kubernetes//Pod/ns/a").expect("known");
    let inbound = Inbound {
        local,
        peer: &identity("ns", peer),
        peer_addr: sock(&format!("{address}:40000")),
        socket_destination: sock("10.0.0.1:15008"),
        authority,
        forwarded_host: None,
        forwarded_for: None,
        caller: Some("spiffe://cluster.local/ns/ns/sa/client"),
        transport: crate::plan::Transport::Tcp,
    };
    match plan_inbound(index, &inbound) {
        Ok(plan) => plan.caller.map_or("itself".to_owned(), |caller| {
            caller.identity.service_account().to_string()
        }),
        Err(refusal) => refusal.status.to_string(),
    }
}

#[test]
fn calls_are_taken_from_every_waypoint_of_the_service_at_its_own_address() {
    for weights in [
        [("gw", 70), ("canary", 30)],
        [("gw", 100), ("canary", 0)],
        [("gw", 0), ("canary", 100)],
    ] {
        let index = mesh(&weights);
        for (case, peer, address, port, expected) in [
            ("the waypoint", "gw", GW, 8080, "client"),
            ("the canary", "canary", CANARY, 8080, "client"),
            ("the canary's account elsewhere", "canary", GW, 8080, "401"),
            ("another waypoint", "other", "10.0.0.102", 8080, "401"),
            ("nobody's", "client", "10.0.0.9", 8080, "401"),
            (
                "the canary, for a port that is not bound",
                "canary",
                CANARY,
                9090,
                "itself",
            ),
        ] {
            let authority = format!("10.0.0.1:{port}");
            let found = called_by(&index, peer, address, &authority);
            assert_eq!(found, expected, "{case}: {weights:?}");
        }
    }
    let alone = mesh(&[]);
    assert_eq!(called_by(&alone, "canary", CANARY, "10.0.0.1:8080"), "401");
}

#[test]
fn every_waypoint_of_the_service_serves_it_and_goes_on_directly() {
    let index = mesh(&[("gw", 100), ("canary", 0)]);
    for (name, instance_of, serves) in [
        ("gw", instance("gw", GW), true),
        ("canary", instance("canary", CANARY), true),
        ("other", instance("other", "10.0.0.102"), false),
    ] {
        for authority in ["10.1.0.1:80", "10.0.0.1:8080"] {
            let tunnel = GatewayTunnel {
                waypoint: &key(&format!("ns/{name}")),
                network: "",
                caller: &identity("ns", "client"),
                authority,
            };
            let planned = plan_tunnel(&index, &tunnel);
            assert_eq!(planned.is_ok(), serves, "{name}: {planned:?}");
            let on = plan_outbound(&index, &outbound(&instance_of, authority), &mut First);
            let direct = shown(&on).starts_with("hbone 10.0.0.1:15008 for 10.0.0.1:8080");
            assert_eq!(direct, serves, "{name} to {authority}: {}", shown(&on));
        }
    }
}

/// A waypoint's pod that is captured itself is asked for what it serves.
#[test]
fn a_captured_waypoint_answers_for_what_it_is_the_canary_of() {
    let index = mesh(&[("gw", 70), ("canary", 30)]);
    let asked = |name: &str| {
        let local = index
            .workload(&format!("Kubernetes//Pod/ns/{name}"))
            .expect("known");
        let inbound = Inbound {
            local,
            peer: &identity("ns", "client"),
            peer_addr: sock("10.0.0.9:40000"),
            socket_destination: std::net::SocketAddr::new(local.addresses[0], 15008),
            authority: "10.1.0.1:80",
            forwarded_host: None,
            forwarded_for: None,
            caller: None,
            transport: crate::plan::Transport::Tcp,
        };
        plan_inbound(&index, &inbound).is_ok()
    };
    assert!(asked("gw") && asked("canary"));
    assert!(!asked("other") && !asked("a"));
}

#[test]
fn live_connections_are_judged_again_when_the_waypoints_change_and_not_their_weights() {
    let mut index = mesh(&[("gw", 70), ("canary", 30)]);
    let mut epoch = index.authorization_epoch();
    for (case, weights, judged) in [
        ("weights", &[("gw", 10), ("canary", 90)][..], false),
        ("another canary", &[("gw", 10), ("other", 90)], true),
        ("no canary", &[], true),
        ("the waypoint alone, as before", &[("gw", 100)], false),
    ] {
        index.apply(shared(weights).into());
        assert_eq!(index.authorization_epoch() != epoch, judged, "{case}");
        epoch = index.authorization_epoch();
    }
}
