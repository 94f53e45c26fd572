//! A kubelet's probes reach pods that refuse plain text from everybody else, and are heeded.

use std::time::Duration;

use ambit_lab::harness::{Lab, eventually, program};
use serde_json::Value;

use crate::fixtures::{AMBIENT, client, namespace, service};
use crate::flows::start;

const PATIENCE: Duration = Duration::from_secs(20);

const STRICT: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

/// A server for each kind of probe, named after it.
const KINDS: [&str; 4] = ["http", "tcp", "grpc", "exec"];

/// An echo server that is asked every second whether it is ready, and whether it lives; once it has started, one "no" is
/// enough.
fn probed(kind: &str) -> String {
    let [readiness, liveness] = match kind {
        "http" => ["/ready", "/live"].map(|path| format!("httpGet: {{port: web, path: {path}}}")),
        "tcp" => ["tcpSocket: {port: web}", "tcpSocket: {port: web}"].map(str::to_owned),
        // The service, and the whole server.
        "grpc" => ["{port: 8080, service: ambit.echo.Echo}", "{port: 8080}"]
            .map(|asked| format!("grpc: {asked}")),
        "exec" => ["/ready", "/live"].map(|path| {
            let load = program("load");
            let url = format!("http://127.0.0.1:8080{path}");
            format!(
                "exec: {{command: ['{}', get, --fail, '{url}']}}",
                load.display()
            )
        }),
        other => panic!("there are no probes {other}"),
    };
    let pace = "periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1";
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {kind}, namespace: shop, labels: {{name: {kind}}}}}\n\
         spec:\n  nodeName: node-2\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: echo\n    image: ambit/echo\n    ports: [{{name: web, containerPort: 8080}}]\n    \
         startupProbe: {{tcpSocket: {{port: web}}, periodSeconds: 1, failureThreshold: 30}}\n    \
         readinessProbe: {{{readiness}, {pace}}}\n    livenessProbe: {{{liveness}, {pace}}}\n"
    )
}

fn lab() -> Lab {
    let mut manifests = namespace("shop", AMBIENT) + &namespace("outside", "") + STRICT;
    manifests += &client("shop", "friend", "node-1");
    manifests += &client("outside", "stranger", "node-1");
    for kind in KINDS {
        manifests += &probed(kind);
        manifests += &service("shop", kind, &format!("name: {kind}"));
    }
    start(manifests, &[])
}

/// A page of a server, asked in its own pod.
fn page(lab: &Lab, kind: &str, page: &str) -> Value {
    lab.get(
        &format!("shop/{kind}"),
        &format!("http://127.0.0.1:8080{page}"),
    )
}

/// How many probes a server has seen.
fn seen(lab: &Lab, kind: &str) -> u64 {
    let counts = page(
        lab,
        kind,
        if kind == "tcp" { "/stats" } else { "/requests" },
    );
    let count = match kind {
        "tcp" => &counts["echo"]["connections"],
        "grpc" => &counts["/grpc.health.v1.Health/Check"],
        _ => &counts["/live"],
    };
    count.as_u64().unwrap_or_default()
}

/// Whether the server is ready, and how often it was started again.
fn state(lab: &Lab, kind: &str) -> (bool, i64) {
    let pod = lab.object("pod", &format!("shop/{kind}"));
    let status = &pod["status"]["containerStatuses"][0];
    let restarts = status["restartCount"].as_i64().expect("a number");
    (status["ready"] == true, restarts)
}

#[test]
fn probes_of_every_kind_pass_where_plain_text_does_not() {
    let lab = lab();
    for kind in KINDS {
        let url = format!("http://{kind}.shop/");
        let ask = |from| lab.load(from, &["get", "--fail", "--timeout", "5s", &url]);
        let _ = ask("outside/stranger").failure();
        let _ = ask("shop/friend").success();
        let before = seen(&lab, kind);
        eventually(&format!("more {kind} probes"), PATIENCE, || {
            (seen(&lab, kind) >= before + 6).then_some(())
        });
    }
    // Each of them was asked whether it lives several times, and one "no" ends it.
    for kind in KINDS {
        assert_eq!(state(&lab, kind), (true, 0), "{kind}");
    }
}

#[test]
fn what_a_health_service_says_is_heeded() {
    let lab = lab();
    let say = |query: &str| page(&lab, "grpc", &format!("/health?{query}"));
    let becomes = |expected: (bool, i64)| {
        let what = format!("{expected:?}, ready and restarts");
        eventually(&what, PATIENCE, || {
            (state(&lab, "grpc") == expected).then_some(())
        });
    };
    assert_eq!(state(&lab, "grpc"), (true, 0));
    let _ = say("service=ambit.echo.Echo&serving=0");
    becomes((false, 0));
    let _ = say("service=ambit.echo.Echo&serving=1");
    becomes((true, 0));
    let _ = say("serving=0");
    becomes((true, 1));
}
