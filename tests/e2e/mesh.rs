//! The mesh as the lab runs it: the demonstration, parts that die, pods that join late, mistakes.

use std::process::Command;
use std::time::Duration;

use ambit_lab::harness::{self, Lab, Options, eventually};

use crate::fixtures::{ambient_shop, client, echo, namespace, service, text};

const PATIENCE: Duration = Duration::from_secs(20);

fn in_mesh(manifests: String) -> Lab {
    Lab::start(&Options {
        mesh: true,
        manifests,
        ..Options::default()
    })
}

/// Whether the proxy of node-2 logged a connection from this account.
fn logged(lab: &Lab, account: &str) -> bool {
    let identity = format!("src.identity=\"spiffe://cluster.local/ns/shop/sa/{account}\"");
    lab.logs("ztunnel/node-2")
        .lines()
        .any(|line| line.contains(&identity))
}

#[test]
fn the_demonstration_keeps_its_promises() {
    let mut command = Command::new(harness::program("lab"));
    command.arg("demo");
    let ran = harness::run(command, "");
    assert_eq!(ran.code, 0, "{ran}");
    for shown in [
        "the secret on the wire: not found",
        "1000 requests answered, 0 failed",
        "200 requests answered, 0 failed",
        "the client has 504",
        "frontend   GET    /read    200",
        "frontend   POST   /read    403",
        "frontend   GET    /admin   403",
        "All as promised",
    ] {
        assert!(ran.stdout.contains(shown), "{shown}: {ran}");
    }
}

#[test]
fn parts_that_die_come_back_and_traffic_goes_on() {
    let lab = in_mesh(ambient_shop());
    let get = || lab.get("shop/client-1", "http://echo-2/");
    assert_eq!(get()["hostname"], "echo-2");
    eventually("a tunnel", PATIENCE, || {
        logged(&lab, "client-1").then_some(())
    });
    let restarts = |name: &str| {
        let status = lab.run(["status", "-o", "json"]).json();
        let all = status["components"].as_array().cloned().unwrap_or_default();
        let found = all
            .into_iter()
            .find(|it| it["name"] == name)
            .expect("a component");
        found["restarts"].as_u64().filter(|_| found["pid"].is_u64())
    };
    for name in ["control", "agent/node-1", "ztunnel/node-2"] {
        let _ = lab.run(["kill", name]).success();
        eventually("a restart", PATIENCE, || {
            restarts(name).filter(|count| *count == 1)
        });
        let _ = lab.run(["restart", name]).success();
        assert_eq!(restarts(name), Some(2), "{name}");
        assert_eq!(get()["hostname"], "echo-2", "after {name} came back");
    }
    // A pod that starts after all that is in the mesh as well.
    lab.apply(&client("shop", "late", "node-1"));
    assert_eq!(lab.get("shop/late", "http://echo-2/")["hostname"], "echo-2");
    eventually("a tunnel of the late pod", PATIENCE, || {
        logged(&lab, "late").then_some(())
    });
}

#[test]
fn a_pod_sees_nothing_of_the_lab_s_own() {
    let lab = in_mesh(ambient_shop());
    let look = "ls -A /run/ambit-lab /run/netns; grep -rl 'PRIVATE KEY' /run 2>/dev/null";
    let said = lab.exec("shop/client-1", &["sh", "-c", look]);
    assert_eq!(said.stdout, "/run/ambit-lab:\n\n/run/netns:\n", "{said}");
    // It is there to be hidden.
    let key = lab.exec("node/node-1", &["sh", "-c", look]);
    assert!(key.stdout.contains("/run/ambit-lab/mesh/ca/"), "{key}");
}

/// A pod that asks once, at once, and ends as it was answered.
fn asks_once(name: &str, node: &str, url: &str) -> String {
    let load = harness::program("load");
    let command = format!("[{}, get, --fail, {url}]", load.display());
    client("shop", name, node)
        .replace("[sleep, infinity]", &command)
        .replace("spec:\n", "spec:\n  restartPolicy: Never\n")
}

#[test]
fn a_pod_s_first_connection_is_as_good_as_any() {
    let lab = in_mesh(ambient_shop());
    for round in 0..5 {
        let mut pods = Vec::new();
        for node in [1, 2] {
            for server in [1, 2] {
                let name = format!("first-{round}-{node}-{server}");
                let url = format!("http://echo-{server}/");
                pods.push((name, format!("node-{node}"), url));
            }
        }
        let manifests = pods
            .iter()
            .map(|(name, node, url)| asks_once(name, node, url));
        // It may say that they are not ready: they have ended.
        let _ = lab.try_apply(&manifests.collect::<String>());
        for (name, ..) in &pods {
            let pod = format!("shop/{name}");
            let phase = eventually(&format!("{name} to end"), PATIENCE, || {
                let phase = text(&lab.object("pod", &pod)["status"]["phase"]);
                ["Succeeded", "Failed"].contains(&&*phase).then_some(phase)
            });
            assert_eq!(phase, "Succeeded", "{name}: {}", lab.logs(&pod));
        }
    }
    eventually("a tunnel of such a pod", PATIENCE, || {
        logged(&lab, "first-0-1-2").then_some(())
    });
}

#[test]
fn a_mistake_is_named_and_does_not_hide_what_is_right() {
    let lab = in_mesh(ambient_shop());
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: odd, namespace: shop}\n\
        spec: {action: DENY, rules: [{to: [{operation: {ports: [\"eighty\"]}}]}]}\n";
    let said = lab.try_apply(policy).success();
    let told = "AuthorizationPolicy shop/odd: not ZtunnelAccepted (Invalid)";
    assert!(said.contains(told), "{said}");
    let ran = lab.try_apply(
        &(echo("shop", "echo-3", "node-1") + &service("shop", "echo-3", "name: echo-3")),
    );
    assert!(
        ran.clone()
            .success()
            .contains("still wrong: AuthorizationPolicy shop/odd"),
        "{ran}"
    );
    let _ = lab
        .run(["delete", "-n", "shop", "authorizationpolicy", "odd"])
        .success();
    let ran = lab.try_apply(&service("shop", "echo-4", "name: echo-3"));
    assert!(!ran.clone().success().contains("still wrong"), "{ran}");
    assert_eq!(
        lab.get("shop/client-2", "http://echo-4/")["hostname"],
        "echo-3"
    );
}

#[test]
fn what_has_no_effect_is_said_where_it_is_applied() {
    let lab = in_mesh(ambient_shop());
    let said = lab.try_apply(
        &(namespace("odd", "istio.io/dataplane-mode: ambinet")
            + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: odd}\n\
               spec: {gatewayClassName: nginx, listeners: [{name: http, port: 80, protocol: HTTP}]}\n\
               ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: odd}\n\
               spec: {podSelector: {}}\n"),
    );
    let said = said.success();
    for line in [
        "warning: standard input:2: Namespace odd: label istio.io/dataplane-mode is \"ambinet\"",
        "warning: standard input:6: Gateway odd/edge: spec.gatewayClassName \"nginx\"",
        "warning: standard input:11: NetworkPolicy odd/shut: the lab enforces no NetworkPolicy",
    ] {
        assert_eq!(said.matches(line).count(), 1, "{line}: {said}");
    }
    let gateway = lab.object("gateway", "odd/edge");
    assert!(gateway["status"].is_null(), "{gateway:#}");
}

#[test]
fn a_policy_that_selects_no_pod_is_told_until_it_does() {
    let lab = in_mesh(ambient_shop());
    let policy = |kind: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: aimless, namespace: shop}}\n\
             spec: {{selector: {{matchLabels: {{name: echo-9}}}}, {spec}}}\n"
        )
    };
    let rules = policy("AuthorizationPolicy", "rules: [{}]");
    let strict = policy("PeerAuthentication", "mtls: {mode: STRICT}");
    let said = lab.try_apply(&(rules.clone() + &strict)).success();
    let told = "aimless: spec.selector selects no pod of namespace shop now: none has name=echo-9";
    for line in [
        format!("warning: standard input:2: AuthorizationPolicy shop/{told}"),
        format!("warning: standard input:7: PeerAuthentication shop/{told}"),
    ] {
        assert_eq!(said.matches(&line).count(), 1, "{line}: {said}");
    }
    // With its pod it is right, though that is made of the same file.
    let pod = echo("shop", "echo-9", "node-1");
    let said = lab.try_apply(&(rules + &strict + &pod)).success();
    assert!(!said.contains("selects no pod"), "{said}");
}

#[test]
fn a_policy_that_cannot_be_read_denies() {
    let lab = in_mesh(ambient_shop());
    let get = || lab.load("shop/client-1", &["get", "--fail", "http://echo-2/"]);
    assert_eq!(get().code, 0);
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: typo, namespace: shop}\nspec:\n  selector: {matchLabels: {name: echo-2}}\n  \
        rules: [{from: [{source: {principles: [\"cluster.local/ns/shop/sa/client-1\"]}}]}]\n";
    let said = lab.try_apply(policy).failure();
    // The line of the file, not of the control plane's copy.
    let place = "standard input:7: AuthorizationPolicy shop/typo: ";
    assert!(said.contains(place) && !said.contains(" line "), "{said}");
    let field = "spec.rules[0].from[0].source.principles: unknown field `principles`";
    assert!(said.contains(field), "{said}");
    assert!(said.contains("it denies what it selects"), "{said}");
    let status = lab.object("authorizationpolicy", "shop/typo")["status"].clone();
    assert_eq!(status["conditions"][0]["reason"], "Unreadable", "{status}");
    let message = text(&status["conditions"][0]["message"]);
    assert!(message.contains(field), "{message}");
    let denied = |when: &str| {
        let said = get().failure();
        assert!(!said.is_empty(), "{when}");
        assert_eq!(
            lab.get("shop/client-1", "http://echo-1/")["hostname"],
            "echo-1"
        );
    };
    denied("at once");
    let _ = lab.run(["restart", "control"]).success();
    denied("after a restart of control");
    let readable = policy.replace("principles", "principals");
    lab.apply(&readable);
    assert_eq!(get().code, 0, "mended");
    let _ = lab.try_apply(policy).failure();
    assert_eq!(get().code, 0, "what was read last stays in force");
}

#[test]
fn a_pod_does_not_start_without_its_node_s_agent() {
    let lab = in_mesh(ambient_shop());
    // Killed again and again it is not there for long enough to serve.
    let killer = std::thread::scope(|scope| {
        let killing = scope.spawn(|| {
            for _ in 0..20 {
                let _ = lab.run(["kill", "agent/node-1"]);
            }
        });
        lab.apply(&client("shop", "new", "node-1"));
        killing.join()
    });
    assert!(killer.is_ok());
    assert_eq!(lab.get("shop/new", "http://echo-2/")["hostname"], "echo-2");
    eventually("a tunnel of the new pod", PATIENCE, || {
        logged(&lab, "new").then_some(())
    });
}
