//! How long a live connection outlasts the policy that denies it, seen by its client.

use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{Lab, Ran, eventually, program};

use super::scene::{CLIENT, OTHER, lab};
use super::told::lines;
use crate::flows::flow_that;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may last that a policy in force denies.
const LIMIT: Duration = Duration::from_secs(1);
const ROUNDS: usize = 3;

/// Through the waypoint, on the server's node, and from the other node: who calls, and what.
const PATHS: [(&str, &str); 3] = [
    (CLIENT, "v1.mesh:9090"),
    (CLIENT, "other.elsewhere:9090"),
    (OTHER, "other.elsewhere:9090"),
];
/// The servers of these, on port 8080.
const SERVERS: [&str; 2] = ["mesh/v1", "elsewhere/other"];

/// Denies the two callers: the waypoint for the service, and the node proxy for the pod.
fn deny() -> String {
    let spec = "action: DENY, rules: [{from: [{source: {serviceAccounts: \
        [mesh/client, mesh/other]}}]}]";
    let policy = |namespace: &str, target: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: live, namespace: {namespace}}}\nspec: {{{target}{spec}}}\n"
        )
    };
    policy(
        "mesh",
        "targetRefs: [{kind: Service, group: \"\", name: v1}], ",
    ) + &policy("elsewhere", "")
}

/// Talks until the connection ends: one word and then nothing, or twenty words a second.
fn talk(lab: &Lab, (from, to): (&str, &str), busy: bool) -> Ran {
    let load = format!("{} tcp {to} --timeout 60s", program("load").display());
    let script = match busy {
        true => format!("while echo word && sleep 0.05; do :; done | {load}"),
        false => format!("{load} --keep-open --send word"),
    };
    lab.exec(from, &["sh", "-c", &script])
}

/// The connections that the servers echo on now.
fn open(lab: &Lab) -> u64 {
    let of = |server: &&str| {
        let stats = lab.get(server, "http://127.0.0.1:8080/stats");
        stats["echo"]["open"].as_u64().unwrap_or_default()
    };
    SERVERS.iter().map(of).sum()
}

#[test]
fn a_denied_connection_ends_within_a_second() {
    let lab = lab();
    let deny = deny();
    let talks: Vec<_> = PATHS
        .into_iter()
        .flat_map(|path| [(path, false), (path, true)])
        .collect();
    let (mut slowest, mut longest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (began, in_force, ended) = thread::scope(|scope| {
            let talking: Vec<_> = talks
                .iter()
                .map(|&(path, busy)| {
                    let lab = &lab;
                    scope.spawn(move || (talk(lab, path, busy), Instant::now()))
                })
                .collect();
            eventually("the connections to be open", PATIENCE, || {
                (open(&lab) >= talks.len() as u64).then_some(())
            });
            let began = Instant::now();
            lab.apply(&deny);
            let in_force = Instant::now();
            let ended = talking.into_iter().map(|it| it.join().expect("an end"));
            (began, in_force, ended.collect::<Vec<_>>())
        });
        for ((ran, at), talk) in ended.iter().zip(&talks) {
            assert_ne!(ran.code, 0, "{talk:?}: {ran}");
            assert!(ran.stdout.starts_with("word"), "{talk:?}: {ran}");
            let outlasted = at.saturating_duration_since(in_force);
            assert!(outlasted < LIMIT, "{talk:?} outlasted it by {outlasted:?}");
            slowest = slowest.max(outlasted);
            longest = longest.max(*at - began);
        }
        lab.delete(&deny);
    }
    eprintln!(
        "{} denied connections: the last ended {slowest:?} after the policy was in force, {longest:?} after it was written",
        ROUNDS * talks.len()
    );
    // Each where it was meant to be judged.
    let _ = eventually("a line of the waypoint", PATIENCE, || {
        let lines = lines(&lab, &["\"- - -\" 0 RBAC ", "mesh/live"]);
        lines.into_iter().next()
    });
    for caller in ["client", "other"] {
        let _ = flow_that(&lab, "node-1", "a connection closed", |flow| {
            flow.text("src.workload") == caller
                && flow.text("error").contains("elsewhere/live")
                && flow.number("bytes_recv") > 0
        });
    }
}
