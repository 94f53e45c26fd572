//! AuthorizationPolicies that a waypoint enforces: by method, path, header and verified caller.

use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

use super::call::Call;
use super::scene::{CLIENT, CONSUMER, OTHER, gateway, lab, manifests};
use super::told::{line, lines, series};
use crate::fixtures::{addresses, host};
use crate::flows::{identity, start};

const PATIENCE: Duration = Duration::from_secs(20);

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: mesh}}\nspec:\n{spec}\n"
    )
}

fn at_service(service: &str) -> String {
    format!("  targetRefs: [{{kind: Service, group: \"\", name: {service}}}]\n")
}

const AT_WAYPOINT: &str =
    "  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]\n";

fn status(lab: &Lab, call: Call) -> u16 {
    call.answer(lab).status
}

/// "Service A may call B on /read."
#[test]
fn a_caller_may_read_and_nothing_else() {
    let lab = lab();
    let spec = at_service("echo")
        + "  action: ALLOW\n  rules:\n  \
           - from: [{source: {principals: [cluster.local/ns/mesh/sa/client]}}]\n    \
             to: [{operation: {methods: [GET], paths: [/read]}}]";
    lab.apply(&policy("read", &spec));
    for (name, call, wanted) in [
        ("what is allowed", Call::get(CLIENT, "/read"), 200),
        (
            "the query does not matter",
            Call::get(CLIENT, "/read?all=1"),
            200,
        ),
        (
            "another method",
            Call::get(CLIENT, "/read").method("POST"),
            403,
        ),
        ("another path", Call::get(CLIENT, "/admin"), 403),
        ("below the path", Call::get(CLIENT, "/read/x"), 403),
        ("another caller", Call::get(OTHER, "/read"), 403),
        ("another namespace", Call::get(CONSUMER, "/read"), 403),
        ("another service", Call::get(OTHER, "v3.mesh/"), 200),
    ] {
        let answer = call.answer(&lab);
        assert_eq!(answer.status, wanted, "{name}: {answer:?}");
        assert_eq!(answer.server().is_empty(), wanted != 200, "{name}");
    }
    // gRPC callers learn it in their own way: HTTP 200 and PERMISSION_DENIED.
    let call = lab.load(
        CLIENT,
        &["grpc", "--json", "-n", "1", "http://echo.mesh:7070"],
    );
    assert_ne!(call.code, 0);
    assert!(call.stdout.contains("grpc status 7"), "{call}");
}

/// What is judged is what is sent on: no spelling of a path gets around a policy.
#[test]
fn no_spelling_of_a_path_gets_around_a_policy() {
    let lab = lab();
    let spec = AT_WAYPOINT.to_owned()
        + "  action: DENY\n  rules: [{to: [{operation: {paths: [\"/admin*\"]}}]}]";
    lab.apply(&policy("no-admin", &spec));
    for (path, wanted) in [
        ("/admin", &[403][..]),
        ("/administrator", &[403]),
        ("//admin", &[403]),
        ("/%61dmin", &[403]),
        ("/x/../admin", &[403]),
        ("/x/%2e%2e/admin", &[403]),
        ("/./admin", &[403]),
        ("/x\\..\\admin", &[403, 400]),
        ("/x;a=b/../admin", &[403]),
        ("/x%2f..%2fadmin", &[403, 400]),
        ("/x%5c..%5cadmin", &[403, 400]),
        ("/admin%00", &[400]),
        ("/%2561dmin", &[200]),
        ("/Admin", &[200]),
        ("/", &[200]),
    ] {
        // curl sends a path as it stands.
        let url = format!("http://echo.mesh{path}");
        let argv = [
            "curl",
            "-s",
            "--path-as-is",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        let code = lab.exec(CLIENT, &argv).success();
        let code: u16 = code.trim().parse().expect("a status");
        assert!(wanted.contains(&code), "{path}: {code}, wanted {wanted:?}");
    }
    let kept = Call::get(CLIENT, "/%2561dmin").answer(&lab);
    assert_eq!(kept.received()["target"], "/%2561dmin");
}

/// A pod's address is no way around the policies of its services.
#[test]
fn a_pod_s_address_is_judged_by_its_services_policies() {
    let lab = lab();
    let spec =
        at_service("v1") + "  action: DENY\n  rules: [{to: [{operation: {paths: [/secret]}}]}]";
    lab.apply(&policy("secret", &spec));
    let mut hosts: Vec<String> = addresses(&lab, "mesh/v1")
        .iter()
        .map(|ip| host(ip))
        .collect();
    hosts = hosts.into_iter().map(|ip| format!("{ip}:8080")).collect();
    hosts.push("v1.mesh".to_owned());
    hosts.push("v1.mesh:8080".to_owned());
    for name in hosts {
        assert_eq!(
            status(&lab, Call::get(CLIENT, &format!("{name}/secret"))),
            403,
            "{name}"
        );
        assert_eq!(
            status(&lab, Call::get(CLIENT, &format!("{name}/open"))),
            200,
            "{name}"
        );
    }
}

#[test]
fn headers_hosts_and_dry_runs() {
    let lab = lab();
    let rule = |when: &str| at_service("echo") + &format!("  action: DENY\n  rules: [{{{when}}}]");
    let denied = |name: &str, spec: &str, call: Call, other: Call| {
        lab.apply(&policy("rule", spec));
        assert_eq!(status(&lab, call), 403, "{name}");
        assert_eq!(status(&lab, other), 200, "{name}: another request");
    };
    let get = |path: &str| Call::get(CLIENT, path);
    denied(
        "a header",
        &rule("when: [{key: \"request.headers[x-role]\", values: [admin]}]"),
        get("/").header("X-Role", "admin"),
        get("/").header("X-Role", "user"),
    );
    denied(
        "one value of a repeated header",
        &rule("when: [{key: \"request.headers[x-role]\", values: [admin]}]"),
        get("/").header("X-Role", "user").header("X-Role", "admin"),
        get("/"),
    );
    denied(
        "a host, however it is written",
        &rule("to: [{operation: {hosts: [secret.com]}}]"),
        get("/").header("Host", "Secret.COM.:80"),
        get("/"),
    );
    denied(
        "a template",
        &rule("to: [{operation: {paths: [\"/a/{*}/b/{**}\"]}}]"),
        get("/a/x/b/c/d"),
        get("/a/x/y/b"),
    );
    let dry = policy("rule", &rule("to: [{operation: {methods: [GET]}}]")).replace(
        "name: rule,",
        "name: rule, annotations: {istio.io/dry-run: \"true\"},",
    );
    lab.apply(&dry);
    assert_eq!(status(&lab, get("/dry")), 200);
    let line = line(&lab, &["GET /dry "]);
    assert!(
        line.contains("dry-run policy mesh/rule would deny"),
        "{line}"
    );
    let counted = series(&lab, "ambit_policy_reports_total");
    let [(labels, count)] = &counted[..] else {
        panic!("{counted:?}");
    };
    assert_eq!(
        (&*labels["policy"], &*labels["effect"]),
        ("mesh/rule", "deny")
    );
    assert!(*count >= 1.0, "{count}");
}

/// A proxy in front of the mesh says who calls; nobody else does.
#[test]
fn who_calls_through_a_trusted_proxy_is_judged() {
    let trusted = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: trusted, namespace: mesh}\n\
         data: {AMBIT_TRUSTED_PROXIES: mesh/client}\n";
    let parameters =
        "spec: {infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: trusted}}, ";
    let gateway = gateway("mesh", "waypoint", "").replace("spec: {", parameters);
    let deny = at_service("echo")
        + "  action: DENY\n  rules: [{from: [{source: {remoteIpBlocks: [192.0.2.0/24]}}]}]";
    let lab = start(
        manifests() + trusted + &gateway + &policy("remote", &deny),
        &[],
    );
    let call = |from, claims: &str| Call::get(from, "/who").header("x-forwarded-for", claims);
    assert_eq!(status(&lab, call(CLIENT, "198.51.100.1, 192.0.2.1")), 403);
    // Only the last entry is the proxy's.
    let passed = call(CLIENT, "192.0.2.1, 198.51.100.1").answer(&lab);
    assert_eq!(passed.status, 200, "{passed:?}");
    let forwarded = passed.sent("x-forwarded-for").unwrap_or_default();
    assert!(
        forwarded.starts_with("192.0.2.1, 198.51.100.1, "),
        "{forwarded}"
    );
    let other = call(OTHER, "192.0.2.1").answer(&lab);
    assert_eq!(other.status, 200, "{other:?}");
    let forwarded = other.sent("x-forwarded-for").unwrap_or_default();
    assert!(addresses(&lab, OTHER).contains(&forwarded), "{forwarded}");
}

/// What cannot be done as it was asked for is refused, never left out.
#[test]
fn what_cannot_be_done_is_refused() {
    let lab = lab();
    let tls = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
         metadata: {name: tls, namespace: mesh}\nspec:\n  \
         targetRefs: [{group: \"\", kind: Service, name: v1}]\n  \
         validation: {hostname: v1.example.com, wellKnownCACertificates: System}\n";
    lab.apply(tls);
    // The server speaks no TLS.
    assert_eq!(status(&lab, Call::get(CLIENT, "v1.mesh/")), 503);
    assert_eq!(status(&lab, Call::get(CLIENT, "v2.mesh/")), 200);
    lab.delete(tls);
    assert_eq!(status(&lab, Call::get(CLIENT, "v1.mesh/")), 200);
    let spec = at_service("v1") + "  action: CUSTOM\n  provider: {name: nobody}\n  rules: [{}]";
    let _ = lab.try_apply(&policy("ask", &spec));
    assert_eq!(status(&lab, Call::get(CLIENT, "v1.mesh/")), 403);
}

/// Connections that are not HTTP are judged for as long as they live.
#[test]
fn a_live_connection_ends_when_a_policy_denies_it() {
    let lab = lab();
    let deny = at_service("v1")
        + "  action: DENY\n  rules: [{from: [{source: {principals: [cluster.local/ns/mesh/sa/client]}}]}]";
    let talk = |from: &'static str| {
        let rate = ["--rate", "20", "-n", "600"];
        lab.load(
            from,
            &[&["rr", "--json", "v1.mesh:9090"], &rate[..]].concat(),
        )
    };
    let [denied, other] = thread::scope(|scope| {
        let talking = [CLIENT, OTHER].map(|from| scope.spawn(move || talk(from)));
        // The waypoint has judged them: those that a node proxy has opened may still wait for that.
        for workload in ["client", "other"] {
            eventually(&format!("a connection of {workload}"), PATIENCE, || {
                let mut opened = series(&lab, "istio_tcp_connections_opened_total").into_iter();
                opened.find(|(labels, count)| labels["source_workload"] == workload && *count > 0.0)
            });
        }
        lab.apply(&policy("live", &deny));
        talking.map(|thread| thread.join().expect("a talk that ended"))
    });
    assert_ne!(denied.code, 0, "{denied}");
    assert_eq!(other.code, 0, "{other}");
    // Those that came later have carried nothing.
    let line = eventually("a line of the connection's end", PATIENCE, || {
        let lines = lines(&lab, &["\"- - -\" 0 RBAC "]);
        lines.into_iter().find(|it| !it.contains("rule 0\" 0 0 "))
    });
    assert!(line.contains("mesh/live"), "{line}");
    assert!(line.contains(&identity("mesh", "client")), "{line}");
}
