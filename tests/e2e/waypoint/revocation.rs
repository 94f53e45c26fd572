//! How long a live connection outlasts the policy that denies it, seen by its client.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_lab::harness::{Lab, Ran, eventually, program};

use super::scene::{CLIENT, OPAQUE, OTHER, manifests};
use super::told::lines;
use crate::flows::{flow_that, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may last that a policy in force denies: in most rounds, as a process may have to wait that long for a
/// CPU of a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// Through the waypoint, on the server's node, and from the other node: who calls, and what.
const PATHS: [(&str, &str); 3] = [
    (CLIENT, "opaque.mesh:9000"),
    (CLIENT, "other.elsewhere:8080"),
    (OTHER, "other.elsewhere:8080"),
];
/// The servers of these.
const SERVERS: [&str; 2] = ["mesh/v2", "elsewhere/other"];

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
        "targetRefs: [{kind: Service, group: \"\", name: opaque}], ",
    ) + &policy("elsewhere", "")
}

/// Talks until the connection ends, one line and then nothing, or twenty words a second; and says when it ended.
fn talk(lab: &Lab, (from, to): (&str, &str), busy: bool) -> (Ran, Duration) {
    let load = format!("{} tcp {to} --timeout 60s", program("load").display());
    let talk = match busy {
        true => format!("(echo '!info'; while echo word && sleep 0.05; do :; done) | {load}"),
        false => format!("echo '!info' | {load} --keep-open"),
    };
    // By the client's own clock: what runs it in the pod may take its time to say so, and a debug build takes a second for
    // the backtrace of an error.
    let script = format!("unset RUST_BACKTRACE; {talk}; code=$?; date +%s%N >&2; exit $code");
    let ran = lab.exec(from, &["sh", "-c", &script]);
    let at = ran.stderr.lines().last().and_then(|line| line.parse().ok());
    let at = Duration::from_nanos(at.unwrap_or_else(|| panic!("no time: {ran}")));
    (ran, at)
}

/// Now, as a client says it.
fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time of this age")
}

/// The connections whose first bytes have come to the servers, and that are open now.
fn open(lab: &Lab) -> u64 {
    let of = |server: &&str| {
        let stats = lab.get(server, "http://127.0.0.1:8080/stats");
        stats["info"]["open"].as_u64().unwrap_or_default()
    };
    SERVERS.iter().map(of).sum()
}

#[test]
fn a_denied_connection_ends_within_a_second() {
    let lab = start(manifests() + OPAQUE, &[]);
    let deny = deny();
    let talks: Vec<_> = PATHS
        .into_iter()
        .flat_map(|path| [(path, false), (path, true)])
        .collect();
    let mut outlasted = vec![Vec::new(); talks.len()];
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let (began, in_force, ended) = thread::scope(|scope| {
            let talking: Vec<_> = talks
                .iter()
                .map(|&(path, busy)| {
                    let lab = &lab;
                    scope.spawn(move || talk(lab, path, busy))
                })
                .collect();
            eventually("the connections to be open", PATIENCE, || {
                (open(&lab) == talks.len() as u64).then_some(())
            });
            let began = now();
            lab.apply(&deny);
            let in_force = now();
            let ended = talking.into_iter().map(|it| it.join().expect("an end"));
            (began, in_force, ended.collect::<Vec<_>>())
        });
        for ((ran, at), (talk, outlasted)) in ended.iter().zip(talks.iter().zip(&mut outlasted)) {
            assert_ne!(ran.code, 0, "{talk:?}: {ran}");
            assert!(ran.stdout.contains("remote_address"), "{talk:?}: {ran}");
            outlasted.push(at.saturating_sub(in_force));
            longest = longest.max(at.saturating_sub(began));
        }
        lab.delete(&deny);
    }
    for (rounds, talk) in outlasted.iter_mut().zip(&talks) {
        rounds.sort();
        let middle = rounds[ROUNDS / 2];
        assert!(
            middle < LIMIT,
            "{talk:?} outlasted it by {middle:?}: {rounds:?}"
        );
    }
    let slowest = outlasted.iter().flatten().max();
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
