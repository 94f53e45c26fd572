use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;

use super::{Handle, Ip, PolicyRule, Route};
use crate::netlink::Mark;
use crate::netlink::testing::{isolated, namespace, within};

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn open() -> Handle {
    Handle::open().expect("netlink opens")
}

#[test]
fn links_are_made_changed_and_removed() {
    isolated(|| {
        let mut route = open();
        route.add_bridge("br0").expect("a bridge");
        route.add_veth("a0", "a1", None).expect("a pair");
        route.set_master("a0", Some("br0")).expect("a port");
        route.set_mtu("a0", 1400).expect("an MTU");
        route.rename("a0", "port").expect("a name");
        route.set_up("port").expect("up");
        let bridge = route.link("br0").expect("the bridge");
        let port = route.link("port").expect("the port");
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));
        assert_eq!(port.kind.as_deref(), Some("veth"));
        assert_eq!(port.master, Some(bridge.index));
        assert_eq!((port.mtu, port.up), (1400, true));
        assert!(port.mac.is_some());
        route.set_master("port", None).expect("no port");
        let port = route.link("port").expect("the port");
        assert_eq!(port.master, None);
        route.delete_link("port").expect("gone");
        let names: Vec<_> = route
            .links()
            .expect("a list")
            .into_iter()
            .map(|l| l.name)
            .collect();
        assert_eq!(names, ["lo", "br0"]);
    });
}

#[test]
fn a_peer_is_born_in_another_namespace() {
    isolated(|| {
        let pod = namespace();
        let mut route = open();
        route
            .add_veth("pod1", "eth0", Some(pod.as_fd()))
            .expect("a pair");
        assert!(route.link("eth0").expect_err("not here").is_absent());
        let there = within(&pod, || open().links().expect("a list"));
        let names: Vec<_> = there.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0"]);
    });
}

#[test]
fn packets_pass_by_addresses_and_routes_at_once() {
    isolated(|| {
        let pod = namespace();
        let mut route = open();
        route
            .add_veth("pod1", "eth0", Some(pod.as_fd()))
            .expect("a pair");
        route.set_up("pod1").expect("up");
        for own in ["10.1.0.1/32", "fd00:1::1/128"] {
            route.add_address("pod1", net(own)).expect("an address");
            route.add_address("pod1", net(own)).expect("again is fine");
        }
        for to in ["10.1.0.2/32", "fd00:1::2/128"] {
            let to = Route::to(net(to)).dev("pod1");
            route.add_route(&to).expect("a route");
            route.add_route(&to).expect("again is fine");
        }
        within(&pod, || {
            let mut route = open();
            route.set_up("lo").expect("up");
            route.set_up("eth0").expect("up");
            for (own, gateway, family) in [
                ("10.1.0.2/32", "10.1.0.1", Ip::V4),
                ("fd00:1::2/128", "fd00:1::1", Ip::V6),
            ] {
                route.add_address("eth0", net(own)).expect("an address");
                let default = Route::default(family).via(ip(gateway)).dev("eth0").onlink();
                route.add_route(&default).expect("a route");
                let main = route.routes(254).expect("a list");
                let found = main.iter().find(|r| r.to == default.to);
                assert_eq!(found.and_then(|r| r.via), default.via);
                assert_eq!(found.and_then(|r| r.dev.clone()), default.dev);
            }
            let held = route.addresses(Some("eth0")).expect("a list");
            for own in ["10.1.0.2/32", "fd00:1::2/128"] {
                assert!(held.iter().any(|a| a.net == net(own)), "{held:?}");
            }
        });
        for (family, server) in [(Ip::V4, "10.1.0.2:80"), (Ip::V6, "[fd00:1::2]:80")] {
            let listener = within(&pod, || std::net::TcpListener::bind(server).expect("bound"));
            let client = std::net::TcpStream::connect(server).expect("connected");
            let (_, peer) = listener.accept().expect("accepted");
            assert_eq!(Ok(peer), client.local_addr().map_err(|_| ()), "{family:?}");
        }
        let gone = Route::to(net("10.1.0.2/32")).dev("pod1");
        route.delete_route(&gone).expect("gone");
        assert!(route.delete_route(&gone).expect_err("twice").is_absent());
        route
            .delete_address("pod1", net("10.1.0.1/32"))
            .expect("gone");
        let left = route.addresses(Some("pod1")).expect("a list");
        assert!(left.iter().all(|a| a.net.addr().is_ipv6()), "{left:?}");
    });
}

#[test]
fn marks_lead_to_tables() {
    isolated(|| {
        let mut route = open();
        for family in Ip::BOTH {
            let local = Route::default(family).dev("lo").local().table(100);
            let rule = PolicyRule {
                family,
                mark: Some(Mark {
                    value: 0x111,
                    mask: 0xfff,
                }),
                table: 100,
                priority: Some(32764),
            };
            route.add_route(&local).expect("a route");
            route.add_rule(&rule).expect("a rule");
            route.add_rule(&rule).expect("again is fine");
            let held = route.routes(100).expect("a list");
            let found = held.iter().find(|r| r.to == local.to).expect("the route");
            assert!(found.local && found.dev.as_deref() == Some("lo"), "{found}");
            let same = |all: Vec<PolicyRule>| all.iter().filter(|r| **r == rule).count();
            assert_eq!(same(route.policy_rules().expect("a list")), 1);
            route.delete_rule(&rule).expect("gone");
            assert_eq!(same(route.policy_rules().expect("a list")), 0);
            assert!(route.delete_rule(&rule).expect_err("twice").is_absent());
            route.delete_route(&local).expect("gone");
        }
        assert_eq!(route.routes(100).expect("a list"), []);
    });
}

#[test]
fn refusals_name_operation_object_and_reason() {
    isolated(|| {
        let mut route = open();
        let cases: [(&str, super::super::Error); 6] = [
            (
                "find link nowhere: No such device",
                route.set_up("nowhere").expect_err("absent"),
            ),
            (
                "add bridge lo: File exists",
                route.add_bridge("lo").expect_err("taken"),
            ),
            (
                "add bridge a-name-of-sixteen: Invalid argument (the name of a link has 1 to 15 octets: \"a-name-of-sixteen\")",
                route.add_bridge("a-name-of-sixteen").expect_err("long"),
            ),
            (
                "add route 10.0.0.0/8 via 10.9.9.9: Network is unreachable (Nexthop has invalid gateway)",
                route
                    .add_route(&Route::to(net("10.0.0.0/8")).via(ip("10.9.9.9")))
                    .expect_err("no such neighbour"),
            ),
            ("set master of link lo: Invalid argument", {
                route.add_bridge("br0").expect("a bridge");
                route.set_master("lo", Some("br0")).expect_err("not a port")
            }),
            (
                "delete address 10.0.0.1/8 of lo: Cannot assign requested address",
                route
                    .delete_address("lo", net("10.0.0.1/8"))
                    .expect_err("absent"),
            ),
        ];
        for (expected, error) in cases {
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    });
}
