//! A trust domain is renamed while its workloads talk: who may goes on without a failed request, who may not gets
//! through in no state on the way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Ending, Lab, eventually};
use serde_json::Value;

use crate::fixtures::{AMBIENT, client, echo, namespace, service};
use crate::flows::start;

const OLD: &str = "old.example";
const NEW: &str = "new.example";
const PATIENCE: Duration = Duration::from_secs(120);
const NODES: [&str; 2] = ["node-1", "node-2"];

/// Servers, and what they are tests of. All are on node-2.
const SERVERS: [&str; 5] = [
    // Node proxies: allowed and denied by name.
    "named.direct",
    // Node proxies: all but one are allowed.
    "excepted.direct",
    // The waypoint: allowed by name, denied by a condition.
    "named.bound",
    // The waypoint: all but one are denied.
    "excepted.bound",
    // Node proxies, by what the waypoint says of its caller.
    "behind.bound",
];
/// From one node to the other, and on the node of the servers.
const FRIENDS: [&str; 2] = ["friend-1", "friend-2"];
const FOES: [&str; 2] = ["foe-1", "foe-2"];

fn manifests() -> String {
    let mut all = namespace("people", AMBIENT) + &namespace("direct", AMBIENT);
    all += &namespace(
        "bound",
        &format!("{AMBIENT}, istio.io/use-waypoint: waypoint"),
    );
    all += "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
            metadata: {name: waypoint, namespace: bound}\n\
            spec: {gatewayClassName: ambit-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n";
    for account in ["friend", "foe"] {
        for node in NODES {
            let name = account.to_owned() + &node["node".len()..];
            let own = format!("serviceAccountName: {name}");
            let shared = format!("serviceAccountName: {account}");
            all += &client("people", &name, node).replace(&own, &shared);
        }
        all += &format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: people}}\n"
        );
    }
    for server in SERVERS {
        let (name, namespace) = server.split_once('.').expect("a name and a namespace");
        all += &echo(namespace, name, "node-2");
        all += &service(namespace, name, &format!("name: {name}"));
    }
    all
}

/// Policies that call people by this name of the trust domain.
fn policies(trust_domain: &str) -> String {
    let of = |who: &str| format!("{trust_domain}/ns/people/sa/{who}");
    let (friend, foe) = (of("friend"), of("foe"));
    // What the foe is allowed as well is denied for a reason.
    let both = format!(
        "action: ALLOW, rules: [{{from: [{{source: {{principals: [{friend}, {foe}]}}}}]}}]"
    );
    let rules = |name: &str, spec: &str| {
        let (policy, namespace) = name.split_once('.').expect("a name and a namespace");
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {policy}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
        )
    };
    let selector =
        |name: &str, spec: &str| format!("selector: {{matchLabels: {{name: {name}}}}}, {spec}");
    let target = |name: &str, spec: &str| {
        format!("targetRefs: [{{kind: Service, group: \"\", name: {name}}}], {spec}")
    };
    let denied = format!("action: DENY, rules: [{{from: [{{source: {{principals: [{foe}]}}}}]}}]");
    let when =
        format!("action: DENY, rules: [{{when: [{{key: source.principal, values: [{foe}]}}]}}]");
    let all_but_foe =
        format!("action: ALLOW, rules: [{{from: [{{source: {{notPrincipals: [{foe}]}}}}]}}]");
    let all_but_friend =
        format!("action: DENY, rules: [{{from: [{{source: {{notPrincipals: [{friend}]}}}}]}}]");
    [
        rules("allow.direct", &selector("named", &both)),
        rules("deny.direct", &selector("named", &denied)),
        rules("excepted.direct", &selector("excepted", &all_but_foe)),
        rules("allow.bound", &target("named", &both)),
        rules("deny.bound", &target("named", &when)),
        rules("excepted.bound", &target("excepted", &all_but_friend)),
        rules("behind.bound", &selector("behind", &denied)),
    ]
    .concat()
}

/// Calls of `caller` for a second, each over a connection of its own: how many were answered, and how many failed.
fn calls(lab: &Lab, caller: &str, server: &str) -> (u64, u64, String) {
    let url = format!("http://{server}/");
    let ran = lab.load(
        &format!("people/{caller}"),
        &[
            "http",
            "-c",
            "1",
            "--rate",
            "10",
            "--new-connections",
            "-d",
            "1s",
            "--json",
            &url,
        ],
    );
    let report = serde_json::from_str::<Value>(&ran.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {ran}"));
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let (answered, failed) = (
        number(&report["requests"]),
        number(&report["errors"]["total"]),
    );
    (answered, failed, format!("{caller} to {server}: {report}"))
}

/// What was answered otherwise than it should have been, with what the waypoint has said of it.
fn wrong(lab: &Lab, may: bool, (answered, failed, said): (u64, u64, String)) -> Option<String> {
    let right = match may {
        true => answered > 0 && failed == 0,
        false => answered == 0 && failed > 0,
    };
    if right {
        return None;
    }
    let log = lab.logs("bound/waypoint/waypoint");
    let lines: Vec<_> = log.lines().filter(|it| !it.contains(" 200 ")).collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    Some(format!("{said}\n{last}"))
}

/// Who calls, and whether they may.
fn callers() -> impl Iterator<Item = (&'static str, bool)> {
    let friends = FRIENDS.into_iter().map(|it| (it, true));
    friends.chain(FOES.into_iter().map(|it| (it, false)))
}

/// Whether each gets what is his at each server, right now.
fn all_is_well(lab: &Lab, state: &str) {
    thread::scope(|scope| {
        for (caller, may) in callers() {
            scope.spawn(move || {
                for server in SERVERS {
                    let wrong = wrong(lab, may, calls(lab, caller, server));
                    assert!(wrong.is_none(), "{state}: {}", wrong.unwrap_or_default());
                }
            });
        }
    });
}

/// The same on and on, from every client at once, while `meanwhile` happens.
fn all_along(lab: &Lab, meanwhile: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = callers().map(|(caller, may)| {
            let done = &done;
            scope.spawn(move || {
                let mut total = (0, 0);
                let mut all = Vec::new();
                for server in SERVERS.into_iter().cycle() {
                    let found = calls(lab, caller, server);
                    total = (total.0 + found.0, total.1 + found.1);
                    all.extend(wrong(lab, may, found));
                    if done.load(Ordering::Relaxed) {
                        return (caller, total, all);
                    }
                }
                unreachable!("a cycle has no end")
            })
        });
        let running: Vec<_> = running.collect();
        {
            let _ending = Ending(&done);
            meanwhile();
        }
        for caller in running {
            let (caller, total, wrong) = caller.join().expect("a report");
            assert!(wrong.is_empty(), "{caller}: {}", wrong.join("\n"));
            eprintln!("{caller}: {} answered, {} refused", total.0, total.1);
        }
    });
}

/// The names that parts of the mesh are told: the own one, and all of them.
struct Names<'a>(&'a str, &'a str);

impl Names<'_> {
    fn variables(&self) -> [String; 2] {
        let Self(own, all) = self;
        [
            format!("TRUST_DOMAIN={own}"),
            format!("AMBIT_TRUST_DOMAIN_ALIASES={all}"),
        ]
    }
}

/// Starts a part of the mesh anew with these names; with control the waypoint, and waits until that has been replaced.
fn rename(lab: &Lab, part: &str, names: &Names<'_>) {
    let [own, all] = names.variables();
    let _ = lab
        .run(["replace", part, "--env", &own, "--env", &all])
        .success();
    if part != "control" {
        return;
    }
    eventually("the waypoint to be told", PATIENCE, || {
        let pods = lab.objects("pod", "bound").into_iter().filter(|pod| {
            let of = &pod["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"];
            of == "waypoint"
        });
        let pods: Vec<_> = pods.collect();
        let told = |pod: &Value| {
            let variable = |name: &str| {
                let all = pod["spec"]["containers"][0]["env"].as_array();
                let found = all.into_iter().flatten().find(|it| it["name"] == name);
                found.map_or(String::new(), |it| {
                    it["value"].as_str().unwrap_or_default().to_owned()
                })
            };
            let aliases = names.1.split(',').filter(|it| *it != names.0);
            variable("TRUST_DOMAIN") == names.0
                && variable("AMBIT_TRUST_DOMAIN_ALIASES") == aliases.collect::<Vec<_>>().join(",")
        };
        (pods.len() == 1 && told(&pods[0])).then_some(())
    });
}

/// The identities that a node's proxy has certificates of.
fn certificates(lab: &Lab, node: &str) -> Vec<String> {
    let url = "http://127.0.0.1:15000/config_dump";
    let dump = lab.load(&format!("node/{node}"), &["get", "--fail", url]);
    let dump = dump.json();
    let all = dump["certificates"].as_array().cloned().unwrap_or_default();
    let identities = all
        .iter()
        .map(|it| it["identity"].as_str().expect("an identity").to_owned());
    identities.collect()
}

#[test]
fn a_trust_domain_is_renamed_while_its_workloads_talk() {
    let lab = start(manifests(), &["--trust-domain", OLD]);
    lab.apply(&policies(OLD));
    let certified_as = |name: &str| {
        for node in NODES {
            let found = certificates(&lab, node);
            let id = format!("spiffe://{name}/");
            assert!(
                !found.is_empty() && found.iter().all(|it| it.starts_with(&id)),
                "{found:?}"
            );
        }
    };
    all_is_well(&lab, "before");
    certified_as(OLD);

    let both = format!("{OLD},{NEW}");
    // Everybody believes the new name before anybody shows it. Nodes and waypoints differ on the way.
    let steps = [
        ("control", OLD),
        ("ztunnel/node-1", OLD),
        ("ztunnel/node-2", OLD),
        ("ztunnel/node-1", NEW),
        ("control", NEW),
        ("ztunnel/node-2", NEW),
    ];
    for (part, own) in steps {
        all_along(&lab, || rename(&lab, part, &Names(own, &both)));
        all_is_well(&lab, &format!("once {part} knows {both} and is {own}"));
    }
    certified_as(NEW);

    // Whoever writes policies may say either name, or all that there ever were.
    all_along(&lab, || lab.apply(&policies("cluster.local")));
    all_along(&lab, || lab.apply(&policies(NEW)));
    for part in ["ztunnel/node-2", "control", "ztunnel/node-1"] {
        all_along(&lab, || rename(&lab, part, &Names(NEW, "")));
        all_is_well(&lab, &format!("once {part} has forgotten {OLD}"));
    }
    certified_as(NEW);
}
