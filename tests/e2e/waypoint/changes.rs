//! Configuration that changes under load: no request fails, and each change is in force when it is said to be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_lab::harness::{Ending, Lab, eventually};
use serde_json::Value;

use super::call::Call;
use super::rows::{backend, get};
use super::scene::{CLIENT, CONSUMER, gateway, http_route, lab, route, server, service};
use super::told::line;
use crate::fixtures::addresses;

const PATIENCE: Duration = Duration::from_secs(15);

/// Who makes requests, and the arguments of `load` for them.
type Load<'a> = (&'a str, &'a [&'a str]);

/// Runs `change` while these loads go on; none of their requests may fail.
pub(super) fn under_load(lab: &Lab, loads: &[Load<'_>], change: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = loads
            .iter()
            .map(|&(from, arguments)| {
                let done = &done;
                scope.spawn(move || {
                    let mut requests = 0;
                    while !done.load(Ordering::Relaxed) {
                        let fixed = ["--json", "-c", "2", "-d", "1s"];
                        let report = lab.load(from, &[arguments, &fixed].concat()).json();
                        assert_eq!(report["errors"]["total"], 0, "{arguments:?}: {report}");
                        requests += report["requests"].as_u64().unwrap_or_default();
                    }
                    requests
                })
            })
            .collect();
        let ending = Ending(&done);
        change();
        drop(ending);
        for load in loads {
            let requests = load.join().expect("no request failed");
            assert!(requests > 0);
        }
    });
}

/// No request fails while routes come, change and go, and each change is in force when it is said to be.
#[test]
fn configuration_changes_under_load_lose_no_request() {
    let lab = lab();
    let rules = |server: &str| format!("- backendRefs: [{{name: {server}, port: 8080}}]");
    let first = http_route("moving", "echo", &rules("v1"));
    let url = "http://echo.mesh/load";
    let loads: &[Load<'_>] = &[
        (CLIENT, &["http", "--rate", "200", url]),
        (CLIENT, &["http", "--rate", "100", "--new-connections", url]),
        (
            CLIENT,
            &["http", "--rate", "100", "--h2", "--streams", "4", url],
        ),
    ];
    under_load(&lab, loads, || {
        for _ in 0..2 {
            lab.apply(&first);
            for server in ["v2", "v3", "v1"] {
                lab.apply(&http_route("moving", "echo", &rules(server)));
                assert_eq!(Call::get(CLIENT, "/now").answer(&lab).server(), server);
            }
            lab.delete(&first);
        }
    });
}

/// An object that comes, what it does to a request that is for it alone, and as which server or status that shows.
struct Change {
    manifest: String,
    shows: Option<(Call, Shows)>,
}

enum Shows {
    By(&'static str),
    Status(u16),
}

impl Change {
    fn apply(&self, lab: &Lab) {
        let ran = lab.try_apply(&self.manifest);
        // What a status refuses is applied, with a warning.
        let is_taken = !ran.stderr.contains(": not ") && !ran.stdout.contains(": not ");
        assert!(ran.code == 0 && is_taken, "{}: {ran}", self.manifest);
        let Some((call, shows)) = &self.shows else {
            return;
        };
        let answer = call.answer(lab);
        let fits = match shows {
            Shows::By(server) => answer.server() == *server,
            Shows::Status(status) => answer.status == *status,
        };
        assert!(fits, "{}: {answer:?}", self.manifest);
    }
}

/// One that shows nowhere but in what does not fail.
fn silent(manifest: impl Into<String>) -> Change {
    let manifest = manifest.into();
    Change {
        manifest,
        shows: None,
    }
}

/// What a rule with this filter, or other field, is for besides the load.
fn routed(filter: &str) -> String {
    let filtered = format!("- {filter}\n  {}", backend("v1"));
    http_route("changing", "echo", &filtered)
}

/// A rule of its own beside the one that the load takes.
fn beside(path: &str, rule: &str, shows: Shows) -> Change {
    let rules = format!(
        "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  {rule}\n- {}",
        backend("v1")
    );
    Change {
        manifest: http_route("changing", "echo", &rules),
        shows: Some((get(path), shows)),
    }
}

fn rule_of(service: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {service}, namespace: mesh}}\n\
         spec: {{host: {service}, trafficPolicy: {{{policy}}}}}\n"
    )
}

fn policy(kind: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: mesh}}\n\
         spec: {{targetRefs: [{{kind: Service, group: \"\", name: echo}}], {spec}}}\n"
    )
}

/// What refers to an object of ours, and the object.
fn extended(kind: &str, spec: &str) -> Change {
    let filter = format!(
        "{{type: ExtensionRef, extensionRef: {{group: ambit.dev, kind: {kind}, name: e}}}}"
    );
    let object = format!(
        "---\napiVersion: ambit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: e, namespace: mesh}}\nspec: {{{spec}}}\n"
    );
    silent(object + &routed(&format!("filters: [{filter}]")))
}

/// Objects of every kind that a request meets on its way.
fn changes() -> Vec<Change> {
    let to = |kind: &str, parent: &str, server: &str, port: u16| {
        let rules = format!("- backendRefs: [{{name: {server}, port: {port}}}]");
        route(kind, "mesh", "other", parent, &rules)
    };
    let grpc = |server: &str| silent(to("GRPCRoute", "name: echo, port: 7070", server, 7070));
    let tcp = |server: &str| silent(to("TCPRoute", "name: v1, port: 9090", server, 9090));
    let tls = |server: &str| {
        let route = to("TLSRoute", "name: v1, port: 9443", server, 9443);
        silent(route.replace("  rules:", "  hostnames: [a.example]\n  rules:"))
    };
    let budget = "---\napiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
                  metadata: {name: budget, namespace: mesh}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: v1}]\n  \
                  retryConstraint: {budget: {percent: 10, interval: 10s}}\n";
    let consumer = |server: &'static str| {
        let rules = format!("- backendRefs: [{{name: {server}, namespace: mesh, port: 8080}}]");
        Change {
            manifest: route("HTTPRoute", "consumer", "own", "name: echo", &rules),
            shows: Some((Call::get(CONSUMER, "/own"), Shows::By(server))),
        }
    };
    let filters = |filter: &str| silent(routed(&format!("filters: [{filter}]")));
    let token = "jwtRules: [{issuer: a, jwks: '{\"keys\": []}'}]";
    vec![
        grpc("v1"),
        grpc("v2"),
        tcp("v1"),
        tcp("v3"),
        tls("v1"),
        tls("v3"),
        silent(policy(
            "AuthorizationPolicy",
            "action: ALLOW, rules: [{from: [{source: {namespaces: [mesh, consumer]}}]}]",
        )),
        Change {
            manifest: policy("RequestAuthentication", token),
            shows: Some((
                get("/").header("authorization", "Bearer e.e.e"),
                Shows::Status(401),
            )),
        },
        filters(
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}",
        ),
        filters("{type: RequestMirror, requestMirror: {backendRef: {name: v3, port: 8080}}}"),
        filters(
            "{type: URLRewrite, urlRewrite: {hostname: a.example, path: {type: ReplaceFullPath, replaceFullPath: /new}}}",
        ),
        filters("{type: CORS, cors: {allowOrigins: [\"https://a.example\"]}}"),
        silent(routed("timeouts: {request: 20s, backendRequest: 15s}")),
        silent(routed("retry: {codes: [500], attempts: 2, backoff: 10ms}")),
        beside(
            "/moved",
            "filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example, statusCode: 301}}]",
            Shows::Status(301),
        ),
        beside(
            "/moved",
            "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308}}]",
            Shows::Status(308),
        ),
        extended("RateLimit", "requests: 100000, interval: 1s"),
        extended("FaultInjection", "delay: {duration: 20ms, percent: 50}"),
        consumer("v2"),
        consumer("v3"),
        silent(budget),
        silent(rule_of("v1", "loadBalancer: {simple: ROUND_ROBIN}")),
        silent(rule_of(
            "v1",
            "connectionPool: {tcp: {maxConnections: 1000}}, outlierDetection: {consecutive5xxErrors: 3}",
        )),
    ]
}

/// The same for everything else that a request meets on its way.
#[test]
fn other_changes_under_load_lose_no_request_either() {
    let lab = lab();
    let url = "http://echo.mesh/load";
    let grpc = "http://echo.mesh:7070";
    let loads: &[Load<'_>] = &[
        (CLIENT, &["http", "--rate", "100", url]),
        (
            CONSUMER,
            &["http", "--rate", "50", "--new-connections", url],
        ),
        (CLIENT, &["grpc", "--rate", "50", grpc]),
        (CLIENT, &["grpc", "--rate", "20", "--method", "bidi", grpc]),
        (
            CLIENT,
            &["rr", "--rate", "50", "--new-connections", "v1.mesh:9090"],
        ),
    ];
    // Consumers may send elsewhere.
    lab.apply(
        "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: mesh}\nspec:\n  \
         from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: consumer}]\n  to: [{group: \"\", kind: Service}]\n",
    );
    let changes = changes();
    under_load(&lab, loads, || {
        for change in &changes {
            change.apply(&lab);
        }
        for change in changes.iter().rev() {
            // Several are states of one object.
            let _ = lab
                .run_with_input(["delete", "-f", "-"], &change.manifest)
                .success();
        }
    });
}

/// A connection that is kept does not stay with a waypoint that its service has left, which nobody behind it believes.
#[test]
fn a_kept_connection_ends_when_its_service_moves_to_another_waypoint() {
    let lab = lab();
    let moving = |waypoint: &str| {
        let labels = format!("namespace: mesh, labels: {{istio.io/use-waypoint: {waypoint}}}");
        service("mesh", "moving", "version: v2").replace("namespace: mesh", &labels)
    };
    lab.apply(&(gateway("mesh", "second", "") + &moving("waypoint")));
    let request = "GET /kept HTTP/1.1\r\nHost: moving.mesh\r\n\r\n";
    let kept = ["tcp", "--keep-open", "--timeout", "30s", "--send", request];
    let kept = [&kept[..], &["moving.mesh:80"]].concat();
    std::thread::scope(|scope| {
        // Until the other end closes it, or too long.
        let kept = scope.spawn(|| lab.load(CLIENT, &kept));
        let _ = line(&lab, &["GET /kept"]);
        lab.apply(&moving("second"));
        let said = kept.join().expect("an answer").success();
        assert_eq!(said.matches("HTTP/1.1 200 ").count(), 1, "{said}");
    });
    let answer = get("moving.mesh/now").answer(&lab);
    let by = answer.sent("x-forwarded-client-cert").unwrap_or_default();
    assert!(by.contains("/sa/second;"), "{answer:?}");
}

/// From no waypoint to one, to another and back to none, under load of every kind. What is kept is a connection that
/// goes through a waypoint: without one nobody knows when it may be ended.
#[test]
fn a_service_moves_between_waypoints_and_loses_no_request() {
    let lab = lab();
    let moving = |waypoint: &str| {
        let labels = format!("namespace: mesh, labels: {{istio.io/use-waypoint: {waypoint}}}");
        service("mesh", "moving", "version: mover").replace("namespace: mesh", &labels)
    };
    // A pod of a service with a waypoint takes calls of no other way.
    let own = server("mesh", "mover", "node-2");
    lab.apply(&(gateway("mesh", "second", "") + &own + &moving("none")));
    let (url, calls) = ("http://moving.mesh/load", "http://moving.mesh:7070");
    let pod = format!("http://{}:8080/load", addresses(&lab, "mesh/mover")[0]);
    let new = ["http", "--rate", "50", "--new-connections"];
    let [new, new_at_pod] = [url, &pod].map(|url| [&new[..], &[url]].concat());
    let new: &[Load<'_>] = &[(CLIENT, &new), (CONSUMER, &new), (CLIENT, &new_at_pod)];
    let kept: &[Load<'_>] = &[
        (CLIENT, &["http", "--rate", "100", url]),
        (CLIENT, &["http", "--rate", "50", &pod]),
        (
            CLIENT,
            &["http", "--rate", "50", "--h2", "--streams", "4", url],
        ),
        (CLIENT, &["grpc", "--rate", "20", "--method", "bidi", calls]),
    ];
    let goes = |waypoint: &str| {
        lab.apply(&moving(waypoint));
        // It is applied when the last step is known.
        for node in ["node/node-1", "node/node-2"] {
            let dump = lab.get(node, "http://127.0.0.1:15000/config_dump");
            let services = dump["services"].as_array().into_iter().flatten();
            let mut services = services.filter(|it| it["name"] == "moving");
            let told = services.next().expect("the service");
            assert_eq!(told["takesDirect"], false, "{waypoint}, {node}: {told}");
            assert_eq!(told["weightedWaypoints"], Value::Null, "{told}");
        }
        let answer = get("moving.mesh/now").answer(&lab);
        assert_eq!(answer.server(), "mover", "{waypoint}: {answer:?}");
        // Only waypoints tell of the caller, and of themselves.
        let told = answer.sent("x-forwarded-client-cert").unwrap_or_default();
        let by = told.contains(&format!("/sa/{waypoint};"));
        assert_eq!(by, waypoint != "none", "{waypoint}: {answer:?}");
        assert_eq!(told.is_empty(), waypoint == "none", "{answer:?}");
    };
    under_load(&lab, new, || {
        for waypoint in ["waypoint", "second", "none"] {
            goes(waypoint);
        }
        // What was open before goes around no waypoint.
        let before = "http://moving.mesh/before";
        let open = [
            "http", "--rate", "50", "-c", "1", "-d", "10s", "--json", before,
        ];
        std::thread::scope(|scope| {
            let open = scope.spawn(|| lab.load(CLIENT, &open).stdout);
            eventually("a request", PATIENCE, || {
                let counts: Value = lab.get("mesh/mover", "http://127.0.0.1:8080/requests");
                counts["/before"].as_u64()
            });
            goes("waypoint");
            let report = open.join().expect("a report");
            let report: Value = serde_json::from_str(&report).expect("JSON");
            assert_eq!(report["errors"]["total"], 1, "{report}");
        });
    });
    under_load(&lab, &[new, kept].concat(), || {
        for waypoint in ["second", "waypoint", "none"] {
            goes(waypoint);
        }
    });
}
