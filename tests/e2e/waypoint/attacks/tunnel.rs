//! HBONE to a waypoint by somebody who has a certificate of the mesh and plays by no rules.

use ambit_lab::harness::program;

use super::frames::{
    CONTINUATION, DATA, END_STREAM, Field, HEADERS, Outcome, PING, RESET, SETTINGS, block, frame,
    headers, hello,
};
use super::scene::{Neighbours, Scene, scene};
use crate::fixtures::{addresses, cluster_ips, host};
use crate::flows::{flow, flows, identity, metric};
use crate::processes::{holds, process};

fn connect(stream: u32, authority: &str, more: &[Field<'_>]) -> Vec<u8> {
    let mut fields = vec![(":method", "CONNECT"), (":authority", authority)];
    fields.extend(more);
    headers(stream, 0, &block(&fields))
}

fn service(scene: &Scene, name: &str, port: u16) -> String {
    format!("{}:{port}", cluster_ips(&scene.lab, name)[0])
}

#[test]
fn a_tunnel_leads_to_what_is_bound_alone() {
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let waypoint = addresses(&scene.lab, scene.waypoint())[0].clone();
    let other = service(&scene, "elsewhere/other", 80);
    let stranger = format!("{}:80", addresses(&scene.lab, "outside/client")[0]);
    let own = |port: u16| format!("{waypoint}:{port}");
    let mut wrong = Vec::new();
    for (name, authority, wanted) in [
        ("what is bound", service(&scene, "mesh/echo", 80), 200),
        ("its name", "echo.mesh.svc.cluster.local:80".to_owned(), 200),
        ("a service that is not bound", other, 404),
        (
            "its name",
            "other.elsewhere.svc.cluster.local:80".to_owned(),
            404,
        ),
        (
            "a service that is not",
            "none.mesh.svc.cluster.local:80".to_owned(),
            404,
        ),
        ("a port that is not", service(&scene, "mesh/echo", 81), 404),
        ("port 0", service(&scene, "mesh/echo", 0), 400),
        ("no port", "echo.mesh.svc.cluster.local".to_owned(), 400),
        ("a pod outside", stranger, 404),
        ("loopback", "127.0.0.1:15000".to_owned(), 404),
        ("loopback of IPv6", "[::1]:15000".to_owned(), 404),
        ("the waypoint's own administration", own(15000), 404),
        ("the waypoint's own tunnels", own(15008), 404),
        ("link-local metadata", "169.254.169.254:80".to_owned(), 404),
        ("the internet", "example.com:80".to_owned(), 404),
        ("an address nobody has", "192.0.2.1:80".to_owned(), 404),
    ] {
        let mut wire = scene.tls(scene.waypoint());
        wire.send(&[hello(), connect(1, &authority, &[])].concat());
        let outcome = wire.outcome(name, 1);
        if outcome != Outcome::Status(wanted) {
            wrong.push(format!("{name} {authority}: {outcome:?}, wanted {wanted}"));
        }
        neighbours.check(name);
    }
    for (name, fields) in [
        (
            "GET",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "echo.mesh:80"),
                (":path", "/"),
            ],
        ),
        (
            "CONNECT with a path",
            vec![
                (":method", "CONNECT"),
                (":scheme", "https"),
                (":authority", "echo.mesh:80"),
                (":path", "/"),
            ],
        ),
        (
            "CONNECT with a protocol",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", "echo.mesh:80"),
                (":path", "/"),
            ],
        ),
        ("CONNECT to nothing", vec![(":method", "CONNECT")]),
        (
            "CONNECT to an empty name",
            vec![(":method", "CONNECT"), (":authority", "")],
        ),
        (
            "CONNECT with user information",
            vec![
                (":method", "CONNECT"),
                (":authority", "x@echo.mesh.svc.cluster.local:80"),
            ],
        ),
    ] {
        let mut wire = scene.tls(scene.waypoint());
        wire.send(&[hello(), headers(1, 0, &block(&fields))].concat());
        let outcome = wire.outcome(name, 1);
        if !matches!(outcome, Outcome::Status(400..500) | Outcome::Reset(_)) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
        neighbours.check(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The caller is who the certificate says, whatever is said beside it.
#[test]
fn only_waypoints_speak_for_others() {
    let scene = scene();
    let admin = identity("mesh", "admin");
    let baggage = "k8s.namespace.name=mesh,service.name=admin,k8s.deployment.name=admin";
    let claims: [Field<'_>; 4] = [
        ("x-ambit-caller", &admin),
        ("forwarded", "for=\"10.9.9.9:1\""),
        (
            "x-forwarded-client-cert",
            "URI=spiffe://cluster.local/ns/mesh/sa/admin",
        ),
        ("baggage", baggage),
    ];
    let ask = |pod: &str, authority: &str| {
        let mut wire = scene.tls(pod);
        wire.send(&[hello(), connect(1, authority, &claims)].concat());
        assert_eq!(wire.outcome(pod, 1), Outcome::Status(200));
        let request = "GET /claims HTTP/1.1\r\nHost: echo.mesh\r\nConnection: close\r\n\r\n";
        wire.send(&frame(DATA, END_STREAM, 1, request.as_bytes()));
        wire.take("the answer", |seen| {
            let text = String::from_utf8_lossy(seen).into_owned();
            text.contains("\"target\"").then_some((text, 0))
        })
        .expect("an answer")
    };
    let answer = ask(scene.waypoint(), &service(&scene, "mesh/echo", 80));
    let own = identity("mesh", "client");
    assert!(answer.contains(&format!("URI={own}")), "{answer}");
    assert!(
        !answer.contains("admin") && !answer.contains("10.9.9.9"),
        "{answer}"
    );
    // Neither does a node's proxy believe it, or let anybody but its waypoint to a pod that has one.
    let at = |pod: &str| format!("{}:8080", addresses(&scene.lab, pod)[0]);
    let mut wire = scene.tls("mesh/v1");
    wire.send(&[hello(), connect(1, &at("mesh/v1"), &claims)].concat());
    assert_eq!(wire.outcome("around the waypoint", 1), Outcome::Status(401));
    let _ = ask("elsewhere/other", &at("elsewhere/other"));
    let fields = [
        ("direction", "inbound"),
        ("src.identity", &own),
        ("dst.workload", "other"),
    ];
    let _ = flow(&scene.lab, "node-1", &fields);
    for node in ["node-1", "node-2"] {
        for flow in flows(&scene.lab, node) {
            assert_ne!(flow.text("src.identity"), admin, "{flow:?}");
        }
    }
}

#[test]
fn a_certificate_names_one_workload() {
    let scene = scene();
    let peer = program("peer").display().to_string();
    let to = format!(
        "{}:15008",
        host(&addresses(&scene.lab, scene.waypoint())[0])
    );
    let authority = service(&scene, "mesh/echo", 80);
    let good = identity("mesh", "client");
    let run = |more: &[&str]| {
        let argv = [&[&*peer, "tunnel", &to, "--authority", &authority], more].concat();
        scene.lab.exec("outside/thief", &argv).json()
    };
    let answer = run(&[
        "--identity",
        &good,
        "--send",
        "GET / HTTP/1.1\r\nhost: echo.mesh\r\nconnection: close\r\n\r\n",
    ]);
    assert_eq!(answer["status"], 200, "{answer}");
    let second = identity("mesh", "other");
    for (name, arguments) in [
        ("none", &[][..]),
        ("two", &["--identity", &good, "--identity", &second]),
        (
            "more of a path",
            &["--identity", "spiffe://cluster.local/ns/mesh/sa/client/x"],
        ),
        (
            "less of a path",
            &["--identity", "spiffe://cluster.local/ns/mesh"],
        ),
        (
            "an escaped slash",
            &["--identity", "spiffe://cluster.local/ns/mesh/sa/client%2fx"],
        ),
        (
            "another trust domain",
            &["--identity", "spiffe://other.domain/ns/mesh/sa/client"],
        ),
        (
            "another scheme",
            &["--identity", "https://cluster.local/ns/mesh/sa/client"],
        ),
        ("another root", &["--identity", &good, "--own-root"]),
        ("expired", &["--identity", &good, "--expired"]),
    ] {
        let refused = run(arguments);
        assert!(
            refused["status"].is_null() && refused["error"].is_string(),
            "{name}: {refused}"
        );
    }
}

/// What is sent, the stream that is looked at and what may become of it.
type Flood<'a> = (&'a str, Vec<u8>, u32, &'a dyn Fn(Outcome) -> bool);

/// What was not as it should be when a peer floods its own HBONE connection to a pod, by which it asks for this authority.
fn floods(scene: &Scene, neighbours: &mut Neighbours, pod: &str, authority: &str) -> Vec<String> {
    const MANY: usize = 10_000;
    let nowhere = "192.0.2.1:80";
    let cancel = 8u32.to_be_bytes();
    let streams = || (0..MANY as u32).map(|number| 1 + 2 * number);
    let resets = |authority: &str| -> Vec<u8> {
        streams()
            .flat_map(|it| [connect(it, authority, &[]), frame(RESET, 0, it, &cancel)].concat())
            .collect()
    };
    let open = frame(
        HEADERS,
        0,
        1,
        &block(&[(":method", "CONNECT"), (":authority", authority)]),
    );
    let then = |flood: Vec<u8>| [flood, connect(1, authority, &[])].concat();
    let ended = |it: Outcome| matches!(it, Outcome::Goaway(_) | Outcome::Closed);
    let fine = |it: Outcome| it == Outcome::Status(200);
    let refused = |it: Outcome| it != Outcome::Status(200);
    let rows: [Flood<'_>; 7] = [
        ("tunnels that are reset", resets(authority), 99_999, &ended),
        (
            "refused tunnels that are reset",
            resets(nowhere),
            99_999,
            &ended,
        ),
        (
            "empty continuations",
            [open.clone(), frame(CONTINUATION, 0, 1, &[]).repeat(MANY)].concat(),
            1,
            &ended,
        ),
        (
            "full continuations",
            [
                open,
                frame(CONTINUATION, 0, 1, &block(&[("x", &"a".repeat(1_000))])).repeat(MANY),
            ]
            .concat(),
            1,
            &refused,
        ),
        (
            "pings",
            then(frame(PING, 0, 0, &[0; 8]).repeat(MANY)),
            1,
            &fine,
        ),
        (
            "settings",
            then(frame(SETTINGS, 0, 0, &[]).repeat(MANY)),
            1,
            &fine,
        ),
        (
            "a head of 66 KB",
            connect(1, authority, &[("x", &"a".repeat(66_000))]),
            1,
            &refused,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, stream, fits) in rows {
        let mut wire = scene.tls(pod);
        wire.flood([hello(), bytes].concat());
        let outcome = wire.outcome(name, stream);
        if !fits(outcome) {
            wrong.push(format!("{pod}, {name}: {outcome:?}"));
        }
        neighbours.check(name);
    }
    wrong
}

#[test]
fn floods_of_tunnels_cost_their_own_connection() {
    const GROWTH: u64 = 64 << 20;
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let before = scene.process();
    let authority = service(&scene, "mesh/echo", 80);
    let wrong = floods(&scene, &mut neighbours, scene.waypoint(), &authority);
    assert_eq!(wrong, [""; 0]);
    let after = scene.process();
    assert_eq!(after.id, before.id);
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown < GROWTH, "{before:?}, {after:?}");
}

/// The proxy of a node is the one of the neighbours as well.
#[test]
fn floods_of_a_node_proxy_cost_their_own_connection() {
    // In KiB.
    const GROWTH: u64 = 64 << 10;
    const PROXY: &str = "ztunnel/node-1";
    let scene = scene();
    let mut neighbours = Neighbours::of(&scene);
    let lab = &scene.lab;
    let pid = process(lab, PROXY);
    let limits = || {
        ["headers", "resets", "frames"].map(|limit| {
            let reached = "ambit_hbone_limits_reached_total";
            metric(lab, "node-1", reached, &[("limit", limit)])
        })
    };
    let (before, [_, resident]) = (limits(), holds(lab, "node-1", &pid));
    let authority = format!("{}:8080", addresses(lab, "elsewhere/other")[0]);
    let wrong = floods(&scene, &mut neighbours, "elsewhere/other", &authority);
    assert_eq!(wrong, [""; 0]);
    assert_eq!(process(lab, PROXY), pid);
    let [_, most] = holds(lab, "node-1", &pid);
    assert!(most < resident + GROWTH, "{resident} KiB, and then {most}");
    for (limit, (before, after)) in before.into_iter().zip(limits()).enumerate() {
        assert!(after > before, "limit {limit}: {before}, then {after}");
    }
}
