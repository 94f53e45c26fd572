//! DestinationRules: who gets the next request, who gets a rest, and how much a service gets at once.

use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually};
use serde_json::Value;

use super::call::Call;
use super::rows::backend;
use super::scene::{CLIENT, CONSUMER, OTHER, http_route, lab, server, service};
use super::told::so_many_lines;

const PATIENCE: Duration = Duration::from_secs(20);

fn rule(service: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {service}, namespace: mesh}}\n\
         spec: {{host: {service}, trafficPolicy: {{{policy}}}}}\n"
    )
}

/// How many requests for a path a server has seen.
fn seen(lab: &Lab, server: &str, path: &str) -> u64 {
    let counts = lab.get(&format!("mesh/{server}"), "http://127.0.0.1:8080/requests");
    counts[path].as_u64().unwrap_or_default()
}

/// So many requests over so many connections at once.
fn requests(lab: &Lab, count: u32, at_once: u32, url: &str) -> Value {
    let [count, at_once] = [count, at_once].map(|it| it.to_string());
    let url = format!("http://{url}");
    let arguments = ["http", "--json", "-n", &count, "-c", &at_once, &url];
    let report = lab.load(CLIENT, &arguments);
    serde_json::from_str(&report.stdout).unwrap_or_else(|error| panic!("{error}: {report}"))
}

fn failed(report: &Value) -> u64 {
    report["errors"]["total"].as_u64().expect("a number")
}

#[test]
fn requests_go_round_or_stay_together() {
    let lab = lab();
    lab.apply(&rule("echo", "loadBalancer: {simple: ROUND_ROBIN}"));
    assert_eq!(failed(&requests(&lab, 20, 1, "echo.mesh/round")), 0);
    let both = ["v1", "v2"].map(|server| seen(&lab, server, "/round"));
    assert_eq!(both, [10, 10]);

    let url = |user: u32| format!("/hashed?a=b&user=user-{user}");
    let plain = |_| Call::get(CLIENT, "/hashed");
    let keys: [(&str, &dyn Fn(u32) -> Call); 3] = [
        ("httpHeaderName: x-user", &|user| {
            plain(user).header("x-user", &format!("user-{user}"))
        }),
        ("httpCookie: {name: user}", &|user| {
            plain(user).header("cookie", &format!("a=b; user=user-{user}; c=d"))
        }),
        ("httpQueryParameterName: user", &|user| {
            Call::get(CLIENT, &url(user))
        }),
    ];
    for (key, call) in keys {
        let hash = format!("loadBalancer: {{consistentHash: {{{key}}}}}");
        lab.apply(&rule("echo", &hash));
        let mut servers = Vec::new();
        for user in 0..16 {
            let server = call(user).answer(&lab).server();
            for _ in 0..3 {
                assert_eq!(call(user).answer(&lab).server(), server, "{key}: {user}");
            }
            servers.push(server);
        }
        // One of 32,768 rings would give all of them to one server.
        servers.sort_unstable();
        servers.dedup();
        assert_eq!(servers, ["v1", "v2"], "{key}");
    }

    // Whatever a client says, it calls from where it calls.
    let source = "loadBalancer: {consistentHash: {useSourceIp: true}}";
    lab.apply(&rule("echo", source));
    for client in [CLIENT, OTHER, CONSUMER] {
        let server = |user: u32| Call::get(client, &url(user)).answer(&lab).server();
        let home = server(0);
        assert!((1..9).all(|user| server(user) == home), "{client}");
    }
}

/// `sessionAffinity: ClientIP` of a Service that is bound to a waypoint.
#[test]
fn clients_stay_where_their_service_wants_them_to() {
    let lab = lab();
    // Two ports of the same server, one of which the waypoint does not know to be HTTP.
    lab.apply(
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: stay, namespace: mesh}\n\
         spec:\n  sessionAffinity: ClientIP\n  selector: {app: echo}\n  ports:\n  \
         - {name: http, port: 80, targetPort: web}\n  - {name: tcp, port: 90, targetPort: web}\n",
    );
    for client in [CLIENT, OTHER, CONSUMER] {
        let server = |url| Call::get(client, url).answer(&lab).server();
        let home = server("stay.mesh/");
        for url in ["stay.mesh/", "stay.mesh:90/"] {
            for _ in 0..4 {
                assert_eq!(server(url), home, "{client} {url}");
            }
        }
    }
    // However much it sends at once.
    let home = Call::get(CLIENT, "stay.mesh/").answer(&lab).server();
    let report = requests(&lab, 80, 40, "stay.mesh/many?delay=50ms");
    assert_eq!((failed(&report), seen(&lab, &home, "/many")), (0, 80));
}

#[test]
fn who_fails_again_and_again_gets_a_rest() {
    let lab = lab();
    let group =
        |server: String, name: &str| server.replace(&format!("group: {name}"), "group: mixed");
    let bad = server("mesh", "bad", "node-1")
        .replace("[\"--port=8080\"", "[\"--status=500\", \"--port=8080\"");
    let outlier = "loadBalancer: {simple: ROUND_ROBIN}, \
         outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 10m, maxEjectionPercent: 50}";
    lab.apply(
        &(group(bad, "bad")
            + &group(server("mesh", "good", "node-2"), "good")
            + &service("mesh", "mixed", "group: mixed")
            + &rule("mixed", outlier)),
    );
    assert_eq!(failed(&requests(&lab, 40, 1, "mixed.mesh/first")), 3);
    assert_eq!(seen(&lab, "bad", "/first"), 3);
    assert_eq!(failed(&requests(&lab, 40, 4, "mixed.mesh/then")), 0);
    assert_eq!(seen(&lab, "bad", "/then"), 0);
    assert_eq!(seen(&lab, "good", "/then"), 40);
}

#[test]
fn what_is_more_than_a_service_may_get_is_refused_or_waits() {
    let lab = lab();
    let pool = |service: &str, pool: &str| rule(service, &format!("connectionPool: {{{pool}}}"));
    lab.apply(
        &(pool("v1", "http: {http2MaxRequests: 2}")
            + &pool(
                "v2",
                "tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}",
            )
            + &pool("v3", "tcp: {maxConnections: 1}")),
    );
    for (service, why) in [
        ("v1", "2 requests in flight, its limit"),
        ("v2", "1 requests waiting for a connection, its limit"),
    ] {
        let path = format!("/{service}");
        let report = requests(&lab, 24, 6, &format!("{service}.mesh{path}?delay=300ms"));
        let refused = failed(&report);
        assert!((4..24).contains(&refused), "{service}: {report}");
        assert_eq!(seen(&lab, service, &path), 24 - refused, "{service}");
        let parts = [&*format!("GET {path}?"), "\" 503 UO "];
        let told = so_many_lines(&lab, refused as usize, &parts);
        assert!(told.iter().all(|it| it.contains(why)), "{told:#?}");
        // Nothing stays counted.
        assert_eq!(
            failed(&requests(&lab, 4, 1, &format!("{service}.mesh/after"))),
            0
        );
    }
    // One after the other.
    let start = Instant::now();
    assert_eq!(failed(&requests(&lab, 8, 4, "v3.mesh/v3?delay=100ms")), 0);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(800), "{took:?}");
}

/// A connection that is not HTTP is one of the connections.
#[test]
fn connections_are_limited_as_well() {
    let lab = lab();
    lab.apply(&rule("v1", "connectionPool: {tcp: {maxConnections: 2}}"));
    let held = |count: &str| {
        let hold = ["hold", "--json", "-c", count, "--for", "1s", "v1.mesh:9090"];
        lab.load(CLIENT, &hold)
    };
    assert_eq!(held("2").code, 0);
    let report = held("5");
    assert_ne!(report.code, 0, "{report}");
    eventually("nothing stays counted", PATIENCE, || {
        (held("2").code == 0).then_some(())
    });
}

/// An attempt that is over does not stand in the way of the next one.
#[test]
fn a_limit_leaves_room_for_another_attempt() {
    let lab = lab();
    let rules = format!(
        "- retry: {{codes: [500], attempts: 2, backoff: 10ms}}\n  {}",
        backend("v1")
    );
    let limits = "connectionPool: {tcp: {maxConnections: 1}, http: {http2MaxRequests: 1}}";
    lab.apply(&(http_route("again", "echo", &rules) + &rule("v1", limits)));
    let answer = Call::get(CLIENT, "/again?fail=2&status=500").answer(&lab);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(seen(&lab, "v1", "/again"), 3);
}
