//! Where captured connections go, waypoints left aside.

use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::{First, Seeded};
use crate::fixtures::{identity, index, ip, pod, pod_in, ports, service, sock};
use crate::identity::Identity;
use crate::index::{Change, Index};
use crate::model::service::Mode;
use crate::model::{Health, NetworkMode, TunnelProtocol, Workload};
use crate::plan::{
    Hop, Outbound, OutboundKind, OutboundPlan, OutboundTrafficPolicy, Refusal, ResponseFlag,
    Tunnel, plan_outbound,
};

pub(super) fn outbound<'a>(source: &'a Workload, destination: &str) -> Outbound<'a> {
    Outbound {
        source,
        source_addr: sock("10.0.0.9:40000"),
        destination: sock(destination),
        local: &|_| false,
        streams: &|_, _| 0,
        hosts: &|_| None,
        exclude: &[],
        policy: OutboundTrafficPolicy::AllowAny,
        transport: crate::plan::Transport::Tcp,
    }
}

pub(super) fn client() -> Workload {
    pod("client", &["10.0.0.9", "fd00::9"])
}

pub(super) fn plan(index: &Index, destination: &str) -> Result<OutboundPlan, Refusal> {
    plan_outbound(index, &outbound(&client(), destination), &mut First)
}

/// How, to which workload, of which service: one line.
pub(super) fn shown(plan: &Result<OutboundPlan, Refusal>) -> String {
    let plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => {
            let Refusal {
                status,
                flag,
                reason,
            } = refusal;
            return format!("{status} {flag}: {reason}");
        }
    };
    let kind = match &plan.kind {
        OutboundKind::Plain { target } => format!("plain {target}"),
        OutboundKind::Local {
            destination,
            workload,
        } => {
            assert_eq!(Some(workload), plan.workload.as_ref());
            format!("local {destination}")
        }
        OutboundKind::Hbone(Tunnel {
            target,
            authority,
            identities,
            hop,
            gateway,
        }) => {
            let names: Vec<&str> = identities
                .iter()
                .map(|id| &**id.service_account())
                .collect();
            let hop = match hop {
                Hop::Workload => "hbone",
                Hop::Waypoint => "waypoint",
            };
            let through = gateway.as_ref().map_or_else(String::new, |gateway| {
                let shown: Vec<&str> = gateway
                    .identities
                    .iter()
                    .map(|id| &**id.service_account())
                    .collect();
                format!(" through {} as {}", gateway.target, shown.join("|"))
            });
            format!(
                "{hop} {target} for {authority} as {}{through}",
                names.join("|")
            )
        }
    };
    let workload = plan.workload.as_ref().map_or("-", |w| &w.name);
    let service = plan.service.as_ref().map_or("-", |s| &s.key.name);
    format!("{kind} [{workload} {service}]")
}

fn web(name: &str, addresses: &[&str]) -> Workload {
    pod(name, addresses).serving("ns/web", &[(80, 8080)])
}

fn remote(mut workload: Workload) -> Workload {
    workload.network = "net2".into();
    workload
}

fn ill(mut workload: Workload) -> Workload {
    workload.health = Health::Unhealthy;
    workload
}

fn plain(mut workload: Workload) -> Workload {
    workload.tunnel_protocol = TunnelProtocol::None;
    workload
}

#[test]
fn addresses() {
    let mut host = pod("host", &["192.168.0.1"]);
    host.network_mode = NetworkMode::HostNetwork;
    let mut sidecar = pod("sidecar", &["10.0.0.4"]);
    sidecar.tunnel_protocol = TunnelProtocol::LegacyIstioMtls;
    let mut native = pod("native", &["10.0.0.5"]);
    native.native_tunnel = true;
    let index = index([
        pod("a", &["10.0.0.1", "fd00::1"]).into(),
        plain(pod("outside", &["10.0.0.2"])).into(),
        host.into(),
        sidecar.into(),
        native.into(),
        client().into(),
    ]);
    let cases = [
        (
            "a mesh pod",
            "10.0.0.1:8080",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a -]",
        ),
        (
            "a mesh pod by IPv6",
            "[fd00::1]:8080",
            "hbone [fd00::1]:15008 for [fd00::1]:8080 as a [a -]",
        ),
        (
            "a mapped address",
            "[::ffff:10.0.0.1]:8080",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a -]",
        ),
        (
            "a pod outside the mesh",
            "10.0.0.2:80",
            "plain 10.0.0.2:80 [outside -]",
        ),
        ("a sidecar", "10.0.0.4:80", "plain 10.0.0.4:80 [sidecar -]"),
        (
            "a pod with its own HBONE",
            "10.0.0.5:80",
            "hbone 10.0.0.5:15008 for 10.0.0.5:80 as native [native -]",
        ),
        ("a node", "192.168.0.1:80", "plain 192.168.0.1:80 [- -]"),
        ("the internet", "1.1.1.1:443", "plain 1.1.1.1:443 [- -]"),
        ("itself", "10.0.0.9:80", "local 10.0.0.9:80 [client -]"),
        (
            "its own proxy",
            "10.0.0.9:15001",
            "503 CONNECT: 10.0.0.9:15001 is a port of the node proxy in the pod itself, \
             not of an application",
        ),
        (
            "its own proxy by IPv6",
            "[fd00::9]:15008",
            "503 CONNECT: [fd00::9]:15008 is a port of the node proxy in the pod itself, \
             not of an application",
        ),
        (
            "an own port by loopback",
            "127.0.0.1:15001",
            "503 CONNECT: 127.0.0.1:15001 is a port of the node proxy in the pod itself, \
             not of an application",
        ),
        (
            "the same port elsewhere",
            "1.1.1.1:15001",
            "plain 1.1.1.1:15001 [- -]",
        ),
    ];
    for (case, destination, expected) in cases {
        assert_eq!(shown(&plan(&index, destination)), expected, "{case}");
    }
}

#[test]
fn services() {
    let named_port = {
        let mut named = service("ns/named", &["10.1.0.2"]);
        named.ports = ports(&[(80, 0), (81, 8081)]);
        named
    };
    let mut ready_or_not = service("ns/ready-or-not", &["10.1.0.5"]);
    ready_or_not.load_balancing.allow_unhealthy = true;
    let mut with_names = service("ns/names", &["10.1.0.7"]);
    with_names.subject_alt_names = vec![identity("ns", "a"), identity("ns", "alt")];
    let mut as_dialled = service("ns/dialled", &["10.3.0.0/16"]);
    as_dialled.load_balancing.mode = Mode::Passthrough;
    as_dialled.ports = Vec::new();
    let mut host = pod("host", &["192.168.0.1"]).serving("ns/host", &[]);
    host.network_mode = NetworkMode::HostNetwork;
    let mut no_ports = service("ns/no-ports", &["10.1.0.10"]);
    no_ports.ports = Vec::new();
    let index = index([
        service("ns/web", &["10.1.0.1", "fd01::1"]).into(),
        web("a", &["10.0.0.1", "fd00::1"]).into(),
        named_port.into(),
        pod("n", &["10.0.0.2"])
            .serving("ns/named", &[(80, 9090)])
            .into(),
        service("ns/empty", &["10.1.0.3"]).into(),
        service("ns/ill", &["10.1.0.4"]).into(),
        ill(pod("i", &["10.0.0.4"]).serving("ns/ill", &[])).into(),
        ready_or_not.into(),
        ill(pod("r", &["10.0.0.5"]).serving("ns/ready-or-not", &[])).into(),
        service("ns/far", &["10.1.0.6"]).into(),
        remote(pod("f", &["10.0.0.1"]).serving("ns/far", &[])).into(),
        with_names.into(),
        pod("a", &["10.0.0.1", "fd00::1"])
            .serving("ns/web", &[(80, 8080)])
            .serving("ns/names", &[])
            .into(),
        as_dialled.into(),
        pod("d", &["10.3.0.1"]).into(),
        service("ns/host", &["10.1.0.8"]).into(),
        host.into(),
        service("ns/portless", &["10.1.0.9"]).into(),
        no_ports.into(),
        service("ns/four", &["fd01::4"]).into(),
        pod("four", &["10.0.0.6"]).serving("ns/four", &[]).into(),
    ]);
    let cases = [
        (
            "a service",
            "10.1.0.1:80",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a web]",
        ),
        (
            "the family that was dialled",
            "[fd01::1]:80",
            "hbone [fd00::1]:15008 for [fd00::1]:8080 as a [a web]",
        ),
        (
            "another family when there is no other",
            "[fd01::4]:80",
            "hbone 10.0.0.6:15008 for 10.0.0.6:8080 as four [four four]",
        ),
        (
            "an unknown port",
            "10.1.0.1:81",
            "503 CONNECT: service ns/web has no port 81; it has 80",
        ),
        (
            "no ports at all",
            "10.1.0.10:80",
            "503 CONNECT: service ns/no-ports has no port 80; it has none",
        ),
        (
            "the workload's port for it",
            "10.1.0.2:80",
            "hbone 10.0.0.2:15008 for 10.0.0.2:9090 as n [n named]",
        ),
        (
            "the service's port for it",
            "10.1.0.2:81",
            "hbone 10.0.0.2:15008 for 10.0.0.2:8081 as n [n named]",
        ),
        (
            "no endpoints",
            "10.1.0.3:80",
            "503 CONNECT: service ns/empty has no endpoints; check its selector and that pods run",
        ),
        (
            "none ready",
            "10.1.0.4:80",
            "503 CONNECT: none of the 1 endpoints of service ns/ill is ready",
        ),
        (
            "not ready, wanted all the same",
            "10.1.0.5:80",
            "hbone 10.0.0.5:15008 for 10.0.0.5:8080 as r [r ready-or-not]",
        ),
        (
            "a remote network",
            "10.1.0.6:80",
            "503 CONNECT: all 1 endpoints of service ns/far are on other networks: \
             network \"net2\" is another one and has no gateway",
        ),
        (
            "names of the service",
            "10.1.0.7:80",
            "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a|alt [a names]",
        ),
        (
            "as dialled, a known pod",
            "10.3.0.1:5432",
            "hbone 10.3.0.1:15008 for 10.3.0.1:5432 as d [d dialled]",
        ),
        (
            "as dialled, unknown",
            "10.3.0.2:5432",
            "plain 10.3.0.2:5432 [- dialled]",
        ),
        (
            "a host-network endpoint",
            "10.1.0.8:80",
            "plain 192.168.0.1:8080 [host host]",
        ),
    ];
    for (case, destination, expected) in cases {
        assert_eq!(shown(&plan(&index, destination)), expected, "{case}");
    }
}

#[test]
fn an_address_of_a_pod_is_for_nobody_elses_service() {
    let mut elsewhere = pod_in("other", "vm", &["192.168.0.7"]);
    elsewhere.node = "".into();
    let index = index([
        pod_in("other", "theirs", &["10.0.0.1"]).into(),
        pod("own", &["10.0.0.2"]).into(),
        elsewhere.into(),
        web("web", &["10.0.0.3"]).into(),
        service(
            "ns/web",
            &["10.0.0.1", "10.0.0.2", "192.168.0.7", "10.0.1.0/24"],
        )
        .into(),
        pod_in("other", "ranged", &["10.0.1.7"]).into(),
        client().into(),
    ]);
    let of_service = "hbone 10.0.0.3:15008 for 10.0.0.3:8080 as web [web web]";
    for (address, expected) in [
        (
            "10.0.0.1:80",
            "hbone 10.0.0.1:15008 for 10.0.0.1:80 as theirs [theirs -]",
        ),
        ("10.0.0.2:80", of_service),
        ("192.168.0.7:80", of_service),
        ("10.0.1.6:80", of_service),
        (
            "10.0.1.7:80",
            "hbone 10.0.1.7:15008 for 10.0.1.7:80 as ranged [ranged -]",
        ),
    ] {
        assert_eq!(shown(&plan(&index, address)), expected, "{address}");
    }
}

#[test]
fn a_port_that_no_endpoint_serves() {
    let mut named = service("ns/named", &["10.1.0.2"]);
    named.ports = ports(&[(80, 0)]);
    let index = index([
        named.into(),
        pod("n", &["10.0.0.2"])
            .serving("ns/named", &[(81, 9090)])
            .into(),
    ]);
    assert_eq!(
        shown(&plan(&index, "10.1.0.2:80")),
        "503 CONNECT: none of the 1 endpoints of service ns/named serves port 80 at an address \
         and place that fit the client"
    );
}

#[test]
fn endpoints_that_cannot_be_reached_are_passed_over() {
    let index = index([
        service("ns/web", &["10.1.0.1"]).into(),
        remote(web("far", &["10.0.0.1"])).into(),
        web("addressless", &[]).into(),
        ill(web("ill", &["10.0.0.2"])).into(),
        web("good", &["10.0.0.3"]).into(),
    ]);
    let client = client();
    let mut picker = Seeded::new(5);
    for _ in 0..50 {
        let plan = plan_outbound(&index, &outbound(&client, "10.1.0.1:80"), &mut picker);
        assert_eq!(
            shown(&plan),
            "hbone 10.0.0.3:15008 for 10.0.0.3:8080 as good [good web]"
        );
    }
}

#[test]
fn an_ipv4_client_is_not_sent_to_an_ipv6_only_endpoint() {
    let index = index([
        service("ns/web", &["10.1.0.1"]).into(),
        web("six", &["fd00::1"]).into(),
    ]);
    let four = pod("four", &["10.0.0.9"]);
    let plan = plan_outbound(&index, &outbound(&four, "10.1.0.1:80"), &mut First);
    assert!(plan.is_err());
    assert_eq!(
        shown(&self::plan(&index, "10.1.0.1:80")),
        "hbone [fd00::1]:15008 for [fd00::1]:8080 as six [six web]"
    );
}

#[test]
fn another_endpoint_after_a_failure() {
    let index = index([
        service("ns/web", &["10.1.0.1"]).into(),
        web("a", &["10.0.0.1"]).into(),
        web("b", &["10.0.0.2"]).into(),
    ]);
    let client = client();
    let plan = |failed: &[Arc<str>]| {
        let retry = Outbound {
            exclude: failed,
            ..outbound(&client, "10.1.0.1:80")
        };
        plan_outbound(&index, &retry, &mut Seeded::new(1))
    };
    let mut failed: Vec<Arc<str>> = Vec::new();
    for _ in 0..2 {
        let plan = plan(&failed).expect("one is left");
        failed.push(plan.workload.expect("an endpoint").uid.clone());
    }
    failed.sort();
    assert_eq!(
        failed,
        ["Kubernetes//Pod/ns/a".into(), "Kubernetes//Pod/ns/b".into()]
    );
    assert_eq!(
        shown(&plan(&failed)),
        "503 CONNECT: no endpoint of service ns/web is left after 2 failed"
    );
}

#[test]
fn a_client_address_keeps_its_endpoint_and_the_one_after_it() {
    let mut web_service = service("ns/web", &["10.1.0.1"]);
    web_service.load_balancing.client_affinity = true;
    let pods = (1..=5).map(|n| web(&format!("p{n}"), &[&format!("10.0.1.{n}")]).into());
    let index = index(std::iter::once(web_service.into()).chain(pods));
    let client = client();
    let home = |address: &str, failed: &[Arc<str>], seed| {
        let connection = Outbound {
            source_addr: sock(address),
            exclude: failed,
            ..outbound(&client, "10.1.0.1:80")
        };
        let plan = plan_outbound(&index, &connection, &mut Seeded::new(seed));
        plan.expect("an endpoint")
            .workload
            .expect("known")
            .uid
            .clone()
    };
    let mut all = std::collections::BTreeSet::new();
    for number in 1..100 {
        let from = |port: u16| format!("10.0.0.{number}:{port}");
        let first = home(&from(40_000), &[], 1);
        assert_eq!(home(&from(40_001), &[], 2), first);
        let failed = [first.clone()];
        let second = home(&from(40_002), &failed, 3);
        assert_ne!(second, first);
        assert_eq!(home(&from(40_003), &failed, 4), second);
        all.insert(first);
    }
    assert_eq!(all.len(), 5);
}

#[test]
fn pods_of_the_same_node() {
    let mut native = pod("native", &["10.0.0.5"]);
    native.native_tunnel = true;
    let index = index([
        service("ns/web", &["10.1.0.1"]).into(),
        web("a", &["10.0.0.1"]).into(),
        native.into(),
        plain(pod("outside", &["10.0.0.2"])).into(),
    ]);
    let client = client();
    let cases = [
        ("by service", "10.1.0.1:80", "local 10.0.0.1:8080 [a web]"),
        ("by address", "10.0.0.1:8080", "local 10.0.0.1:8080 [a -]"),
        (
            "it speaks HBONE itself",
            "10.0.0.5:80",
            "hbone 10.0.0.5:15008 for 10.0.0.5:80 as native [native -]",
        ),
        (
            "not in the mesh",
            "10.0.0.2:80",
            "plain 10.0.0.2:80 [outside -]",
        ),
    ];
    for (case, destination, expected) in cases {
        let mut outbound = outbound(&client, destination);
        outbound.local = &|_| true;
        let plan = plan_outbound(&index, &outbound, &mut First);
        assert_eq!(shown(&plan), expected, "{case}");
    }
}

#[test]
fn its_own_service_leads_back_without_a_wire() {
    let own = pod("client", &["10.0.0.9"]).serving("ns/web", &[]);
    let index = index([service("ns/web", &["10.1.0.1"]).into(), own.clone().into()]);
    let plan = plan_outbound(&index, &outbound(&own, "10.1.0.1:80"), &mut First);
    assert_eq!(shown(&plan), "local 10.0.0.9:8080 [client web]");
}

#[test]
fn the_clients_namespace_and_network_count() {
    let mut own = service("ns/db", &["10.1.0.1"]);
    own.key.name = "db.example".into();
    let mut other = service("other/db", &["10.1.0.1"]);
    other.key.name = "db.example".into();
    other.canonical = true;
    let mut private = service("other/private", &["10.1.0.2"]);
    private.namespace_private = true;
    let index = index([
        own.into(),
        other.into(),
        private.into(),
        pod("a", &["10.0.0.1"]).serving("ns/db.example", &[]).into(),
        pod("b", &["10.0.0.2"])
            .serving("other/db.example", &[])
            .into(),
    ]);
    let planned = |namespace: &str, network: &str, destination: &str| {
        let mut client = client();
        client.namespace = namespace.into();
        client.network = network.into();
        shown(&plan_outbound(
            &index,
            &outbound(&client, destination),
            &mut First,
        ))
    };
    assert_eq!(
        planned("ns", "", "10.1.0.1:80"),
        "hbone 10.0.0.1:15008 for 10.0.0.1:8080 as a [a db.example]"
    );
    assert_eq!(
        planned("third", "", "10.1.0.1:80"),
        "hbone 10.0.0.2:15008 for 10.0.0.2:8080 as b [b db.example]"
    );
    assert_eq!(planned("ns", "", "10.1.0.2:80"), "plain 10.1.0.2:80 [- -]");
    assert_eq!(
        planned("ns", "net9", "10.1.0.1:80"),
        "plain 10.1.0.1:80 [- -]",
        "the address means something else there"
    );
}

#[test]
fn refusals_have_the_flag_of_connection_failures() {
    let index = index([Change::from(service("ns/empty", &["10.1.0.3"]))]);
    let refusal = plan(&index, "10.1.0.3:80").expect_err("no endpoints");
    assert_eq!(refusal.flag, ResponseFlag::Connect);
    assert_eq!(refusal.status, 503);
}

#[test]
fn the_expected_identity_is_the_workloads_own() {
    let mut a = pod("a", &["10.0.0.1"]);
    a.identity = Identity::new("other.domain", "x", "y").expect("valid");
    let index = index([a.into()]);
    let plan = plan(&index, "10.0.0.1:80").expect("a plan");
    let OutboundKind::Hbone(tunnel) = plan.kind else {
        panic!("{plan:?}");
    };
    let names: Vec<String> = tunnel.identities.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["spiffe://other.domain/ns/x/sa/y"]);
}

#[test]
fn an_endpoint_may_be_a_host_s_name() {
    let mut named = pod("db", &[]).serving("ns/db.example.com", &[(80, 5432)]);
    named.hostname = "db.example.com".into();
    named.tunnel_protocol = TunnelProtocol::None;
    let index = index([
        service("ns/db.example.com", &["240.240.0.1", "2001:2::1"]).into(),
        named.into(),
    ]);
    let client = client();
    let known: [&[IpAddr]; 3] = [
        &[],
        &[ip("192.0.2.1")],
        &[ip("192.0.2.1"), ip("2001:db8::1")],
    ];
    let refused = "refused 503 CONNECT";
    for (dialled, known, expected) in [
        ("240.240.0.1:80", None, refused),
        ("240.240.0.1:80", Some(known[0]), refused),
        ("240.240.0.1:80", Some(known[1]), "192.0.2.1:5432"),
        ("240.240.0.1:80", Some(known[2]), "192.0.2.1:5432"),
        ("[2001:2::1]:80", Some(known[2]), "[2001:db8::1]:5432"),
        ("[2001:2::1]:80", Some(known[1]), "192.0.2.1:5432"),
    ] {
        let asked = std::cell::Cell::new(0);
        let hosts = |host: &Arc<str>| {
            assert_eq!(&**host, "db.example.com");
            asked.set(asked.get() + 1);
            known.map(<[_]>::to_vec)
        };
        let outbound = Outbound {
            hosts: &hosts,
            ..outbound(&client, dialled)
        };
        let planned = plan_outbound(&index, &outbound, &mut First);
        let target = match planned.map(|plan| plan.kind) {
            Ok(OutboundKind::Plain { target }) => target.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(Refusal {
                status,
                flag,
                reason,
            }) => {
                assert!(
                    reason.contains("db.example.com, which has no address"),
                    "{reason}"
                );
                format!("refused {status} {flag}")
            }
        };
        assert_eq!(target, expected, "{dialled} {known:?}");
        assert!(asked.get() > 0);
    }
}
