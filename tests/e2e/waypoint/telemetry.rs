//! What a waypoint counts and logs: every request once, with who, what and why.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_lab::harness::eventually;
use serde_json::json;

use super::call::Call;
use super::rows::get;
use super::scene::{CLIENT, OTHER, gateway, http_route, lab, manifests, server, service};
use super::told::{Labels, WAYPOINT, line, lines, series, so_many_lines};
use crate::flows::{identity, start};

const PATIENCE: Duration = Duration::from_secs(10);

/// The labels that a row of [`every_request_is_counted_and_told`] gives, in this order.
const NAMES: [&str; 10] = [
    "source_workload",
    "source_principal",
    "destination_service",
    "destination_workload",
    "destination_principal",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

fn row(labels: &Labels) -> [String; 10] {
    NAMES.map(|name| labels.get(name).cloned().unwrap_or_default())
}

#[test]
fn every_request_is_counted_and_told() {
    let lab = lab();
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: closed, namespace: mesh}\nspec:\n  \
         targetRefs: [{kind: Service, group: \"\", name: v1}]\n  action: DENY\n  \
         rules: [{to: [{operation: {paths: [/closed]}}]}]\n";
    lab.apply(&(deny.to_owned() + &service("mesh", "nobody", "version: nobody")));

    let get = |from: &'static str, url: &str| Call::get(from, url).answer(&lab).status;
    for _ in 0..3 {
        assert_eq!(get(CLIENT, "v1.mesh/open"), 200);
    }
    let posted = Call::get(OTHER, "v1.mesh/open?size=1000").data("12345");
    assert_eq!(posted.h2().answer(&lab).status, 200);
    for _ in 0..2 {
        assert_eq!(get(OTHER, "v1.mesh/closed"), 403);
    }
    // The application's own failure has no flag.
    assert_eq!(get(CLIENT, "v1.mesh/broken?status=500"), 500);
    assert_eq!(get(CLIENT, "nobody.mesh/gone"), 503);
    let calls = |more: &[&str]| {
        let mut arguments = vec!["grpc", "--json", "-n", "1"];
        arguments.extend(more);
        arguments.push("http://v1.mesh:7070");
        lab.load(CLIENT, &arguments).code
    };
    assert_eq!(calls(&[]), 0);
    let fails = ["-H", "x-echo-status: 500", "-H", "x-echo-grpc-status: 5"];
    assert_ne!(calls(&fails), 0);

    let [client, other, v1] = ["client", "other", "v1"];
    let spiffe = |account: &str| identity("mesh", account);
    let expected = |from: &str, to: Option<&str>, service: &str, rest: [&str; 4]| {
        let [protocol, code, grpc, flags] = rest.map(ToOwned::to_owned);
        [
            from.to_owned(),
            spiffe(from),
            format!("{service}.mesh.svc.cluster.local"),
            to.unwrap_or("unknown").to_owned(),
            to.map_or("unknown".to_owned(), spiffe),
            protocol,
            code,
            grpc,
            flags,
            "mutual_tls".to_owned(),
        ]
    };
    let wanted = BTreeMap::from([
        (expected(client, Some(v1), v1, ["http", "200", "", "-"]), 3),
        (expected(other, Some(v1), v1, ["http", "200", "", "-"]), 1),
        (expected(other, None, v1, ["http", "403", "", "RBAC"]), 2),
        (expected(client, Some(v1), v1, ["http", "500", "", "-"]), 1),
        (
            expected(client, None, "nobody", ["http", "503", "", "UH"]),
            1,
        ),
        (expected(client, Some(v1), v1, ["grpc", "200", "0", "-"]), 1),
        (expected(client, Some(v1), v1, ["grpc", "200", "5", "-"]), 1),
    ]);
    let told = eventually("every request is counted", PATIENCE, || {
        let all = series(&lab, "istio_requests_total");
        (all.iter().map(|it| it.1).sum::<f64>() >= 10.0).then_some(all)
    });
    for (labels, _) in &told {
        assert_eq!(labels["reporter"], "waypoint", "{labels:?}");
    }
    let found: BTreeMap<_, _> = told.iter().map(|it| (row(&it.0), it.1 as u32)).collect();
    assert_eq!(found, wanted);

    // Each request is in each histogram, with the bytes of its bodies.
    for (metric, sum) in [
        ("istio_request_duration_milliseconds", None),
        ("istio_request_bytes", Some(5.0)),
        ("istio_response_bytes", Some(1000.0)),
    ] {
        let counts = series(&lab, &format!("{metric}_count"));
        let counts: BTreeMap<_, _> = counts.iter().map(|it| (row(&it.0), it.1 as u32)).collect();
        assert_eq!(counts, wanted, "{metric}");
        let sums = series(&lab, &format!("{metric}_sum"));
        let of_post = sums
            .iter()
            .find(|it| it.0["source_workload"] == other && it.0["response_code"] == "200");
        let of_post = of_post.expect("a series").1;
        assert!(sum.is_none_or(|sum| sum == of_post), "{metric}: {of_post}");
    }

    let denied = "\" 403 RBAC direct_response \"";
    for line in so_many_lines(&lab, 2, &["/closed"]) {
        assert!(line.contains(denied), "{line}");
        assert!(line.contains("mesh/closed"), "{line}");
        assert!(line.contains(&spiffe(other)), "{line}");
    }
    let gone = line(&lab, &["/gone"]);
    assert!(gone.contains("\" 503 UH direct_response \""), "{gone}");
    assert!(gone.contains("nobody.mesh.svc.cluster.local"), "{gone}");
    let broken = line(&lab, &["/broken"]);
    assert!(broken.contains("\" 500 - via_upstream \"-\""), "{broken}");
}

/// What is not HTTP: every connection once, with the bytes it carried.
#[test]
fn every_relayed_connection_is_counted_and_told() {
    let lab = lab();
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: raw, namespace: mesh}\nspec:\n  \
         targetRefs: [{kind: Service, group: \"\", name: v2}]\n  action: DENY\n  \
         rules: [{to: [{operation: {ports: [\"9090\"]}}]}]\n";
    lab.apply(&(deny.to_owned() + &service("mesh", "nobody", "version: nobody")));
    let talk = |to: &str| lab.load(CLIENT, &["rr", "--json", "-n", "10", to]);
    assert_eq!(talk("v1.mesh:9090").json()["errors"]["total"], 0);
    for refused in ["v2.mesh:9090", "nobody.mesh:9090"] {
        assert_ne!(talk(refused).code, 0, "{refused}");
    }
    let [client, v1] = ["client", "v1"].map(|it| identity("mesh", it));
    for (service, flag, parts) in [
        ("v1", "-", [&*v1, "istio_tcp_connections_closed_total"]),
        (
            "v2",
            "RBAC",
            ["unknown", "istio_tcp_connections_failed_total"],
        ),
        (
            "nobody",
            "UH",
            ["unknown", "istio_tcp_connections_failed_total"],
        ),
    ] {
        let [principal, metric] = parts;
        let wanted = [
            ("reporter", "waypoint"),
            ("source_principal", &*client),
            ("destination_principal", principal),
            ("request_protocol", "tcp"),
            ("response_flags", flag),
        ];
        let name = format!("{service}.mesh.svc.cluster.local");
        let one = |metric: &str| {
            let all = series(&lab, metric);
            let mut mine = all
                .into_iter()
                .filter(|it| it.0["destination_service"] == name && it.0["response_flags"] == flag);
            mine.next()
        };
        // Who is refused tries again, with each of its requests.
        let parts = [&*format!("\"- - -\" 0 {flag} "), &name, &client];
        let what = format!("as many lines as {metric} of {service}");
        let (labels, lines) = eventually(&what, PATIENCE, || {
            let (labels, count) = one(metric)?;
            let lines = lines(&lab, &parts);
            (lines.len() as f64 == count).then_some((labels, lines))
        });
        let line = &lines[0];
        for (label, value) in wanted {
            assert_eq!(labels[label], value, "{service}: {label}");
        }
        if flag == "-" {
            for bytes in [
                "istio_tcp_received_bytes_total",
                "istio_tcp_sent_bytes_total",
            ] {
                assert_eq!(one(bytes).map(|it| it.1), Some(640.0), "{bytes}");
            }
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(line.contains(" 640 640 "), "{line}");
        }
    }
}

/// What a client says of itself does not end a field or a line.
#[test]
fn nothing_a_client_sends_forges_a_line() {
    let lab = lab();
    let agent = "x\" 200 - via_upstream \"-\\";
    let call = Call::get(CLIENT, "v1.mesh/forged?%0a%22").header("user-agent", agent);
    assert_eq!(call.answer(&lab).status, 200);
    let line = line(&lab, &["/forged?"]);
    assert!(
        line.contains(r#""GET /forged?%0a%22 HTTP/1.1" 200 - "#),
        "{line}"
    );
    assert!(line.contains(r#""x\" 200 - via_upstream \"-\\""#), "{line}");
}

/// What the waypoint answers by itself: the status, the flag, and the reason in the log.
#[test]
fn every_refusal_says_why() {
    let lab = lab();
    let rules = "- matches: [{path: {type: PathPrefix, value: /missing}}]\n  backendRefs: [{name: gone, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /empty}}]\n  backendRefs: [{name: empty, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /refusing}}]\n  backendRefs: [{name: refusing, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /broken}}]\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /slow}}]\n  timeouts: {request: 200ms}\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /limited}}]\n  backendRefs: [{name: v1, port: 80}]\n  \
           filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: RateLimit, name: one}}]\n\
         - matches: [{path: {type: PathPrefix, value: /faulty}}]\n  backendRefs: [{name: v1, port: 80}]\n  \
           filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: FaultInjection, name: tea}}]\n\
         - matches: [{path: {type: PathPrefix, value: /delayed}}]\n  backendRefs: [{name: v1, port: 80}]\n  \
           filters: [{type: ExtensionRef, extensionRef: {group: ambit.dev, kind: FaultInjection, name: late}}]\n\
         - matches: [{path: {type: PathPrefix, value: /once}}]\n  retry: {attempts: 0}\n  backendRefs: [{name: refusing, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /garbled}}]\n  backendRefs: [{name: garbled, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /cut}}]\n  timeouts: {request: 3s}\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /left}}]\n  backendRefs: [{name: v1, port: 80}]\n\
         - matches: [{path: {type: PathPrefix, value: /denied}}]\n  backendRefs: [{name: v1, port: 80}]";
    let extensions = "---\napiVersion: ambit.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: one, namespace: mesh}\n\
         spec: {requests: 1, interval: 1h}\n\
         ---\napiVersion: ambit.dev/v1alpha1\nkind: FaultInjection\nmetadata: {name: tea, namespace: mesh}\n\
         spec: {abort: {status: 418}}\n\
         ---\napiVersion: ambit.dev/v1alpha1\nkind: FaultInjection\nmetadata: {name: late, namespace: mesh}\n\
         spec: {delay: {duration: 50ms}}\n\
         ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: never, namespace: mesh}\n\
         spec: {targetRefs: [{kind: Service, group: \"\", name: echo}], action: DENY, rules: [{to: [{operation: {paths: [\"/denied\"]}}]}]}\n";
    // Nobody listens on that port of the pod.
    let refusing =
        service("mesh", "refusing", "version: v1").replace("targetPort: web", "targetPort: 8099");
    // It says what it is told, which is no response.
    let garbled =
        service("mesh", "garbled", "version: v1").replace("targetPort: web", "targetPort: raw");
    let empty = service("mesh", "empty", "app: nobody");
    let manifests = empty + &refusing + &garbled + extensions + &http_route("r", "echo", rules);
    let _ = lab.try_apply(&manifests).success();
    assert_eq!(get("/limited").answer(&lab).status, 200);
    for (path, status, flag, reason) in [
        (
            "/nothing",
            404,
            "NR",
            "no rule of any route matches GET /nothing",
        ),
        ("/missing", 500, "NC", "Service mesh/gone"),
        ("/empty", 503, "UH", "empty"),
        ("/slow?delay=3s", 504, "UT", "time"),
        ("/limited", 429, "RL", "mesh/one"),
        ("/faulty", 418, "FI", "fault"),
        ("/denied", 403, "RBAC", "mesh/never"),
        ("/refusing", 503, "URX", "cannot be reached"),
        ("/broken?reset=request", 503, "UC", ""),
        ("/once", 503, "UF", "cannot be reached"),
        ("/garbled", 502, "UPE", "is no response"),
        ("/delayed", 200, "DI", ""),
    ] {
        assert_eq!(get(path).answer(&lab).status, status, "{path}");
        let code = status.to_string();
        let line = line(&lab, &[&format!("\"GET {path} "), &format!(" {code} ")]);
        assert!(line.contains(&format!(" {code} {flag} ")), "{path}: {line}");
        let counted = series(&lab, "istio_requests_total");
        let wanted = [("response_code", &*code), ("response_flags", flag)];
        let counted = counted
            .iter()
            .filter(|it| wanted.iter().all(|(name, value)| it.0[*name] == *value));
        assert_eq!(counted.map(|it| it.1).sum::<f64>(), 1.0, "{path}");
        assert!(line.contains(reason), "{path}: {line}");
        assert!(line.contains(&identity("mesh", "client")), "{path}: {line}");
    }
    // Some end without a whole response. A client that leaves has no status; what is no request has no path.
    let raw = [
        "tcp",
        "echo.mesh:80",
        "--send",
        "GET /dpe HTTP/1.1\r\nHost : echo.mesh\r\n\r\n",
    ];
    let told = lab.load(CLIENT, &raw).success();
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    // Over HTTP/1.1 a client that only sends no more would still get its answer.
    let curl = |path: &str, most: &str, version: &str| {
        let url = format!("http://echo.mesh{path}");
        let fixed = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "--max-time",
            most,
            version,
            &url,
        ];
        assert_ne!(lab.exec(CLIENT, &fixed).code, 0, "{path}");
    };
    curl("/left/early?delay=1m", "3", "--http2-prior-knowledge");
    curl("/left/late?size=1Gi&write-rate=10000", "3", "--http1.1");
    curl("/cut?size=1Gi&write-rate=10000", "20", "--http1.1");
    for (path, code, flag, reason) in [
        (" HTTP/1.1\"", "400", "DPE", "header name"),
        ("GET /left/early", "0", "DC", ""),
        ("GET /left/late", "200", "DC", ""),
        ("GET /cut", "200", "UT", "was not over in time"),
    ] {
        let line = line(&lab, &[path, &format!("\" {code} {flag} ")]);
        assert!(line.contains(reason), "{path}: {line}");
        let counted = series(&lab, "istio_requests_total").into_iter();
        let counted =
            counted.filter(|it| it.0["response_flags"] == flag && it.0["response_code"] == code);
        assert_eq!(counted.map(|it| it.1).sum::<f64>(), 1.0, "{path}");
    }
}

/// Series of who is gone go as well, and those of who stays stay.
#[test]
fn who_is_gone_is_counted_no_more() {
    let lab = lab();
    for service in ["v1", "v3"] {
        let answer = get(&format!("{service}.mesh/")).answer(&lab);
        assert_eq!(answer.server(), service);
        assert_eq!(
            lab.load(CLIENT, &["rr", "-n", "1", &format!("{service}.mesh:9090")])
                .code,
            0
        );
    }
    let of = |metric: &str, server: &str| {
        let all = series(&lab, metric).into_iter();
        all.filter(|it| it.0["destination_workload"] == server)
            .count()
    };
    let metrics = ["istio_requests_total", "istio_tcp_connections_closed_total"];
    eventually("both are counted", PATIENCE, || {
        let there = metrics
            .iter()
            .all(|it| of(it, "v1") > 0 && of(it, "v3") > 0);
        there.then_some(())
    });
    lab.delete(&server("mesh", "v3", "node-2"));
    eventually("the end of the series of v3", 6 * PATIENCE, || {
        metrics.iter().all(|it| of(it, "v3") == 0).then_some(())
    });
    assert!(metrics.iter().all(|it| of(it, "v1") > 0));
}

/// A waypoint that is told so by its Gateway's parameters writes JSON.
#[test]
fn a_log_of_json_says_the_same() {
    let json = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: told, namespace: mesh}\n\
         data: {LOG_FORMAT: json}\n";
    let told =
        "spec: {infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: told}}, ";
    let waypoint = gateway("mesh", "waypoint", "").replace("spec: {", told);
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: closed, namespace: mesh}\nspec:\n  \
         targetRefs: [{kind: Service, group: \"\", name: v1}]\n  action: DENY\n  \
         rules: [{to: [{operation: {paths: [/closed]}}]}]\n";
    let lab = start(manifests() + &waypoint + json + deny, &[]);
    assert_eq!(get("v1.mesh/closed?a=%22b").answer(&lab).status, 403);
    assert_eq!(get("v1.mesh/open").answer(&lab).status, 200);
    let line = |path: &'static str| {
        eventually(path, PATIENCE, || {
            let log = lab.logs(WAYPOINT);
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut mine =
                lines.filter(|it| it["path"].as_str().is_some_and(|it| it.starts_with(path)));
            mine.next()
        })
    };
    let denied = line("/closed");
    for (field, value) in [
        ("scope", json!("access")),
        ("method", json!("GET")),
        ("path", json!("/closed?a=%22b")),
        ("response_code", json!(403)),
        ("response_flags", json!("RBAC")),
        ("attempts", json!(0)),
        ("authority", json!("v1.mesh")),
        ("src.identity", json!(identity("mesh", "client"))),
    ] {
        assert_eq!(denied[field], value, "{field}: {denied:#}");
    }
    let reason = denied["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("mesh/closed"), "{denied:#}");
    let passed = line("/open");
    assert_eq!(passed["attempts"], 1, "{passed:#}");
    assert_eq!(passed["upstream_workload"], "mesh/v1", "{passed:#}");
    assert_eq!(
        (&passed["response_flags"], &passed["reason"]),
        (&json!("-"), &json!(null))
    );
}
