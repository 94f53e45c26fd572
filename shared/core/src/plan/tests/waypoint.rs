//! Bound means required, seen from both ends.

use super::outbound::{client, outbound, plan, shown};
use crate::addr::NetworkAddr;
use crate::balance::{First, Seeded};
use crate::fixtures::{by_hostname, identity, index, ip, pod, ports, service, sock};
use crate::identity::Identity;
use crate::index::{Change, Index};
use crate::model::{Destination, GatewayAddress, Health, Service, WeightedWaypoint, Workload};
use crate::plan::{Inbound, Outbound, Passthrough, plan_inbound, plan_outbound, plan_passthrough};
use crate::trust_domain::TrustDomains;

fn gateway_service() -> Service {
    let mut gateway = service("ns/gw", &["10.1.0.100"]);
    gateway.ports = ports(&[(15008, 15008)]);
    gateway
}

fn gateway_pod() -> Workload {
    let mut gateway = pod("gw", &["10.0.0.100"]).serving("ns/gw", &[(15008, 15008)]);
    gateway.native_tunnel = true;
    gateway
}

fn bound(name: &str, vip: &str) -> Service {
    let mut bound = service(name, &[vip]);
    bound.waypoint = Some(by_hostname("ns/gw"));
    bound
}

/// `bound` and `free` are served by `a` on 8080; `own` has a waypoint itself and serves `free`.
fn mesh() -> Vec<Change> {
    let mut own = pod("own", &["10.0.0.2"]).serving("ns/free2", &[(80, 8080)]);
    own.waypoint = Some(by_hostname("ns/gw"));
    vec![
        gateway_service().into(),
        gateway_pod().into(),
        bound("ns/bound", "10.1.0.1").into(),
        service("ns/free", &["10.1.0.2"]).into(),
        service("ns/free2", &["10.1.0.3"]).into(),
        pod("a", &["10.0.0.1"])
            .serving("ns/bound", &[(80, 8080)])
            .serving("ns/free", &[(80, 8080), (81, 8081)])
            .into(),
        own.into(),
    ]
}

#[test]
fn calls_go_through_the_waypoint() {
    let index = index(mesh());
    let through = "waypoint 10.0.0.100:15008 for";
    let cases = [
        (
            "a bound service keeps its address",
            "10.1.0.1:80",
            format!("{through} 10.1.0.1:80 as gw [gw bound]"),
        ),
        (
            "any port of it",
            "10.1.0.1:9999",
            format!("{through} 10.1.0.1:9999 as gw [gw bound]"),
        ),
        (
            "the pod's address on a port of the bound service",
            "10.0.0.1:8080",
            format!("{through} 10.0.0.1:8080 as gw [gw -]"),
        ),
        (
            "an unbound service of the same port",
            "10.1.0.2:80",
            format!("{through} 10.0.0.1:8080 as gw [gw free]"),
        ),
        (
            "another port of the pod",
            "10.0.0.1:9090",
            "hbone 10.0.0.1:15008 for 10.0.0.1:9090 as a [a -]".to_owned(),
        ),
        (
            "a bound workload by address",
            "10.0.0.2:1",
            format!("{through} 10.0.0.2:1 as gw [gw -]"),
        ),
        (
            "a bound workload by its unbound service",
            "10.1.0.3:80",
            "hbone 10.0.0.2:15008 for 10.0.0.2:8080 as own [own free2]".to_owned(),
        ),
    ];
    for (case, destination, expected) in cases {
        assert_eq!(shown(&plan(&index, destination)), expected, "{case}");
    }
}

#[test]
fn the_waypoint_itself_goes_on() {
    let index = index(mesh());
    let gateway = gateway_pod();
    let cases = [
        (
            "10.1.0.1:80",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a bound]",
        ),
        (
            "10.0.0.1:8080",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a -]",
        ),
        (
            "10.0.0.2:1",
            "hbone 10.0.0.2:15008 for 10.0.0.2:1 as own [own -]",
        ),
    ];
    for (destination, expected) in cases {
        let plan = plan_outbound(&index, &outbound(&gateway, destination), &mut First);
        assert_eq!(shown(&plan), expected, "{destination}");
    }
}

#[test]
fn a_waypoint_that_cannot_be_reached_is_not_gone_around() {
    let without = |name: &str| {
        let mut index = index(mesh());
        index.apply(Change::RemoveAddress(name.into()));
        index
    };
    let mut ill = gateway_pod();
    ill.health = Health::Unhealthy;
    let mut unready = index(mesh());
    unready.apply(ill.into());
    let mut far = gateway_pod();
    far.network = "net2".into();
    let mut remote = index(mesh());
    remote.apply(far.into());
    let cases = [
        (
            "no such service",
            without("ns/gw"),
            "it does not exist; create it or remove the binding",
        ),
        (
            "no pods",
            without("Kubernetes//Pod/ns/gw"),
            "service ns/gw has no endpoints; check its selector and that pods run",
        ),
        (
            "no ready pods",
            unready,
            "none of the 1 endpoints of service ns/gw is ready",
        ),
        (
            "another network",
            remote,
            "all 1 endpoints of service ns/gw are on other networks: \
             network \"net2\" is another one and has no gateway",
        ),
    ];
    for (case, index, why) in cases {
        for (what, destination) in [
            ("service ns/bound", "10.1.0.1:80"),
            ("workload ns/a", "10.0.0.1:8080"),
            ("port 8080 of ns/a", "10.1.0.2:80"),
        ] {
            assert_eq!(
                shown(&plan(&index, destination)),
                format!("503 CONNECT: {what} is bound to waypoint ns/gw: {why}"),
                "{case}"
            );
        }
    }
}

#[test]
fn a_waypoint_named_by_address() {
    let named = |addr: &str, port| {
        let mut bound = service("ns/bound", &["10.1.0.1"]);
        bound.waypoint = Some(GatewayAddress {
            destination: Destination::Address(NetworkAddr::new("", ip(addr))),
            hbone_port: port,
        });
        let index = index([gateway_service().into(), gateway_pod().into(), bound.into()]);
        shown(&plan(&index, "10.1.0.1:80"))
    };
    assert_eq!(
        named("10.1.0.100", 15008),
        "waypoint 10.0.0.100:15008 for 10.1.0.1:80 as gw [gw bound]"
    );
    assert_eq!(
        named("10.0.0.100", 15018),
        "waypoint 10.0.0.100:15018 for 10.1.0.1:80 as gw [gw bound]"
    );
    assert_eq!(
        named("10.9.9.9", 15008),
        "503 CONNECT: service ns/bound is bound to waypoint 10.9.9.9: it does not exist; \
         create it or remove the binding"
    );
}

#[test]
fn a_waypoint_is_not_behind_itself() {
    let mut gateway = gateway_service();
    gateway.waypoint = Some(by_hostname("ns/gw"));
    let index = index([gateway.into(), gateway_pod().into()]);
    assert_eq!(
        shown(&plan(&index, "10.1.0.100:15008")),
        "hbone 10.0.0.100:15008 for 10.0.0.100:15008 as gw [gw gw]"
    );
}

fn connect(index: &Index, local: &str, peer: &str, authority: &str) -> String {
    connect_from(index, local, (peer, address_of(peer)), authority)
}

fn address_of(peer: &str) -> &'static str {
    match peer {
        "gw" => "10.0.0.100:40000",
        "gw2" => "10.0.0.101:40000",
        _ => "10.0.0.9:40000",
    }
}

fn connect_from(
    index: &Index,
    local: &str,
    (peer, address): (&str, &str),
    authority: &str,
) -> String {
    let local = index
        .workload(&format!("Kubernetes//Pod/ns/{local}"))
        .expect("known");
    let inbound = Inbound {
        local,
        peer: &identity("ns", peer),
        peer_addr: sock(address),
        socket_destination: std::net::SocketAddr::new(local.addresses[0], 15008),
        authority,
        forwarded_host: None,
        forwarded_for: None,
        caller: None,
        transport: crate::plan::Transport::Tcp,
    };
    match plan_inbound(index, &inbound) {
        Ok(plan) => plan.dial.to_string(),
        Err(refusal) => format!("{} {}: {}", refusal.status, refusal.flag, refusal.reason),
    }
}

#[test]
fn what_went_around_the_waypoint_is_refused() {
    let index = index(mesh());
    let cases = [
        ("a", "gw", "10.0.0.1:8080", "10.0.0.1:8080"),
        (
            "a",
            "client",
            "10.0.0.1:8080",
            "401 DENY: port 8080 of ns/a is bound to waypoint ns/gw, and \
             spiffe://cluster.local/ns/ns/sa/client is not that waypoint",
        ),
        ("a", "client", "10.0.0.1:8081", "10.0.0.1:8081"),
        ("a", "client", "10.0.0.1:9090", "10.0.0.1:9090"),
        ("own", "client", "10.0.0.2:8080", "10.0.0.2:8080"),
        ("own", "gw", "10.0.0.2:1", "10.0.0.2:1"),
        (
            "own",
            "client",
            "10.0.0.2:1",
            "401 DENY: port 1 of ns/own is bound to waypoint ns/gw, and \
             spiffe://cluster.local/ns/ns/sa/client is not that waypoint",
        ),
        ("gw", "client", "10.0.0.100:80", "10.0.0.100:80"),
    ];
    for (local, peer, authority, expected) in cases {
        let found = connect(&index, local, peer, authority);
        assert_eq!(found, expected, "{peer} to {local} {authority}");
    }
    let mut gone = index.clone();
    gone.apply(Change::RemoveAddress("ns/gw".into()));
    let found = connect(&gone, "a", "gw", "10.0.0.1:8080");
    assert!(found.starts_with("401 DENY"), "{found}");
}

/// Another pod may run under the waypoint's service account.
#[test]
fn the_certificate_of_a_waypoint_counts_only_at_its_own_address() {
    let index = index(mesh());
    for (address, passes) in [
        ("10.0.0.100:40000", true),
        ("[::ffff:10.0.0.100]:40000", true),
        ("10.0.0.9:40000", false),
        ("10.9.9.9:40000", false),
    ] {
        let found = connect_from(&index, "a", ("gw", address), "10.0.0.1:8080");
        assert_eq!(found == "10.0.0.1:8080", passes, "{address}: {found}");
    }
}

#[test]
fn a_way_around_that_is_allowed_is_taken_only_where_the_waypoint_is_not() {
    let mut changes = mesh();
    let mut allowed = bound("ns/bound", "10.1.0.1");
    allowed.waypoint_bypass = true;
    changes.push(allowed.into());
    let mut index = index(changes);
    let through = "waypoint 10.0.0.100:15008 for 10.1.0.1:80 as gw [gw bound]";
    assert_eq!(shown(&plan(&index, "10.1.0.1:80")), through);
    let at_pod = shown(&plan(&index, "10.0.0.1:8080"));
    assert!(!at_pod.contains("waypoint"), "{at_pod}");
    assert_eq!(
        connect(&index, "a", "client", "10.0.0.1:8080"),
        "10.0.0.1:8080"
    );
    index.apply(Change::RemoveAddress("Kubernetes//Pod/ns/gw".into()));
    let without = shown(&plan(&index, "10.1.0.1:80"));
    assert!(
        !without.contains("503") && !without.contains("waypoint"),
        "{without}"
    );
    let mut required = bound("ns/bound", "10.1.0.1");
    required.waypoint_bypass = false;
    index.apply(required.into());
    assert!(shown(&plan(&index, "10.1.0.1:80")).contains("503"));
}

#[test]
fn a_service_on_its_way_is_sent_to_one_and_takes_calls_from_all() {
    let weighted = |weight| WeightedWaypoint {
        waypoint: bound("ns/bound", "10.1.0.1").waypoint.expect("bound"),
        weight,
    };
    let mut comes = bound("ns/bound", "10.1.0.1");
    comes.takes_direct = true;
    let mut leaves = bound("ns/bound", "10.1.0.1");
    leaves.takes_direct = true;
    leaves.waypoint = None;
    leaves.weighted_waypoints = vec![weighted(0)];
    for (service, is_sent_through) in [(comes, true), (leaves, false)] {
        let mut changes = mesh();
        changes.push(service.into());
        let mut index = index(changes);
        for dialled in ["10.1.0.1:80", "10.0.0.1:8080"] {
            let sent = shown(&plan(&index, dialled));
            let through = sent.contains("waypoint");
            assert_eq!(through, is_sent_through, "{dialled}: {sent}");
            assert!(!sent.contains("503"), "{dialled}: {sent}");
        }
        let direct = connect(&index, "a", "client", "10.0.0.1:8080");
        assert_eq!(direct, "10.0.0.1:8080");
        let address = ("gw", "10.0.0.100:40000");
        let from_waypoint = connect_from(&index, "a", address, "10.0.0.1:8080");
        assert_eq!(from_waypoint, "10.0.0.1:8080");
        // It is no way around a waypoint that is missing.
        index.apply(Change::RemoveAddress("Kubernetes//Pod/ns/gw".into()));
        let without = shown(&plan(&index, "10.1.0.1:80"));
        assert_eq!(without.contains("503"), is_sent_through, "{without}");
    }
}

#[test]
fn plaintext_cannot_come_through_a_waypoint() {
    let index = index(mesh());
    let local = index.workload("Kubernetes//Pod/ns/a").expect("known");
    let plan = |destination: &str| {
        let passthrough = Passthrough {
            local,
            peer_addr: sock("10.0.0.9:40000"),
            destination: sock(destination),
            transport: crate::plan::Transport::Tcp,
        };
        plan_passthrough(&index, &passthrough).map(|plan| plan.dial.to_string())
    };
    assert_eq!(plan("10.0.0.1:9090").as_deref(), Ok("10.0.0.1:9090"));
    let refusal = plan("10.0.0.1:8080").expect_err("bound");
    assert_eq!(refusal.status, 401);
    assert_eq!(
        refusal.reason,
        "port 8080 of ns/a is bound to waypoint ns/gw, and a caller without an identity \
         is not that waypoint"
    );
}

#[test]
fn what_the_client_sends_is_what_the_pod_takes() {
    let index = index(mesh());
    let client = client();
    let mut seen = 0;
    for destination in ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80", "10.0.0.1:8080"] {
        let outbound = outbound(&client, destination);
        let plan = plan_outbound(&index, &outbound, &mut First).expect("a plan");
        let crate::plan::OutboundKind::Hbone(tunnel) = plan.kind else {
            panic!("{destination}: not a tunnel");
        };
        if tunnel.hop == crate::plan::Hop::Workload {
            let local = plan.workload.expect("known");
            let taken = connect(&index, &local.name, "client", &tunnel.authority.to_string());
            assert_eq!(taken, tunnel.authority.to_string(), "{destination}");
            seen += 1;
        }
    }
    assert_eq!(seen, 1, "the others go through the waypoint");
}

/// What `peer` gets for a CONNECT to `authority` with a `caller` header, and whom it is said to speak for.
fn said(index: &Index, peer: &str, authority: &str, caller: Option<&str>) -> String {
    let target = sock(authority);
    let addr = NetworkAddr::new("", target.ip());
    let local = index.workload_at(&addr).expect("known");
    let inbound = Inbound {
        local,
        peer: &identity("ns", peer),
        peer_addr: sock(address_of(peer)),
        socket_destination: std::net::SocketAddr::new(target.ip(), 15008),
        authority,
        forwarded_host: None,
        forwarded_for: Some(sock("10.0.0.9:50000")),
        caller,
        transport: crate::plan::Transport::Tcp,
    };
    match plan_inbound(index, &inbound) {
        Ok(plan) => {
            let by = plan.caller_facts(inbound.peer_addr).map(|facts| {
                let who = facts.source.map(ToString::to_string).unwrap_or_default();
                format!("{who} at {}", facts.source_ip)
            });
            let source = plan.source.as_ref().map_or("-", |source| &*source.name);
            format!("{} [{source}]", by.as_deref().unwrap_or("itself"))
        }
        Err(refusal) => format!("{} {}", refusal.status, refusal.reason),
    }
}

#[test]
fn only_the_waypoint_of_what_is_asked_for_speaks_for_its_callers() {
    let mut changes = mesh();
    let mut elsewhere = service("ns/elsewhere", &["10.1.0.4"]);
    elsewhere.waypoint = Some(by_hostname("ns/gw2"));
    let mut other = gateway_service();
    other.key.name = "gw2".into();
    other.vips = service("ns/gw2", &["10.1.0.101"]).vips;
    changes.extend([
        elsewhere.into(),
        other.into(),
        pod("gw2", &["10.0.0.101"])
            .serving("ns/gw2", &[(15008, 15008)])
            .into(),
        pod("b", &["10.0.0.3"])
            .serving("ns/elsewhere", &[(80, 8080)])
            .into(),
        pod("client", &["10.0.0.9"]).into(),
    ]);
    let index = index(changes);
    let client = "spiffe://cluster.local/ns/ns/sa/client";
    let admin = "spiffe://cluster.local/ns/ns/sa/admin";
    let believed = format!("{client} at 10.0.0.9 [client]");
    for (case, peer, authority, caller, expected) in [
        (
            "its waypoint",
            "gw",
            "10.0.0.1:8080",
            Some(client),
            &*believed,
        ),
        (
            "its waypoint, of another pod",
            "gw2",
            "10.0.0.3:8080",
            Some(client),
            &believed,
        ),
        (
            "of a pod bound itself",
            "gw",
            "10.0.0.2:1",
            Some(client),
            &believed,
        ),
        (
            "a caller at somebody else's address",
            "gw",
            "10.0.0.1:8080",
            Some(admin),
            "spiffe://cluster.local/ns/ns/sa/admin at 10.0.0.9 [-]",
        ),
        (
            "its waypoint says nothing",
            "gw",
            "10.0.0.1:8080",
            None,
            "itself [gw]",
        ),
        (
            "an ordinary pod",
            "client",
            "10.0.0.1:8081",
            Some(admin),
            "itself [client]",
        ),
        (
            "its waypoint, for a port that is not bound",
            "gw",
            "10.0.0.1:8081",
            Some(admin),
            "itself [gw]",
        ),
        (
            "another service's waypoint",
            "gw2",
            "10.0.0.1:8081",
            Some(admin),
            "itself [gw2]",
        ),
        (
            "another service's waypoint, for a port that is bound",
            "gw2",
            "10.0.0.1:8080",
            Some(admin),
            "401 port 8080 of ns/a is bound to waypoint ns/gw, and \
             spiffe://cluster.local/ns/ns/sa/gw2 is not that waypoint",
        ),
        (
            "nonsense from its waypoint",
            "gw",
            "10.0.0.1:8080",
            Some("admin"),
            "400 waypoint spiffe://cluster.local/ns/ns/sa/gw says who called in x-ambit-caller, \
             which does not read: a SPIFFE id starts with spiffe://",
        ),
        (
            "nonsense from an ordinary pod",
            "client",
            "10.0.0.1:8081",
            Some("admin"),
            "itself [client]",
        ),
    ] {
        assert_eq!(said(&index, peer, authority, caller), expected, "{case}");
    }
}

#[test]
fn of_several_instances_the_one_with_fewer_streams() {
    let mut index = index(mesh());
    index.apply(
        pod("gw-2", &["10.0.0.101"])
            .serving("ns/gw", &[(15008, 15008)])
            .into(),
    );
    let client = client();
    let loaded = |busy: &str| {
        let busy = sock(busy);
        let streams = move |address, expected: &[Identity]| {
            assert_eq!(expected.len(), 1, "the identity that is pinned");
            usize::from(address == busy)
        };
        let asked = Outbound {
            streams: &streams,
            ..outbound(&client, "10.1.0.1:80")
        };
        let plans =
            (0..20).map(|seed| shown(&plan_outbound(&index, &asked, &mut Seeded::new(seed))));
        plans.collect::<std::collections::BTreeSet<_>>()
    };
    for (busy, idle) in [("10.0.0.100:15008", "gw-2"), ("10.0.0.101:15008", "gw")] {
        let plans = loaded(busy);
        assert_eq!(plans.len(), 1, "{plans:?}");
        assert!(
            plans
                .iter()
                .all(|plan| plan.ends_with(&format!("[{idle} bound]"))),
            "{plans:?}"
        );
    }
    assert_eq!(loaded("10.0.0.1:1").len(), 2, "equally busy ones share");
}

#[test]
fn a_caller_is_known_by_whatever_name_its_waypoint_calls_the_trust_domain() {
    let own = "cluster.local".parse().expect("a name");
    let aliases = "old.example".parse().expect("aliases");
    let mut index = Index::default().within(TrustDomains::new(own, aliases));
    let client = pod("client", &["10.0.0.9"]).into();
    for change in mesh().into_iter().chain([client]) {
        index.apply(change);
    }
    for (caller, expected) in [
        (
            "spiffe://old.example/ns/ns/sa/client",
            "spiffe://cluster.local/ns/ns/sa/client at 10.0.0.9 [client]",
        ),
        (
            "spiffe://other.example/ns/ns/sa/client",
            "spiffe://other.example/ns/ns/sa/client at 10.0.0.9 [-]",
        ),
    ] {
        assert_eq!(said(&index, "gw", "10.0.0.1:8080", Some(caller)), expected);
    }
}
