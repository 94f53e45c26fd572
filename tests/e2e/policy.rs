//! Policies as people write them, in force when `lab apply` returns: who may talk, and who no longer.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, eventually, eventually_ok, program};
use serde_json::{Value, json};

use crate::fixtures::{AMBIENT, addresses, client, echo, namespace, service};
use crate::flows::{flow, flow_that, flows, identity, metric, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may live that a policy denies: the first of two that end. A client of a machine that is busy with other
/// tests may take longer to say so.
const DENIED_LIFE: Duration = Duration::from_secs(1);
const SAID: Duration = Duration::from_secs(5);

/// Who calls: a pod, and whether the proxies tell it from the others by its identity.
const FRIEND: &str = "shop/friend";
const FOE: &str = "shop/foe";
/// On the node of the server.
const NEIGHBOUR: &str = "shop/neighbour";
/// Enrolled, in another namespace.
const VISITOR: &str = "other/visitor";
/// Not enrolled.
const STRANGER: &str = "outside/stranger";
const CALLERS: [&str; 5] = [FRIEND, FOE, NEIGHBOUR, VISITOR, STRANGER];

/// Servers `echo` and `spare` on node-2, and everybody who calls them.
fn lab() -> Lab {
    lab_of("istio-system", &[])
}

/// The same, with a root namespace.
fn lab_of(root: &str, more: &[&str]) -> Lab {
    let mut manifests = namespace("shop", AMBIENT) + &namespace("other", AMBIENT);
    manifests += &(namespace("outside", "") + &namespace(root, ""));
    for name in ["echo", "spare"] {
        manifests += &echo("shop", name, "node-2");
        manifests += &service("shop", name, &format!("name: {name}"));
    }
    for (pod, node) in CALLERS
        .iter()
        .zip(["node-1", "node-1", "node-2", "node-1", "node-1"])
    {
        let (namespace, name) = pod.split_once('/').expect("a namespace and a name");
        manifests += &client(namespace, name, node);
    }
    start(manifests, more)
}

/// Whether `caller` gets an answer of `server`.
fn passes(lab: &Lab, caller: &str, server: &str) -> bool {
    let url = format!("http://{server}.shop/");
    lab.load(caller, &["get", "--fail", "--timeout", "5s", &url])
        .code
        == 0
}

/// The callers that get an answer.
fn allowed(lab: &Lab) -> Vec<&'static str> {
    CALLERS
        .into_iter()
        .filter(|caller| passes(lab, caller, "echo"))
        .collect()
}

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn peers(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// Puts `manifests` in force, compares who passes at once, removes them, and sees that everybody
/// passes again.
fn expect(lab: &Lab, case: &str, manifests: &str, callers: &[&str]) {
    lab.apply(manifests);
    assert_eq!(allowed(lab), callers, "{case}");
    assert!(
        passes(lab, FOE, "spare") || !manifests.contains("selector"),
        "{case}: spare is not selected"
    );
    lab.delete(manifests);
    assert_eq!(allowed(lab), CALLERS, "after {case}");
}

#[test]
fn rules_decide_by_identity_port_and_address() {
    let lab = lab();
    let [v4, v6] = addresses(&lab, FRIEND);
    let by_address = format!(
        "action: DENY, rules: [{{from: [{{source: {{ipBlocks: [{v4}, \"{v6}/128\"]}}}}]}}]"
    );
    let by_other_address = format!(
        "action: ALLOW, rules: [{{from: [{{source: {{notIpBlocks: [{v4}, \"{v6}\"]}}}}]}}]"
    );
    let cases: [(&str, &str, &[&str]); 13] = [
        (
            "a principal is denied",
            "action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/friend]}}]}]",
            &[FOE, NEIGHBOUR, VISITOR, STRANGER],
        ),
        (
            "two principals are allowed, on either node",
            "action: ALLOW, rules: [{from: [{source: {principals: \
             [cluster.local/ns/shop/sa/friend, \"*/sa/neighbour\"]}}]}]",
            &[FRIEND, NEIGHBOUR],
        ),
        (
            "a service account is allowed",
            "action: ALLOW, rules: [{from: [{source: {serviceAccounts: [friend, other/visitor]}}]}]",
            &[FRIEND, VISITOR],
        ),
        (
            "a namespace is denied",
            "action: DENY, rules: [{from: [{source: {namespaces: [other]}}]}]",
            &[FRIEND, FOE, NEIGHBOUR, STRANGER],
        ),
        (
            "a namespace is allowed",
            "action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}]}]",
            &[FRIEND, FOE, NEIGHBOUR],
        ),
        (
            "the server's port is denied, not the service's",
            "action: DENY, rules: [{to: [{operation: {ports: [\"8080\"]}}]}]",
            &[],
        ),
        (
            "another port is denied",
            "action: DENY, rules: [{to: [{operation: {ports: [\"80\"]}}]}]",
            &CALLERS,
        ),
        (
            "another port is allowed",
            "action: ALLOW, rules: [{to: [{operation: {ports: [\"9090\"]}}]}]",
            &[],
        ),
        (
            "an address is denied",
            &by_address,
            &[FOE, NEIGHBOUR, VISITOR, STRANGER],
        ),
        (
            "every other address is allowed",
            &by_other_address,
            &[FOE, NEIGHBOUR, VISITOR, STRANGER],
        ),
        (
            "source and port have to fit both",
            "action: ALLOW, rules: [{from: [{source: {namespaces: [shop]}}], \
             to: [{operation: {ports: [\"8080\"]}}], \
             when: [{key: source.principal, notValues: [cluster.local/ns/shop/sa/foe]}]}]",
            &[FRIEND, NEIGHBOUR],
        ),
        ("nothing is allowed", "", &[]),
        (
            "a rule for HTTP allows nothing here",
            "action: ALLOW, rules: [{to: [{operation: {paths: [\"/\"]}}]}]",
            &[],
        ),
    ];
    for (case, spec, callers) in cases {
        expect(&lab, case, &policy("shop", "rule", spec), callers);
    }
    let _ = flow_that(&lab, "node-2", "a line that names the policy", |flow| {
        flow.text("src.workload") == "friend" && flow.text("error").contains("shop/rule")
    });
    let denied = [("reporter", "destination"), ("response_flags", "DENY")];
    let denied = metric(
        &lab,
        "node-2",
        "istio_tcp_connections_failed_total",
        &denied,
    );
    assert!(denied > 0.0, "no metric counts the denials");
}

#[test]
fn policies_have_scopes_and_deny_goes_before_allow() {
    // One that is not the default, so that everybody has to be told.
    let root = "mesh-root";
    let lab = lab_of(
        root,
        &[
            "--control-arg=--root-namespace=mesh-root",
            "--ztunnel-env=AMBIT_ROOT_NAMESPACE=mesh-root",
        ],
    );
    let deny = "action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/friend]}}]}]";
    let allow = "action: ALLOW, rules: [{from: [{source: {principals: [\"*\"]}}]}]";
    let selected = |spec: &str| format!("selector: {{matchLabels: {{name: echo}}}}, {spec}");
    let identified: &[&str] = &[FRIEND, FOE, NEIGHBOUR, VISITOR];
    let without_friend: &[&str] = &[FOE, NEIGHBOUR, VISITOR];
    for (case, manifests, callers) in [
        ("of the mesh", policy(root, "all", allow), identified),
        ("of the namespace", policy("shop", "all", allow), identified),
        (
            "of the workload",
            policy("shop", "some", &selected(allow)),
            identified,
        ),
        (
            "of another workload",
            policy(
                "shop",
                "none",
                "selector: {matchLabels: {name: spade}}, action: DENY, rules: [{}]",
            ),
            &CALLERS,
        ),
        (
            "deny of the mesh, allow of the workload",
            policy(root, "deny", deny) + &policy("shop", "allow", &selected(allow)),
            without_friend,
        ),
        (
            "allowed by one of two",
            policy(
                "shop",
                "one",
                "action: ALLOW, rules: [{from: [{source: {namespaces: [other]}}]}]",
            ) + &policy(
                "shop",
                "two",
                "action: ALLOW, rules: [{from: [{source: {principals: [\"*/friend\"]}}]}]",
            ),
            &[FRIEND, VISITOR],
        ),
    ] {
        expect(&lab, case, &manifests, callers);
    }
}

#[test]
fn a_dry_run_is_logged_and_denies_nobody() {
    let lab = lab();
    let dry = policy("shop", "trial", "action: DENY, rules: [{}]").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {istio.io/dry-run: \"true\"}}",
    );
    expect(&lab, "a dry run", &dry, &CALLERS);
    eventually("a line of the dry run", PATIENCE, || {
        let log = lab.logs("ztunnel/node-2");
        let line = log.lines().find(|line| line.contains("dry-run"))?;
        assert!(line.contains("shop/trial"), "{line}");
        Some(())
    });
}

#[test]
fn strict_refuses_plain_text_at_every_level() {
    let lab = lab();
    let identified: &[&str] = &[FRIEND, FOE, NEIGHBOUR, VISITOR];
    let selector = "selector: {matchLabels: {name: echo}}, ";
    let strict = "mtls: {mode: STRICT}";
    let permissive = "mtls: {mode: PERMISSIVE}";
    for (case, manifests, callers) in [
        (
            "of the mesh",
            peers("istio-system", "default", strict),
            identified,
        ),
        (
            "of the namespace",
            peers("shop", "default", strict),
            identified,
        ),
        (
            "of the workload",
            peers("shop", "echo", &format!("{selector}{strict}")),
            identified,
        ),
        (
            "of the mesh, but not of the namespace",
            peers("istio-system", "default", strict) + &peers("shop", "default", permissive),
            &CALLERS,
        ),
        (
            "of the namespace, but not of the workload",
            peers("shop", "default", strict)
                + &peers("shop", "echo", &format!("{selector}{permissive}")),
            &CALLERS,
        ),
        (
            "but not of the port",
            peers(
                "shop",
                "echo",
                &format!("{selector}{strict}, portLevelMtls: {{8080: {{mode: PERMISSIVE}}}}"),
            ),
            &CALLERS,
        ),
        (
            "of the port alone",
            peers(
                "shop",
                "echo",
                &format!("{selector}{permissive}, portLevelMtls: {{8080: {{mode: STRICT}}}}"),
            ),
            identified,
        ),
    ] {
        expect(&lab, case, &manifests, callers);
    }
}

#[test]
fn live_connections_end_when_they_become_denied_and_others_do_not() {
    let lab = lab();
    let deny = "action: DENY, rules: [{from: [{source: {principals: \
        [cluster.local/ns/shop/sa/friend, cluster.local/ns/shop/sa/neighbour]}}]}]";
    let deny = policy("shop", "live", deny);
    // Who may goes on asking for longer than who may not would wait for the end of a connection.
    let talk = |caller: &'static str| {
        let arguments = match caller {
            FOE => "websocket http://echo.shop/ --rate 20 -n 200 --json",
            _ => "tcp echo.shop:80 --send hello --keep-open --timeout 30s",
        };
        let arguments: Vec<_> = arguments.split(' ').collect();
        let ran = lab.load(caller, &arguments);
        (ran, Instant::now())
    };
    let (in_force, [friend, neighbour, foe]) = thread::scope(|scope| {
        let talking = [FRIEND, NEIGHBOUR, FOE].map(|caller| scope.spawn(move || talk(caller)));
        for caller in ["friend", "neighbour", "foe"] {
            eventually(&format!("a connection of {caller}"), PATIENCE, || {
                let labels = [("reporter", "destination"), ("source_workload", caller)];
                let opened = metric(
                    &lab,
                    "node-2",
                    "istio_tcp_connections_opened_total",
                    &labels,
                );
                (opened > 0.0).then_some(())
            });
        }
        lab.apply(&deny);
        let in_force = Instant::now();
        let talks = talking.map(|thread| thread.join().expect("a talk that ended"));
        (in_force, talks)
    });
    let (foe, _) = foe;
    // The one that may goes on without a fault on the connection it has.
    assert_eq!(foe.code, 0, "{foe}");
    let lived = [friend.1, neighbour.1].map(|ended| ended.saturating_duration_since(in_force));
    assert!(lived.iter().min() < Some(&DENIED_LIFE), "{lived:?}");
    assert!(lived.iter().max() < Some(&SAID), "{lived:?}");
    for (caller, (ran, _)) in [("friend", friend), ("neighbour", neighbour)] {
        assert_ne!(ran.code, 0, "{ran}");
        let what = format!("{caller}'s live connection closed");
        let _ = flow_that(&lab, "node-2", &what, |flow| {
            flow.text("src.workload") == caller
                && flow.text("error").contains("shop/live")
                && flow.number("bytes_recv") > 0
        });
    }
    let _ = flow(
        &lab,
        "node-2",
        &[("src.workload", "foe"), ("dst.workload", "echo")],
    );
    lab.delete(&deny);
    assert_eq!(allowed(&lab), CALLERS);
}

/// What the proxy of a node shows of who was denied.
fn denials(lab: &Lab, node: &str) -> Vec<Value> {
    let ambit = program("ambit").to_string_lossy().into_owned();
    let argv = [&*ambit, "ztunnel", "denials", "--output", "json"];
    let rows = lab.exec(&format!("node/{node}"), &argv).json();
    rows.as_array().cloned().unwrap_or_default()
}

#[test]
fn who_was_denied_whom_is_counted_by_pair() {
    let lab = lab();
    assert_eq!(allowed(&lab), CALLERS);
    assert_eq!(denials(&lab, "node-2"), [0; 0], "nobody was denied");
    lab.apply(&policy(
        "shop",
        "few",
        "action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/foe]}}]}]",
    ));
    for _ in 0..3 {
        assert!(!passes(&lab, FRIEND, "echo"));
    }
    for caller in [NEIGHBOUR, STRANGER] {
        assert!(!passes(&lab, caller, "echo"), "{caller}");
    }
    assert!(passes(&lab, FOE, "echo"));
    let why = "denied: no rule of the ALLOW policy shop/few matches";
    // Of a tunnel, of one node, and in plain text; a client may have tried again. Each line of the log is one that is counted.
    for (source, direction, least) in [
        ("shop/friend", "inbound", 3),
        ("shop/neighbour", "outbound", 1),
        ("outside/stranger", "inbound", 1),
    ] {
        let row = eventually_ok(source, PATIENCE, || {
            let lines = flows(&lab, "node-2").into_iter().filter(|flow| {
                let from = [flow.text("src.namespace"), flow.text("src.workload")].join("/");
                from == source && flow.text("error") == why
            });
            let lines = lines.count();
            let rows = denials(&lab, "node-2");
            let found = rows.iter().find(|row| row["source"] == source);
            let counted = found.filter(|row| lines >= least && row["count"] == lines);
            let wrong = || format!("{lines} lines, {rows:?}");
            counted.cloned().ok_or_else(wrong)
        });
        let fields = json!({
            "direction": direction, "destination": "shop/echo", "port": 8080, "reason": why, "over": 0,
            "sourceAddress": null, "destinationAddress": null,
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            assert_eq!(row[name], *value, "{name}: {row}");
        }
        let proved = source
            .strip_prefix("shop/")
            .map(|name| identity("shop", name));
        assert_eq!(row["sourceIdentity"].as_str(), proved.as_deref(), "{row}");
    }
    let rows = denials(&lab, "node-2");
    let allowed = rows.iter().any(|row| row["source"] == "shop/foe");
    assert!(!allowed, "{rows:?}");
}
