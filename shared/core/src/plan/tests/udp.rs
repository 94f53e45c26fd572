//! UDP: ports of its own, tunnels only to who takes it in them, and no waypoint.

use super::outbound::{client, outbound, shown};
use crate::balance::First;
use crate::fixtures::{by_hostname, identity, index, key, pod, ports, service, sock};
use crate::index::Index;
use crate::model::{ApplicationTunnel, Service, Workload};
use crate::plan::{
    Inbound, Outbound, OutboundTrafficPolicy, Passthrough, Transport, plan_inbound, plan_outbound,
    plan_passthrough,
};

/// TCP port 80 to 8080; UDP port 80 to 5000, and 81 to what the workload says.
fn web() -> Service {
    Service {
        udp_ports: ports(&[(80, 5000), (81, 0)]),
        ..service("ns/web", &["10.1.0.1"])
    }
}

/// An endpoint of it, whose UDP port 81 is 5001.
fn endpoint(name: &str, address: &str, takes_udp: bool) -> Workload {
    Workload {
        udp_ports: vec![(key("ns/web"), ports(&[(81, 5001)]))],
        takes_udp,
        ..pod(name, &[address]).serving("ns/web", &[(80, 8080)])
    }
}

fn plan(index: &Index, destination: &str) -> String {
    let source = client();
    let asked = Outbound {
        transport: Transport::Udp,
        policy: OutboundTrafficPolicy::RegistryOnly,
        ..outbound(&source, destination)
    };
    shown(&plan_outbound(index, &asked, &mut First))
}

#[test]
fn tunnels_lead_to_who_takes_udp_in_them() {
    let with = index([web().into(), endpoint("a", "10.0.0.1", true).into()]);
    let without = index([web().into(), endpoint("a", "10.0.0.1", false).into()]);
    for (destination, tunnel, plain) in [
        ("10.1.0.1:80", "10.0.0.1:5000", "[a web]"),
        ("10.1.0.1:81", "10.0.0.1:5001", "[a web]"),
        ("10.0.0.1:7", "10.0.0.1:7", "[a -]"),
    ] {
        let expected = format!("hbone 10.0.0.1:15008 for {tunnel} as a {plain}");
        assert_eq!(plan(&with, destination), expected);
        let expected = format!("plain {tunnel} {plain}");
        assert_eq!(plan(&without, destination), expected);
    }
    let none = "503 CONNECT: service ns/web has no UDP port 8080; it has 80, 81";
    assert_eq!(plan(&with, "10.1.0.1:8080"), none);
    let unknown = plan(&with, "192.0.2.1:53");
    assert!(
        unknown.starts_with("401 DENY: 192.0.2.1:53 is no service"),
        "{unknown}"
    );
    let source = client();
    let local = Outbound {
        transport: Transport::Udp,
        local: &|_| true,
        ..outbound(&source, "10.1.0.1:80")
    };
    for (index, expected) in [
        (&with, "local 10.0.0.1:5000 [a web]"),
        (&without, "plain 10.0.0.1:5000 [a web]"),
    ] {
        assert_eq!(shown(&plan_outbound(index, &local, &mut First)), expected);
    }
    let mut far = endpoint("a", "10.0.0.1", false);
    far.network = "far".into();
    far.network_gateway = Some(by_hostname("ns/to-far"));
    let gateway = pod("gw", &["10.0.0.7"]).serving("ns/to-far", &[]);
    let to_far = service("ns/to-far", &[]);
    let mesh = index([web().into(), far.into(), gateway.into(), to_far.into()]);
    let refused = plan(&mesh, "10.1.0.1:80");
    assert!(
        refused.contains("ns/a is on another network and takes no UDP"),
        "{refused}"
    );
}

#[test]
fn what_is_bound_to_a_waypoint_is_not_reached_unless_it_may_be_gone_around() {
    let bound = |bypass| Service {
        waypoint: Some(by_hostname("ns/waypoint")),
        waypoint_bypass: bypass,
        ..web()
    };
    let mesh = |bypass| {
        let gateway = pod("gw", &["10.0.0.7"]).serving("ns/waypoint", &[]);
        let of_gateway = service("ns/waypoint", &["10.1.0.7"]);
        index([
            bound(bypass).into(),
            endpoint("a", "10.0.0.1", true).into(),
            of_gateway.into(),
            gateway.into(),
        ])
    };
    let refusal = |what: &str| {
        format!(
            "503 CONNECT: {what} is bound to waypoint ns/waypoint, and waypoints carry no UDP; a service that is labelled \
             ambit.dev/waypoint-bypass=allowed is sent it directly"
        )
    };
    let (required, bypassed) = (mesh(false), mesh(true));
    assert_eq!(plan(&required, "10.1.0.1:80"), refusal("service ns/web"));
    assert_eq!(plan(&required, "10.0.0.1:5001"), refusal("workload ns/a"));
    // The TCP port of that number is another one.
    let free = "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a -]";
    assert_eq!(plan(&required, "10.0.0.1:8080"), free);
    let tunnel = "hbone 10.0.0.1:15008 for 10.0.0.1:5000 as a [a web]";
    assert_eq!(plan(&bypassed, "10.1.0.1:80"), tunnel);
    // And where it arrives, likewise.
    let local = endpoint("a", "10.0.0.1", true);
    for (index, port, expected) in [
        (&required, 5000, false),
        (&required, 5001, false),
        (&required, 8080, true),
        (&bypassed, 5000, true),
    ] {
        let passthrough = Passthrough {
            local: &local,
            peer_addr: sock("10.0.0.9:40000"),
            destination: sock(&format!("10.0.0.1:{port}")),
            transport: Transport::Udp,
        };
        let plain = plan_passthrough(index, &passthrough);
        let tunnel = arrive(index, &local, port);
        assert_eq!(
            (plain.is_ok(), tunnel.is_ok()),
            (expected, expected),
            "{port}"
        );
    }
}

fn arrive(index: &Index, local: &Workload, port: u16) -> Result<String, String> {
    let inbound = Inbound {
        local,
        peer: &identity("ns", "client"),
        peer_addr: sock("10.0.0.9:40000"),
        socket_destination: sock("10.0.0.1:15008"),
        authority: &format!("10.0.0.1:{port}"),
        transport: Transport::Udp,
        forwarded_host: None,
        forwarded_for: None,
        caller: None,
    };
    match plan_inbound(index, &inbound) {
        Ok(plan) => {
            let service = plan.service.map_or("-".to_owned(), |it| it.key.to_string());
            Ok(format!("{} {service}", plan.dial))
        }
        Err(refusal) => Err(format!("{} {}", refusal.status, refusal.reason)),
    }
}

#[test]
fn a_tunnel_is_agreed_to_by_who_has_asked_for_udp() {
    let taking = endpoint("a", "10.0.0.1", true);
    let mesh = index([web().into(), taking.clone().into()]);
    assert_eq!(
        arrive(&mesh, &taking, 5001),
        Ok("10.0.0.1:5001 ns/web".into())
    );
    assert_eq!(arrive(&mesh, &taking, 8080), Ok("10.0.0.1:8080 -".into()));
    let own = arrive(&mesh, &taking, 15006).expect_err("a loop");
    assert!(
        own.starts_with("503 port 15006 is the node proxy's own"),
        "{own}"
    );
    let not = endpoint("a", "10.0.0.1", false);
    let refused = "503 ns/a takes no UDP from tunnels; its annotation ambit.dev/udp is not enabled";
    assert_eq!(arrive(&mesh, &not, 5001), Err(refused.into()));
    let wrapped = Workload {
        application_tunnel: Some(ApplicationTunnel { port: None }),
        ..taking
    };
    let refused =
        "503 ns/a is told of its callers by the PROXY protocol, which UDP has no place for";
    assert_eq!(arrive(&mesh, &wrapped, 5001), Err(refused.into()));
}
