//! Endpoints on another network, and the gateway that leads to them.

use std::sync::Arc;

use super::outbound::{client, outbound, plan, shown};
use crate::addr::NetworkAddr;
use crate::balance::First;
use crate::fixtures::{by_hostname, index, ip, pod, pod_in, ports, service, vip};
use crate::index::{Change, Index};
use crate::model::{Destination, GatewayAddress, Health, Service, TunnelProtocol, Vip, Workload};
use crate::plan::{OutboundKind, plan_crossing, plan_outbound};

const UID: &str = "Kubernetes//Pod/gateways/west";

fn west(mut workload: Workload) -> Workload {
    workload.network = "west".into();
    workload.network_gateway = Some(by_hostname("gateways/west"));
    workload
}

fn far(name: &str, address: &str) -> Workload {
    west(pod(name, &[address])).serving("ns/far", &[(80, 8080)])
}

fn gateway_service() -> Service {
    let mut gateway = service("gateways/west", &["10.1.0.100"]);
    gateway.ports = ports(&[(15008, 15008)]);
    gateway
}

fn gateway_pod() -> Workload {
    let pod = pod_in("gateways", "west", &["10.9.0.100", "fd09::100"]);
    west(pod).serving("gateways/west", &[(15008, 15008)])
}

/// `far` is served in the west alone, `both` here as well.
fn mesh() -> Vec<Change> {
    vec![
        gateway_service().into(),
        gateway_pod().into(),
        service("ns/far", &["10.1.0.1", "fd01::1"]).into(),
        far("f", "10.9.0.1").into(),
        service("ns/both", &["10.1.0.2"]).into(),
        pod("near", &["10.0.0.1"])
            .serving("ns/both", &[(80, 8080)])
            .into(),
        west(pod("b", &["10.9.0.2"]))
            .serving("ns/both", &[(80, 8080)])
            .into(),
        client().into(),
    ]
}

/// The mesh with a change.
fn with(change: impl Into<Change>) -> Index {
    let mut index = index(mesh());
    index.apply(change.into());
    index
}

#[test]
fn another_network_is_reached_through_its_gateway() {
    let index = index(mesh());
    let to = "hbone 10.9.0.1:15008 for 10.9.0.1:8080 as f through";
    for (destination, gateway) in [
        ("10.1.0.1:80", "10.9.0.100:15008"),
        ("[fd01::1]:80", "[fd09::100]:15008"),
    ] {
        let expected = format!("{to} {gateway} as west [f far]");
        assert_eq!(shown(&plan(&index, destination)), expected);
    }
    // By its own address it is nobody that is known here.
    assert_eq!(
        shown(&plan(&index, "10.9.0.1:8080")),
        "plain 10.9.0.1:8080 [- -]"
    );
}

#[test]
fn a_pod_of_another_network_is_never_joined_directly() {
    let (index, client) = (index(mesh()), client());
    let mut local = outbound(&client, "10.1.0.1:80");
    local.local = &|_| true;
    let plan = plan_outbound(&index, &local, &mut First).expect("a plan");
    assert!(matches!(plan.kind, OutboundKind::Hbone(_)), "{plan:?}");
}

#[test]
fn without_a_way_through_a_gateway_there_is_none() {
    let mut none = far("f", "10.9.0.1");
    none.network_gateway = None;
    let mut plain = far("f", "10.9.0.1");
    plain.tunnel_protocol = TunnelProtocol::None;
    let mut ill = gateway_pod();
    ill.health = Health::Unhealthy;
    let mut captive = gateway_pod();
    captive.tunnel_protocol = TunnelProtocol::None;
    let closed = "no gateway of network west takes connections";
    for (case, index, why) in [
        (
            "no gateway",
            with(none),
            "network \"west\" is another one and has no gateway",
        ),
        (
            "a gateway that does not exist",
            with(Change::RemoveAddress("gateways/west".into())),
            "gateway gateways/west of network \"west\" does not exist",
        ),
        (
            "no instance",
            with(Change::RemoveAddress(UID.into())),
            closed,
        ),
        ("none that is ready", with(ill), closed),
        ("none in the mesh", with(captive), closed),
        (
            "outside the mesh",
            with(plain),
            "ns/f is on network \"west\" and not in the mesh; only tunnels go through a gateway",
        ),
    ] {
        assert_eq!(
            shown(&plan(&index, "10.1.0.1:80")),
            format!("503 CONNECT: all 1 endpoints of service ns/far are on other networks: {why}"),
            "{case}"
        );
    }
}

#[test]
fn what_has_no_way_leaves_the_others() {
    let closed = with(Change::RemoveAddress(UID.into()));
    let near = "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as near [near both]";
    let client = client();
    let planned = |index: &Index, exclude: &[Arc<str>], draw: u32| {
        let outbound = crate::plan::Outbound {
            exclude,
            ..outbound(&client, "10.1.0.2:80")
        };
        shown(&plan_outbound(index, &outbound, &mut |bound: u32| {
            draw % bound
        }))
    };
    let open = index(mesh());
    let of_both: Vec<String> = (0..2).map(|draw| planned(&open, &[], draw)).collect();
    assert!(of_both.iter().any(|plan| plan == near), "{of_both:?}");
    let crossing = of_both.iter().filter(|plan| plan.contains("through"));
    assert_eq!(crossing.count(), 1, "{of_both:?}");
    for draw in 0..2 {
        assert_eq!(planned(&closed, &[], draw), near);
        // A gateway that was tried in vain.
        assert_eq!(planned(&open, &[UID.into()], draw), near);
    }
}

#[test]
fn a_gateway_may_say_where_it_is_reached() {
    let at = || NetworkAddr::new("west", ip("192.0.2.7"));
    let mut named = far("f", "10.9.0.1");
    named.network_gateway = Some(GatewayAddress {
        destination: Destination::Address(at()),
        hbone_port: 15443,
    });
    let mut outside = pod_in("gateways", "outside", &["192.0.2.7"]);
    outside.network = "west".into();
    let mut index = with(named);
    assert_eq!(
        shown(&plan(&index, "10.1.0.1:80")),
        "503 CONNECT: all 1 endpoints of service ns/far are on other networks: \
         gateway 192.0.2.7 of network \"west\" does not exist"
    );
    index.apply(outside.into());
    assert_eq!(
        shown(&plan(&index, "10.1.0.1:80")),
        "hbone 10.9.0.1:15008 for 10.9.0.1:8080 as f through 192.0.2.7:15443 as outside [f far]"
    );
}

#[test]
fn a_waypoint_on_another_network_is_a_last_resort() {
    let mut bound = service("ns/bound", &["10.1.0.9"]);
    bound.waypoint = Some(by_hostname("ns/wp"));
    let mut waypoint = service("ns/wp", &["10.1.0.101"]);
    waypoint.ports = ports(&[(15008, 15008)]);
    let instance =
        |name: &str, address: &str| pod(name, &[address]).serving("ns/wp", &[(15008, 15008)]);
    let mut index = index(mesh());
    index.apply(bound.into());
    index.apply(waypoint.into());
    index.apply(west(instance("wp-west", "10.9.0.50")).into());
    assert_eq!(
        shown(&plan(&index, "10.1.0.9:80")),
        "waypoint 10.9.0.50:15008 for 10.1.0.9:80 as wp-west through 10.9.0.100:15008 as west [wp-west bound]"
    );
    // A pod's own address is asked for where it is that pod's.
    let mut single = pod("single", &["10.0.0.60"]);
    single.waypoint = Some(by_hostname("ns/wp"));
    index.apply(single.into());
    let refused = shown(&plan(&index, "10.0.0.60:80"));
    assert!(refused.starts_with("503 "), "{refused}");
    index.apply(instance("wp-here", "10.0.0.50").into());
    assert_eq!(
        shown(&plan(&index, "10.1.0.9:80")),
        "waypoint 10.0.0.50:15008 for 10.1.0.9:80 as wp-here [wp-here bound]"
    );
    assert_eq!(
        shown(&plan(&index, "10.0.0.60:80")),
        "waypoint 10.0.0.50:15008 for 10.0.0.60:80 as wp-here [wp-here -]"
    );
}

#[test]
fn what_is_outside_the_mesh_and_of_no_network_is_near_to_all() {
    let mut outside = pod("api", &["192.0.2.9"]).serving("ns/api", &[(80, 6443)]);
    outside.tunnel_protocol = TunnelProtocol::None;
    let mut api = service("ns/api", &[]);
    api.vips = vec![Vip {
        network: "west".into(),
        ..vip("10.1.0.3")
    }];
    let index = index([outside.into(), api.into()]);
    let mut client = client();
    client.network = "west".into();
    let planned = plan_outbound(&index, &outbound(&client, "10.1.0.3:80"), &mut First);
    assert_eq!(shown(&planned), "plain 192.0.2.9:6443 [api api]");
}

#[test]
fn a_gateway_leads_to_tunnels_of_its_network() {
    let mut outside = west(pod("outside", &["10.9.0.3"]));
    outside.tunnel_protocol = TunnelProtocol::None;
    let index = with(outside);
    let me = "spiffe://td/ns/ns/sa/me".parse().expect("an identity");
    let asked =
        |network: &str, authority: &str| match plan_crossing(&index, network, &me, authority) {
            Ok((workload, address)) => format!("{} at {address}", workload.name),
            Err(refusal) => format!("{} {}", refusal.status, refusal.reason),
        };
    assert_eq!(asked("west", "10.9.0.1:15008"), "f at 10.9.0.1:15008");
    let no = "404 the gateway of network \"west\" does not lead to";
    for (authority, why) in [
        ("10.0.0.1:15008", "no pod of this network is there"),
        ("10.1.0.1:15008", "no pod of this network is there"),
        ("10.9.0.1:8080", "tunnels alone go through, to 15008"),
        ("10.9.0.1:15001", "tunnels alone go through, to 15008"),
        ("10.9.0.3:15008", "ns/outside is not in the mesh"),
        ("10.9.0.100:15008", "it is a gateway itself"),
        ("far:80", "it is no address of a pod"),
    ] {
        assert_eq!(asked("west", authority), format!("{no} {authority}: {why}"));
    }
    assert!(asked("west", "nonsense").starts_with("400 "));
    assert!(asked("", "10.9.0.1:15008").starts_with("404 "));
}
