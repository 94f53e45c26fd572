//! What a waypoint serves: what is bound to it, and nothing that somebody names.

use crate::fixtures::{by_hostname, identity, index, key, pod, ports, service, vip};
use crate::index::{Change, Index};
use crate::model::{Service, TunnelProtocol, WeightedWaypoint};
use crate::plan::{BoundTo, GatewayTunnel, is_sent_here, plan_tunnel, upstream_of_endpoint};

/// Waypoints `gw` and `other`; `bound` is behind `gw`, `foreign` behind `other`, `free` behind none. The pod
/// `a` serves `bound` on 8080 and `free` on 8081, `b` serves `foreign`, `own` is bound to `gw` itself.
fn mesh() -> Index {
    let waypoint = |name: &str, vip: &str| {
        let mut gateway = service(&format!("ns/{name}"), &[vip]);
        gateway.ports = ports(&[(15008, 15008)]);
        gateway
    };
    let behind = |name: &str, vip: &str, gateway: &str| {
        let mut bound = service(&format!("ns/{name}"), &[vip]);
        bound.waypoint = Some(by_hostname(&format!("ns/{gateway}")));
        bound
    };
    let mut own = pod("own", &["10.0.0.3"]);
    own.waypoint = Some(by_hostname("ns/gw"));
    let instance = |name: &str, ip: &str| {
        pod(name, &[ip]).serving(
            &format!("ns/{}", &name[..name.len() - 2]),
            &[(15008, 15008)],
        )
    };
    let changes: Vec<Change> = vec![
        waypoint("gw", "10.1.0.100").into(),
        waypoint("other", "10.1.0.101").into(),
        instance("gw-1", "10.0.0.100").into(),
        instance("other-1", "10.0.0.101").into(),
        behind("bound", "10.1.0.1", "gw").into(),
        behind("foreign", "10.1.0.2", "other").into(),
        service("ns/free", &["10.1.0.3"]).into(),
        pod("a", &["10.0.0.1"])
            .serving("ns/bound", &[(80, 8080)])
            .serving("ns/free", &[(80, 8081)])
            .into(),
        pod("b", &["10.0.0.2"])
            .serving("ns/foreign", &[(80, 8080)])
            .into(),
        own.into(),
    ];
    index(changes)
}

/// What a CONNECT to `gw` leads to, for a reader.
fn plan(index: &Index, authority: &str) -> String {
    let planned = plan_tunnel(
        index,
        &GatewayTunnel {
            waypoint: &key("ns/gw"),
            network: "",
            caller: &identity("ns", "client"),
            authority,
        },
    );
    match planned {
        Ok(target) => {
            let bound = match &target.bound {
                BoundTo::Service(service) => format!("service {}", service.key.name),
                BoundTo::Workload(workload) => format!("pod {}", workload.name),
            };
            let services: Vec<&str> = target.services.iter().map(|it| &*it.name).collect();
            format!("{bound} {} {services:?}", target.address)
        }
        Err(refusal) => refusal.status.to_string(),
    }
}

#[test]
fn a_waypoint_serves_what_is_bound_to_it_and_nothing_else() {
    let index = mesh();
    for (name, authority, wanted) in [
        (
            "a bound service",
            "10.1.0.1:80",
            "service bound 10.1.0.1:80 [\"bound\"]",
        ),
        (
            "by its name",
            "bound:80",
            "service bound 10.1.0.1:80 [\"bound\"]",
        ),
        ("a port it has not", "10.1.0.1:81", "404"),
        (
            "a pod of it",
            "10.0.0.1:8080",
            "pod a 10.0.0.1:8080 [\"bound\"]",
        ),
        ("a bound pod", "10.0.0.3:9", "pod own 10.0.0.3:9 []"),
        ("another port of the pod", "10.0.0.1:8081", "404"),
        ("the service of another waypoint", "10.1.0.2:80", "404"),
        ("by its name", "foreign:80", "404"),
        ("a pod of it", "10.0.0.2:8080", "404"),
        ("a service without a waypoint", "10.1.0.3:80", "404"),
        ("the waypoint itself", "10.0.0.100:15008", "404"),
        ("its own service", "10.1.0.100:15008", "404"),
        ("this machine", "127.0.0.1:15000", "404"),
        ("an address nobody knows", "192.0.2.1:80", "404"),
        ("a name nobody knows", "example.com:80", "404"),
        ("no port", "10.1.0.1", "400"),
        ("nothing", "", "400"),
        ("port 0", "10.1.0.1:0", "400"),
    ] {
        assert_eq!(plan(&index, authority), wanted, "{name}: {authority}");
    }
}

#[test]
fn a_connection_is_kept_while_one_that_came_now_would_be_sent_here() {
    type Edit = fn(&mut Service);
    let cases: [(&str, &str, Edit, bool); 11] = [
        (
            "another load balancing",
            "10.1.0.1:80",
            |it| it.canonical = !it.canonical,
            true,
        ),
        (
            "a port that is gone",
            "10.1.0.1:80",
            |it| it.ports = ports(&[(81, 81)]),
            false,
        ),
        (
            "another address",
            "10.1.0.1:80",
            |it| it.vips = vec![vip("10.1.0.9")],
            false,
        ),
        (
            "one for its namespace",
            "10.1.0.1:80",
            |it| it.namespace_private = true,
            true,
        ),
        (
            "another waypoint",
            "10.1.0.1:80",
            |it| it.waypoint = Some(by_hostname("ns/other")),
            false,
        ),
        (
            "about to leave",
            "10.1.0.1:80",
            |it| {
                it.waypoint = Some(by_hostname("ns/other"));
                it.weighted_waypoints = shares(&[("ns/other", 1), ("ns/gw", 0)]);
            },
            false,
        ),
        (
            "a share",
            "10.1.0.1:80",
            |it| {
                it.waypoint = Some(by_hostname("ns/other"));
                it.weighted_waypoints = shares(&[("ns/other", 9), ("ns/gw", 1)]);
            },
            true,
        ),
        (
            "about to come",
            "10.1.0.1:80",
            |it| {
                it.weighted_waypoints = shares(&[("ns/gw", 1), ("ns/other", 0)]);
            },
            true,
        ),
        ("none", "10.1.0.1:80", |it| it.waypoint = None, false),
        (
            "a pod of it",
            "10.0.0.1:8080",
            |it| it.waypoint = None,
            false,
        ),
        (
            "a pod of its own",
            "10.0.0.3:9",
            |it| it.waypoint = None,
            true,
        ),
    ];
    for (name, authority, edit, wanted) in cases {
        let mut index = mesh();
        let tunnel = GatewayTunnel {
            waypoint: &key("ns/gw"),
            network: "",
            caller: &identity("ns", "client"),
            authority,
        };
        let target = plan_tunnel(&index, &tunnel).expect("it is bound");
        let is_kept = |index: &Index| is_sent_here(index, &target, tunnel.caller, tunnel.waypoint);
        assert!(is_kept(&index), "{name}");
        let mut bound = Service::clone(index.service(&key("ns/bound")).expect("known"));
        edit(&mut bound);
        index.apply(bound.into());
        assert_eq!(is_kept(&index), wanted, "{name}");
        let stranger = identity("elsewhere", "client");
        let is_seen = is_sent_here(&index, &target, &stranger, tunnel.waypoint);
        assert_eq!(is_seen, wanted && name != "one for its namespace", "{name}");
    }
    let mut index = mesh();
    let mut share = Service::clone(index.service(&key("ns/bound")).expect("known"));
    share.waypoint = Some(by_hostname("ns/other"));
    share.weighted_waypoints = shares(&[("ns/other", 1), ("ns/gw", 0)]);
    index.apply(share.into());
    let late = GatewayTunnel {
        waypoint: &key("ns/gw"),
        network: "",
        caller: &identity("ns", "client"),
        authority: "10.1.0.1:80",
    };
    let target = plan_tunnel(&index, &late).expect("it is taken");
    assert!(
        !is_sent_here(&index, &target, late.caller, late.waypoint),
        "who comes late"
    );
}

fn shares(of: &[(&str, u32)]) -> Vec<WeightedWaypoint> {
    let all = of.iter().map(|(name, weight)| WeightedWaypoint {
        waypoint: by_hostname(name),
        weight: *weight,
    });
    all.collect()
}

#[test]
fn the_way_to_an_endpoint_is_a_tunnel_to_its_identity_or_plain() {
    let mut index = mesh();
    let mut plain = pod("c", &["10.0.0.9"]).serving("ns/bound", &[(80, 9090)]);
    plain.tunnel_protocol = TunnelProtocol::None;
    index.apply(plain.into());
    index.apply(pod("d", &[]).serving("ns/bound", &[(80, 9090)]).into());
    for (name, tunnel) in [("e", TunnelProtocol::None), ("f", TunnelProtocol::Hbone)] {
        let mut host = pod(name, &[]).serving("ns/bound", &[(80, 9090)]);
        host.hostname = "db.example.com".into();
        host.tunnel_protocol = tunnel;
        index.apply(host.into());
    }
    let workload = |name: &str| index.workload(&format!("Kubernetes//Pod/ns/{name}"));
    let me = workload("gw-1").expect("an instance").clone();
    let service = index.service(&key("ns/bound")).expect("a service");
    let endpoints = index.endpoints(&key("ns/bound")).expect("endpoints");
    let way = |name: &str, port: u16| {
        let uid = &workload(name).expect("a pod").uid;
        let endpoint = endpoints.by_uid(uid).expect("an endpoint");
        let way = upstream_of_endpoint(service, port, endpoint, &me)?;
        Some((way.address.to_string(), way.tunnel.map(|it| it.to_vec())))
    };
    let in_tunnel = ("10.0.0.1:8080".to_owned(), Some(vec![identity("ns", "a")]));
    assert_eq!(way("a", 80), Some(in_tunnel), "its identity is pinned");
    let as_it_is = ("10.0.0.9:9090".to_owned(), None);
    assert_eq!(way("c", 80), Some(as_it_is), "without a tunnel");
    assert_eq!(way("d", 80), None, "it has no address");
    let to_be_asked = ("0.0.0.0:9090".to_owned(), None);
    assert_eq!(way("e", 80), Some(to_be_asked), "a host");
    assert_eq!(way("f", 80), None, "no tunnel leads to a name");
    assert_eq!(way("a", 81), None, "the service has no such port");
}
