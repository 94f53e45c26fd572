//! What a CONNECT and plaintext lead to, waypoints left aside.

use crate::addr::NamespacedName;
use crate::fixtures::{by_hostname, identity, index, ip, pod, ports, service, sock};
use crate::hbone::proxy_protocol::Header;
use crate::index::Index;
use crate::model::{ApplicationTunnel, Workload};
use crate::plan::{Inbound, InboundPlan, Passthrough, Refusal, plan_inbound, plan_passthrough};

fn local() -> Workload {
    pod("a", &["10.0.0.1", "fd00::1"])
        .serving("ns/web.example", &[(80, 8080)])
        .serving("ns/admin.example", &[(80, 0), (81, 8080), (82, 15008)])
}

fn mesh() -> Index {
    let mut web = service("ns/web", &["10.1.0.1", "fd01::1"]);
    web.key.name = "web.example".into();
    let mut admin = service("ns/admin", &[]);
    admin.key.name = "admin.example".into();
    admin.ports = ports(&[(80, 0), (81, 0), (82, 0)]);
    let mut other = service("ns/other", &["10.1.0.2"]);
    other.key.name = "other.example".into();
    index([
        web.into(),
        admin.into(),
        other.into(),
        local().into(),
        pod("client", &["10.0.0.9"]).into(),
    ])
}

fn connect(index: &Index, local: &Workload, authority: &str) -> Result<InboundPlan, Refusal> {
    let inbound = Inbound {
        local,
        peer: &identity("ns", "client"),
        peer_addr: sock("10.0.0.9:40000"),
        socket_destination: sock("10.0.0.1:15008"),
        authority,
        forwarded_host: None,
        forwarded_for: None,
        caller: None,
        transport: crate::plan::Transport::Tcp,
    };
    plan_inbound(index, &inbound)
}

fn shown(plan: Result<InboundPlan, Refusal>) -> String {
    match plan {
        Ok(plan) => plan.dial.to_string(),
        Err(refusal) => format!("{} {}: {}", refusal.status, refusal.flag, refusal.reason),
    }
}

#[test]
fn a_tunnel_is_agreed_to_only_if_its_authority_leads_to_the_pod() {
    let index = mesh();
    let reads = "the authority of a CONNECT reads IP:PORT or HOST:PORT";
    let own = |port: u16| {
        format!("503 CONNECT: port {port} is the node proxy's own; a tunnel cannot lead to it")
    };
    let cases = [
        ("10.0.0.1:8080", "10.0.0.1:8080".to_owned()),
        ("10.0.0.1:1", "10.0.0.1:1".to_owned()),
        ("[::ffff:10.0.0.1]:8080", "10.0.0.1:8080".to_owned()),
        (
            "10.0.0.2:8080",
            "400 CONNECT: the CONNECT asks for 10.0.0.2 but arrived at 10.0.0.1".to_owned(),
        ),
        (
            "[fd00::1]:8080",
            "400 CONNECT: the CONNECT asks for fd00::1 but arrived at 10.0.0.1".to_owned(),
        ),
        (
            "10.1.0.1:80",
            "400 CONNECT: the CONNECT asks for 10.1.0.1 but arrived at 10.0.0.1".to_owned(),
        ),
        (
            "127.0.0.1:80",
            "400 CONNECT: the CONNECT asks for 127.0.0.1 but arrived at 10.0.0.1".to_owned(),
        ),
        ("10.0.0.1:15001", own(15001)),
        ("10.0.0.1:15006", own(15006)),
        ("10.0.0.1:15008", own(15008)),
        (
            "10.0.0.1:0",
            "503 CONNECT: the authority of the CONNECT has port 0".to_owned(),
        ),
        (
            ":80",
            "503 CONNECT: the authority of the CONNECT names no host".to_owned(),
        ),
        ("10.0.0.1", format!("400 CONNECT: {reads}")),
        ("10.0.0.1:http", format!("400 CONNECT: {reads}")),
        ("", format!("400 CONNECT: {reads}")),
        ("user@10.0.0.1:80", format!("400 CONNECT: {reads}")),
        ("http://10.0.0.1:80", format!("400 CONNECT: {reads}")),
        ("10.0.0.1:80/path", format!("400 CONNECT: {reads}")),
        ("10.0.0.1:70000", format!("400 CONNECT: {reads}")),
        ("web.example:80", "10.0.0.1:8080".to_owned()),
        ("WEB.example.:80", "10.0.0.1:8080".to_owned()),
        ("admin.example:81", "10.0.0.1:8080".to_owned()),
        (
            "admin.example:80",
            "503 CONNECT: ns/a serves admin.example on no port 80".to_owned(),
        ),
        ("admin.example:82", own(15008)),
        (
            "other.example:80",
            "400 CONNECT: ns/a is no endpoint of other.example".to_owned(),
        ),
        (
            "unknown.example:80",
            "503 CONNECT: no service has the hostname unknown.example".to_owned(),
        ),
    ];
    for (authority, expected) in cases {
        let plan = connect(&index, &local(), authority);
        assert_eq!(shown(plan), expected, "{authority:?}");
    }
}

#[test]
fn only_connect_opens_a_tunnel() {
    let refusal = Refusal::method("GET");
    assert_eq!(refusal.status, 400);
    assert_eq!(
        refusal.reason,
        "an HBONE tunnel is opened by CONNECT, not GET"
    );
    assert!(Refusal::method(&"X".repeat(9_999)).reason.len() < 100);
    assert_eq!(Refusal::unknown_workload("ns/a").status, 503);
}

#[test]
fn the_callers_workload_is_believed_only_with_its_identity() {
    let index = mesh();
    let plan = connect(&index, &local(), "10.0.0.1:8080").expect("a plan");
    assert_eq!(
        plan.source.map(|w| w.name.clone()).as_deref(),
        Some("client")
    );
    let inbound = Inbound {
        local: &local(),
        peer: &identity("ns", "someone-else"),
        peer_addr: sock("10.0.0.9:40000"),
        socket_destination: sock("10.0.0.1:15008"),
        authority: "10.0.0.1:8080",
        forwarded_host: None,
        forwarded_for: None,
        caller: None,
        transport: crate::plan::Transport::Tcp,
    };
    let plan = plan_inbound(&index, &inbound).expect("a plan");
    assert_eq!(plan.source, None);
}

#[test]
fn the_service_that_was_meant() {
    let index = mesh();
    let local = local();
    let cases = [
        ("10.0.0.1:8080", None, Some("ns/admin.example")),
        ("10.0.0.1:8080", Some("web.example"), Some("ns/web.example")),
        (
            "10.0.0.1:8080",
            Some("other.example"),
            Some("ns/admin.example"),
        ),
        ("10.0.0.1:9090", None, None),
        (
            "web.example:80",
            Some("admin.example"),
            Some("ns/web.example"),
        ),
    ];
    for (authority, forwarded_host, expected) in cases {
        let inbound = Inbound {
            local: &local,
            peer: &identity("ns", "client"),
            peer_addr: sock("10.0.0.9:40000"),
            socket_destination: sock("10.0.0.1:15008"),
            authority,
            forwarded_host,
            forwarded_for: None,
            caller: None,
            transport: crate::plan::Transport::Tcp,
        };
        let plan = plan_inbound(&index, &inbound).expect("a plan");
        let found: Option<NamespacedName> = plan.service.map(|service| service.key.clone());
        let found = found.map(|key| key.to_string());
        assert_eq!(found.as_deref(), expected, "{authority} {forwarded_host:?}");
    }
}

#[test]
fn what_policies_judge() {
    let plan = connect(&mesh(), &local(), "web.example:80").expect("a plan");
    let peer = identity("ns", "client");
    let facts = plan.facts(Some(&peer), sock("10.0.0.9:40000"));
    assert_eq!(facts.destination, sock("10.0.0.1:8080"));
    assert_eq!(facts.source_ip, ip("10.0.0.9"));
    assert_eq!(facts.source, Some(&peer));
}

#[test]
fn an_application_that_unwraps_tunnels_itself() {
    let mut local = local();
    local.application_tunnel = Some(ApplicationTunnel { port: Some(15088) });
    let index = mesh();
    let header = |destination: &str| Header {
        source: sock("10.0.0.9:40000"),
        destination: sock(destination),
        identity: Some(identity("ns", "client")),
    };
    let cases = [
        (
            "another's address",
            "10.1.0.77:80",
            "10.0.0.1:15088",
            "10.1.0.77:80",
        ),
        ("its own", "10.0.0.1:80", "10.0.0.1:15088", "10.0.0.1:80"),
        (
            "a hostname",
            "web.example:80",
            "10.0.0.1:15088",
            "10.1.0.1:80",
        ),
    ];
    for (case, authority, dial, named) in cases {
        let plan = connect(&index, &local, authority).expect(case);
        assert_eq!(plan.dial, sock(dial), "{case}");
        assert_eq!(plan.proxy_header, Some(header(named)), "{case}");
    }
    assert_eq!(
        shown(connect(&index, &local, "admin.example:81")),
        "503 CONNECT: admin.example has no virtual IP to name in a PROXY protocol header"
    );
    local.application_tunnel = Some(ApplicationTunnel { port: None });
    let plan = connect(&index, &local, "10.1.0.77:80").expect("a plan");
    assert_eq!(plan.dial, sock("10.0.0.1:80"));
}

#[test]
fn a_captured_waypoint_answers_for_what_is_bound_to_it() {
    let gateway = pod("gw", &["10.0.0.1"]).serving("ns/gw", &[]);
    let mut bound = service("ns/bound", &["10.1.0.1", "10.5.0.0/16"]);
    bound.waypoint = Some(by_hostname("ns/gw"));
    let mut own = pod("own", &["10.0.0.2"]);
    own.waypoint = Some(by_hostname("ns/gw"));
    let mesh = index([
        service("ns/gw", &["10.1.0.100"]).into(),
        gateway.clone().into(),
        bound.into(),
        service("ns/free", &["10.1.0.3"]).into(),
        pod("b", &["10.0.0.3"])
            .serving("ns/bound", &[(80, 8080)])
            .into(),
        own.into(),
    ]);
    let cases = [
        ("10.1.0.1:80", true),
        ("10.5.1.1:80", true),
        ("10.0.0.2:80", true),
        ("10.0.0.3:8080", true),
        ("10.0.0.3:9090", false),
        ("10.1.0.3:80", false),
        ("10.9.9.9:80", false),
    ];
    for (authority, taken) in cases {
        let plan = connect(&mesh, &gateway, authority);
        assert_eq!(plan.is_ok(), taken, "{authority}: {plan:?}");
    }
}

#[test]
fn plaintext() {
    let index = mesh();
    let local = local();
    let plan = |destination: &str| {
        let passthrough = Passthrough {
            local: &local,
            peer_addr: sock("10.0.0.9:40000"),
            destination: sock(destination),
            transport: crate::plan::Transport::Tcp,
        };
        plan_passthrough(&index, &passthrough)
    };
    let good = plan("10.0.0.1:8080").expect("a plan");
    assert_eq!(good.dial, sock("10.0.0.1:8080"));
    assert_eq!(good.source.as_ref().map(|w| &*w.name), Some("client"));
    assert_eq!(good.service.as_ref().map(|s| &*s.name), Some("admin"));
    assert_eq!(good.facts(None, sock("10.0.0.9:40000")).source, None);
    for port in [15001, 15006, 15008] {
        assert_eq!(
            shown(plan(&format!("10.0.0.1:{port}"))),
            format!(
                "503 CONNECT: 10.0.0.1:{port} is a port of the node proxy; \
                 plaintext cannot be passed on to it"
            )
        );
    }
}
