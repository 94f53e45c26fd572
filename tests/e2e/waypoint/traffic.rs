//! Shares, mirrors, gRPC, WebSocket, h2c, TCP.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

use super::call::Call;
use super::scene::{CLIENT, http_route, lab, program_pod, route, service};
use crate::fixtures::cluster_ips;
use crate::flows::metric;

const PATIENCE: Duration = Duration::from_secs(10);

/// How many requests for `path` each server has seen.
fn seen(lab: &Lab, path: &str) -> BTreeMap<&'static str, u64> {
    ["v1", "v2", "v3"]
        .into_iter()
        .map(|server| {
            let counts = lab.get(&format!("mesh/{server}"), "http://127.0.0.1:8080/requests");
            (server, counts[path].as_u64().unwrap_or_default())
        })
        .collect()
}

/// Makes `count` requests that must all succeed.
fn send(lab: &Lab, kind: &str, url: &str, count: u32, more: &[&str]) {
    let count = count.to_string();
    let mut arguments = vec![kind, "--json", "-n", &count, "-c", "4"];
    arguments.extend(more);
    arguments.push(url);
    let report = lab.load(CLIENT, &arguments).json();
    assert_eq!(report["errors"]["total"], 0, "{report}");
}

fn within(count: u64, of: u64, share: f64) {
    // Six standard deviations of a binomial: a failure is no bad luck.
    let expected = of as f64 * share;
    let room = 6.0 * (of as f64 * share * (1.0 - share)).sqrt();
    assert!(
        (count as f64 - expected).abs() <= room,
        "{count} of {of}, {expected} expected, {room} to spare"
    );
}

/// MeshHTTPRouteWeight, MeshGRPCRouteWeight.
#[test]
fn shares_are_per_request_on_every_protocol() {
    let lab = lab();
    let split = |port: u16| {
        format!(
            "- backendRefs:\n  - {{name: v1, port: {port}, weight: 70}}\n  - {{name: v2, port: {port}, weight: 30}}\n  \
             - {{name: v3, port: {port}, weight: 0}}"
        )
    };
    lab.apply(&http_route("weights", "echo", &split(80)));
    for (path, more) in [("/one", &[][..]), ("/two", &["--h2", "--streams", "4"])] {
        send(&lab, "http", &format!("http://echo.mesh{path}"), 1000, more);
        let seen = seen(&lab, path);
        assert_eq!(seen["v1"] + seen["v2"], 1000, "{path}: {seen:?}");
        within(seen["v1"], 1000, 0.7);
        assert_eq!(seen["v3"], 0);
    }
    lab.apply(&route(
        "GRPCRoute",
        "mesh",
        "calls",
        "name: echo, port: 7070",
        &split(7070),
    ));
    let before = seen_calls(&lab);
    send(&lab, "grpc", "http://echo.mesh:7070", 500, &[]);
    let after = seen_calls(&lab);
    let got = |server: &str| after[server] - before[server];
    assert_eq!(got("v1") + got("v2"), 500, "{before:?} {after:?}");
    within(got("v1"), 500, 0.7);
}

/// gRPC calls that each server has seen.
fn seen_calls(lab: &Lab) -> BTreeMap<&'static str, u64> {
    ["v1", "v2", "v3"]
        .into_iter()
        .map(|server| {
            let counts = lab.get(&format!("mesh/{server}"), "http://127.0.0.1:8080/requests");
            let all = counts.as_object().cloned().unwrap_or_default();
            let calls = all.iter().filter(|(path, _)| path.starts_with("/ambit"));
            (server, calls.filter_map(|(_, count)| count.as_u64()).sum())
        })
        .collect()
}

#[test]
fn a_mirror_gets_a_copy_and_does_not_matter() {
    let lab = lab();
    let rules = "- filters:\n  - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}\n  \
         - {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}, fraction: {numerator: 1, denominator: 2}}}\n  \
         backendRefs: [{name: v1, port: 8080}]";
    lab.apply(&http_route("mirror", "echo", rules));
    send(
        &lab,
        "http",
        "http://echo.mesh/copied",
        500,
        &["--body-size", "100Ki"],
    );
    let copies = eventually("the copies", PATIENCE, || {
        let seen = seen(&lab, "/copied");
        (seen["v2"] == 500).then_some(seen)
    });
    assert_eq!(copies["v1"], 500);
    within(copies["v3"], 500, 0.5);
    // A mirror that does not answer delays nothing.
    let slow = "- filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 8080}}}]\n  \
         backendRefs: [{name: v1, port: 8080}]";
    lab.apply(&http_route("mirror", "echo", slow));
    let _ = lab.run(["kill", "-n", "mesh", "v2"]);
    let answer = Call::get(CLIENT, "/after").answer(&lab);
    assert_eq!(answer.server(), "v1");
}

/// GRPCRoutes mirror as well: every message of a call, and what comes of the copy is no matter.
#[test]
fn a_mirror_gets_calls_as_well() {
    let lab = lab();
    let rules = "- filters:\n  - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 7070}}}\n  \
         - {type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 7070}, percent: 50}}\n  \
         backendRefs: [{name: v1, port: 7070}]";
    let parent = "name: echo, port: 7070";
    lab.apply(&route("GRPCRoute", "mesh", "mirror", parent, rules));
    let before = seen_calls(&lab);
    let since = |after: &BTreeMap<&'static str, u64>| {
        ["v1", "v2", "v3"].map(|server| after[server] - before[server])
    };
    let url = "http://echo.mesh:7070";
    send(&lab, "grpc", url, 150, &[]);
    send(&lab, "grpc", url, 50, &["--method", "client-stream"]);
    let copies = eventually("the copies", PATIENCE, || {
        let got = since(&seen_calls(&lab));
        (got[1] == 200).then_some(got)
    });
    assert_eq!(copies[0], 200);
    within(copies[2], 200, 0.5);
    let gone = rules.replace("name: v2", "name: refusing");
    let refusing =
        service("mesh", "refusing", "version: v2").replace("targetPort: web", "targetPort: 8099");
    lab.apply(&(refusing + &route("GRPCRoute", "mesh", "mirror", parent, &gone)));
    send(&lab, "grpc", url, 20, &[]);
    assert_eq!(since(&seen_calls(&lab))[..2], [220, 200]);
}

/// A copy's body is streamed: more than any buffer holds arrives, and what a mirror does with it is no matter.
#[test]
fn a_mirror_gets_the_whole_body_or_none_of_the_time() {
    let lab = lab();
    // One takes bodies, one takes connections and nothing more, one ends in the middle.
    let echo = "image: ambit/echo\n    args: [\"--port=8080\", \"--port=hang=9200\", \"--port=reset=9300\"]";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: mirrors, namespace: mesh}\nspec:\n  \
         selector: {app: mirrors}\n  ports:\n  - {name: http-whole, port: 80, targetPort: 8080}\n  \
         - {name: http-hang, port: 81, targetPort: 9200}\n  - {name: http-reset, port: 82, targetPort: 9300}\n";
    lab.apply(&(program_pod("mesh", "mirrors", 8080, echo) + service));
    let to = |port: u16| {
        let filter = format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: mirrors, port: {port}}}}}}}"
        );
        let rules = format!("- filters: [{filter}]\n  backendRefs: [{{name: v1, port: 8080}}]");
        lab.apply(&http_route("mirror", "echo", &rules));
    };
    let upload = |path: &str, count: u32| {
        let url = format!("http://echo.mesh{path}");
        send(
            &lab,
            "http",
            &url,
            count,
            &["--body-size", "4Mi", "--timeout", "20s"],
        );
    };
    to(80);
    // No faster than anybody takes it: a mirror may be a mebibyte behind.
    let paced =
        "head -c 4M /dev/zero | curl -sf --limit-rate 1M -T - -o /dev/null http://echo.mesh/whole";
    let _ = lab.exec(CLIENT, &["bash", "-c", paced]).success();
    let received = || {
        let node = "node-2";
        let labels = [
            ("reporter", "destination"),
            ("destination_workload", "mirrors"),
        ];
        metric(&lab, node, "istio_tcp_received_bytes_total", &labels)
    };
    let all = f64::from(4 << 20);
    eventually("the body at the mirror", PATIENCE, || {
        (received() >= all).then_some(())
    });
    // None takes as long as a copy may, whoever is mirrored to.
    for port in [81, 82] {
        to(port);
        upload(&format!("/mirror-{port}"), 8);
    }
    assert_eq!(
        seen(&lab, "/mirror-81")["v1"] + seen(&lab, "/mirror-82")["v1"],
        16
    );
}

#[test]
fn other_protocols_pass_through_as_well() {
    let lab = lab();
    // gRPC: every kind of call, trailers included.
    for method in ["unary", "server-stream", "client-stream", "bidi"] {
        let more = ["--method", method];
        send(&lab, "grpc", "http://v1.mesh:7070", 20, &more);
    }
    send(&lab, "websocket", "http://v2.mesh/", 50, &[]);
    let clear = Call::get(CLIENT, "v2.mesh:8081/").h2().answer(&lab);
    assert_eq!(clear.received()["protocol"], "HTTP/2");
    let plain = Call::get(CLIENT, "v2.mesh/").h2().answer(&lab);
    assert_eq!(plain.server(), "v2");
    // A raw port, where the server might speak first.
    let report = lab.load(CLIENT, &["rr", "--json", "-n", "50", "v1.mesh:9090"]);
    assert_eq!(report.json()["errors"]["total"], 0);
}

/// HTTPRouteBackendProtocolH2C, HTTPRouteBackendProtocolWebSocket: what the client speaks is another matter.
#[test]
fn a_port_of_a_backend_says_what_it_speaks() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /h2c}}]\n  backendRefs: [{name: v1, port: 8081}]\n\
         - matches: [{path: {type: PathPrefix, value: /socket}}]\n  backendRefs: [{name: v2, port: 8082}]";
    lab.apply(&http_route("protocols", "echo", rules));
    let answer = Call::get(CLIENT, "/h2c?a=b").answer(&lab);
    assert_eq!(answer.server(), "v1", "{answer:?}");
    assert_eq!(answer.received()["protocol"], "HTTP/2");
    assert_eq!(answer.received()["target"], "/h2c?a=b");
    assert_eq!(answer.received()["authority"], "echo.mesh");
    send(&lab, "websocket", "http://echo.mesh/socket", 50, &[]);
    let seen = seen(&lab, "/socket");
    assert_eq!(
        (seen["v1"], seen["v2"]),
        (0, 4),
        "one handshake a connection"
    );
}

/// TCPRouteWeightedRouting, TLSRouteSimpleSameNamespace: by connection, and by the name that is asked for.
#[test]
fn connections_are_routed_by_weight_and_by_name() {
    let lab = lab();
    // Bytes of connections that are over; of a probe's there are none.
    let counts = || ["v1", "v2", "v3"].map(|server| raw_bytes(&lab, server));
    let since = |before: [u64; 3]| {
        let now = counts();
        [0, 1, 2].map(|server| now[server] - before[server])
    };
    let rules = "- backendRefs:\n  - {name: v1, port: 9090, weight: 70}\n  - {name: v2, port: 9090, weight: 0}\n  \
                 - {name: v3, port: 9090, weight: 30}";
    lab.apply(&route(
        "TCPRoute",
        "mesh",
        "raw",
        "name: v1, port: 9090",
        rules,
    ));
    let before = counts();
    let load = [
        "rr",
        "--json",
        "-n",
        "500",
        "-c",
        "4",
        "--new-connections",
        "v1.mesh:9090",
    ];
    assert_eq!(lab.load(CLIENT, &load).json()["errors"]["total"], 0);
    let got = eventually("500 requests of 64 bytes", PATIENCE, || {
        let got = since(before);
        (got.iter().sum::<u64>() == 500 * 64).then_some(got)
    });
    assert_eq!(got[1], 0, "{got:?}");
    within(got[0] / 64, 500, 0.7);

    let named = |name: &str, hostname: &str, server: &str| {
        let rules = format!("- backendRefs: [{{name: {server}, port: 9443}}]");
        let hostnames = format!("  hostnames: [\"{hostname}\"]\n  rules:");
        route("TLSRoute", "mesh", name, "name: echo, port: 9443", &rules)
            .replace("  rules:", &hostnames)
    };
    lab.apply(
        &(named("one", "one.example", "v1")
            + &named("all", "*.example", "v2")
            + &named("deep", "*.deep.example", "v3")),
    );
    for (name, server) in [
        ("one.example", 0),
        ("ONE.example", 0),
        ("two.example", 1),
        ("a.deep.example", 2),
    ] {
        let before = counts();
        let to = format!("{name}:9443:{}", cluster_ips(&lab, "mesh/echo")[0]);
        let url = format!("https://{name}:9443/");
        // The server sends back what it gets, which is no handshake: where it went is what counts.
        let ran = lab.exec(
            CLIENT,
            &["curl", "-sk", "--max-time", "5", "--resolve", &to, &url],
        );
        assert_ne!(ran.code, 0, "{name}: {ran}");
        let got = eventually(name, PATIENCE, || {
            let got = since(before);
            (got != [0; 3]).then_some(got)
        });
        for at in 0..3 {
            assert_eq!(got[at] > 0, at == server, "{name}: {got:?}");
        }
    }
}

fn raw_bytes(lab: &Lab, server: &str) -> u64 {
    let stats = lab.get(&format!("mesh/{server}"), "http://127.0.0.1:8080/stats");
    stats["echo"]["received_bytes"].as_u64().unwrap_or_default()
}
