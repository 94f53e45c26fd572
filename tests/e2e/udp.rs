//! UDP of pods that ask for it: in tunnels between nodes, judged as TCP is, and never without bound.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ambit_lab::capture::Tap;
use ambit_lab::harness::{Lab, eventually, program};
use serde_json::Value;

use crate::fixtures::{AMBIENT, addresses, client, cluster_ips, echo, host, namespace};
use crate::flows::{Flow, flow, flow_that, flows, identity, metric, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// In the mesh and with UDP, on node-1.
const CLIENT: &str = "mesh/client";
/// In the mesh, without UDP.
const PLAIN: &str = "mesh/plain";
/// Not in the mesh.
const STRANGER: &str = "outside/stranger";

/// A pod with the annotation.
fn with_udp(pod: &str) -> String {
    let annotated = pod.replace(
        "labels: {app: ",
        "annotations: {ambit.dev/udp: enabled}, labels: {app: ",
    );
    assert_ne!(annotated, pod);
    annotated
}

/// A service whose port 5000 leads to the echo by UDP, and to nothing by TCP.
fn service(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  ipFamilyPolicy: PreferDualStack\n  selector: {{name: {name}}}\n  ports:\n  \
         - {{name: tcp, port: 5000, targetPort: 9}}\n  - {{name: udp, port: 5000, targetPort: 8080, protocol: UDP}}\n"
    )
}

/// `mesh/far` on node-2 and `mesh/near` on node-1 with UDP, `mesh/bare` on node-2 without; `strict/echo` on node-2 refuses plain text.
fn manifests() -> String {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: strict, namespace: strict}\nspec: {mtls: {mode: STRICT}}\n";
    let mut all = namespace("mesh", AMBIENT) + &namespace("strict", AMBIENT);
    all += &(namespace("outside", "") + strict);
    for (name, node) in [("far", "node-2"), ("near", "node-1")] {
        all += &(with_udp(&echo("mesh", name, node)) + &service("mesh", name));
    }
    all += &(echo("mesh", "bare", "node-2") + &service("mesh", "bare"));
    all += &with_udp(&echo("strict", "echo", "node-2"));
    all += &with_udp(&client("mesh", "client", "node-1"));
    all += &client("mesh", "plain", "node-1");
    all + &client("outside", "stranger", "node-1")
}

/// Read only.
fn shared() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| start(manifests(), &["--ztunnel-env", "AMBIT_UDP_IDLE_TIMEOUT=2s"]))
}

/// What comes of datagrams from a pod, in their order.
fn ask(lab: &Lab, from: &str, to: &[String], arguments: &[&str]) -> Vec<Value> {
    let mut argv = vec!["udp"];
    argv.extend(to.iter().map(String::as_str));
    argv.extend(arguments);
    if !arguments.contains(&"--timeout") {
        argv.extend(["--timeout", "2s"]);
    }
    let lines = lab.load(from, &argv).stdout;
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.map(|line: Value| line["answer"].clone()).collect()
}

/// Whether all of them are answered by what sees the pod's own address.
fn answered(lab: &Lab, from: &str, to: &[String], arguments: &[&str]) -> bool {
    let own: BTreeSet<String> = addresses(lab, from).into();
    let answers = ask(lab, from, to, arguments);
    assert!(answers.len() >= to.len(), "{answers:?}");
    answers.iter().all(|answer| {
        let seen = answer["remote_address"].as_str();
        let seen = seen.and_then(|seen| seen.parse::<std::net::SocketAddr>().ok());
        seen.is_some_and(|seen| own.contains(&seen.ip().to_string()))
    })
}

/// A pod's port 8080, at both of its addresses.
fn at_pod(lab: &Lab, pod: &str) -> Vec<String> {
    let ips = addresses(lab, pod);
    ips.iter().map(|ip| format!("{}:8080", host(ip))).collect()
}

/// Its service's.
fn at_service(lab: &Lab, service: &str) -> Vec<String> {
    let ips = cluster_ips(lab, service);
    ips.iter().map(|ip| format!("{}:5000", host(ip))).collect()
}

fn tap(lab: &Lab, node: &str) -> Tap {
    Tap::start(lab, &format!("node/{node}")).expect("a tap")
}

/// Waits until these octets were on the link.
fn sees(tap: &Tap, octets: &[u8]) {
    eventually("octets on the wire", PATIENCE, || {
        tap.has_seen(octets).then_some(())
    });
}

#[test]
fn datagrams_travel_between_nodes_in_tunnels() {
    let lab = shared();
    let tap = tap(lab, "node-2");
    let mut to = at_service(lab, "mesh/far");
    to.extend(at_pod(lab, "mesh/far"));
    // One socket, four destinations.
    let arguments = ["--send", "sesame", "--size", "8000", "-n", "3"];
    assert!(answered(lab, CLIENT, &to, &arguments));
    let small = ["--send", "sesame", "--from", "7777"];
    assert!(answered(lab, CLIENT, &to, &small));
    // Nobody but the ends can read it; a plain one shows that it would be seen.
    assert!(answered(
        lab,
        PLAIN,
        &at_pod(lab, "mesh/bare"),
        &["--send", "open"]
    ));
    sees(&tap, b"0 open");
    assert!(!tap.has_seen(b"sesame"));
    let identities = ["client", "far"].map(|name| identity("mesh", name));
    for (node, direction) in [("node-1", "outbound"), ("node-2", "inbound")] {
        let fields = [
            ("protocol", "udp"),
            ("direction", direction),
            ("src.identity", &*identities[0]),
            ("dst.identity", &*identities[1]),
        ];
        // When it has been idle for so long.
        let flow = flow(lab, node, &fields);
        assert!(flow.text("dst.hbone_addr").ends_with(":8080"), "{flow:?}");
        assert!(
            flow.number("bytes_sent") > 0 && flow.number("bytes_recv") > 0,
            "{flow:?}"
        );
    }
    for (node, reporter) in [("node-1", "source"), ("node-2", "destination")] {
        let labels = [
            ("reporter", reporter),
            ("request_protocol", "udp"),
            ("connection_security_policy", "mutual_tls"),
            ("destination_principal", &*identities[1]),
        ];
        let opened = metric(lab, node, "istio_tcp_connections_opened_total", &labels);
        assert!(opened >= 8.0, "{node}: {opened}");
    }
}

#[test]
fn pods_of_one_node_are_joined_with_their_identities() {
    let lab = shared();
    let mut to = at_service(lab, "mesh/near");
    to.extend(at_pod(lab, "mesh/near"));
    assert!(answered(lab, CLIENT, &to, &["--size", "8000", "-n", "2"]));
    let identities = ["client", "near"].map(|name| identity("mesh", name));
    let fields = [
        ("protocol", "udp"),
        ("security", "node_local"),
        ("src.identity", &*identities[0]),
        ("dst.identity", &*identities[1]),
    ];
    flow(lab, "node-1", &fields);
}

#[test]
fn plaintext_is_judged_and_pods_without_the_annotation_are_as_ever() {
    let lab = shared();
    // From outside, and from the mesh without UDP: with no identity.
    for from in [STRANGER, PLAIN] {
        let mut permissive = at_pod(lab, "mesh/far");
        permissive.extend(at_pod(lab, "mesh/near"));
        permissive.extend(at_pod(lab, "mesh/bare"));
        assert!(
            answered(lab, from, &permissive, &["--size", "8000"]),
            "{from}"
        );
        let strict = ask(
            lab,
            from,
            &at_pod(lab, "strict/echo"),
            &["-n", "2", "--timeout", "300ms"],
        );
        assert_eq!(
            strict,
            [Value::Null, Value::Null, Value::Null, Value::Null],
            "{from}"
        );
    }
    let fields = [("protocol", "udp"), ("direction", "inbound")];
    let refused =
        |flow: &Flow| flow.text("dst.addr").ends_with(":8080") && !flow.text("error").is_empty();
    let refused = eventually("a refusal", PATIENCE, || {
        let mut all = flows(lab, "node-2").into_iter();
        all.find(|flow| flow.has(&fields) && refused(flow))
    });
    let why = refused.text("error");
    for part in [
        "a PeerAuthentication of the workload, its namespace or the mesh is STRICT",
        "istio_converted_static_strict",
        "annotation ambit.dev/udp is enabled",
    ] {
        assert!(why.contains(part), "{part}: {refused:?}");
    }
    // With one it is taken, and from there to a pod that has not asked for UDP it goes in plain text.
    assert!(answered(lab, CLIENT, &at_pod(lab, "strict/echo"), &[]));
    let mut bare = at_service(lab, "mesh/bare");
    bare.extend(at_pod(lab, "mesh/bare"));
    assert!(answered(lab, CLIENT, &bare, &["-n", "2"]));
    // Names, by the DNS that is captured as ever.
    for name in ["far", "near", "bare"] {
        let name = vec![format!("{name}.mesh:5000")];
        assert!(answered(lab, CLIENT, &name, &[]), "{name:?}");
    }
    // Itself, by its addresses and by its own service.
    let mut itself = at_pod(lab, "mesh/near");
    itself.push("127.0.0.1:8080".to_owned());
    let answers = ask(lab, "mesh/near", &itself, &[]);
    assert!(
        answers.iter().all(|answer| !answer.is_null()),
        "{answers:?}"
    );
    assert!(answered(
        lab,
        "mesh/near",
        &at_service(lab, "mesh/near"),
        &[]
    ));
    // Nobody listens there by TCP, and nothing is at that port by UDP.
    let none = at_service(lab, "mesh/far")
        .iter()
        .map(|it| it.replace(":5000", ":5001"))
        .collect::<Vec<_>>();
    assert_eq!(
        ask(lab, CLIENT, &none, &["--timeout", "300ms"]),
        [Value::Null, Value::Null]
    );
    flow_that(lab, "node-1", "no such port", |flow| {
        flow.text("error")
            .contains("has no UDP port 5001; it has 5000")
    });
}

fn policy(action: &str, principal: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: only, namespace: mesh}}\n\
         spec:\n  selector: {{matchLabels: {{app: echo}}}}\n  action: {action}\n  \
         rules:\n  - from: [{{source: {{principals: [cluster.local/ns/mesh/sa/{principal}]}}}}]\n    \
         to: [{{operation: {{ports: ['8080']}}}}]\n"
    )
}

#[test]
fn policies_are_for_flows_and_close_those_that_run() {
    let lab = start(manifests(), &[]);
    let all = || [at_pod(&lab, "mesh/far"), at_pod(&lab, "mesh/near")].concat();
    let refused = |from| {
        let answers = ask(&lab, from, &all(), &["--timeout", "300ms"]);
        answers.iter().all(Value::is_null)
    };
    assert!(answered(&lab, CLIENT, &all(), &[]));
    lab.apply(&policy("ALLOW", "client"));
    assert!(answered(&lab, CLIENT, &all(), &[]));
    assert!(refused(PLAIN), "it has no identity");
    // A flow that runs, with an answer every 50 ms.
    let [far, near] = ["mesh/far", "mesh/near"].map(|pod| at_pod(&lab, pod).remove(0));
    let running = Running::start(&lab, &far);
    let local = Running::start(&lab, &near);
    lab.apply(&policy("DENY", "client"));
    let applied = Instant::now();
    for (running, node) in [(running, "node-2"), (local, "node-1")] {
        let outlasted = running.falls_silent().saturating_duration_since(applied);
        assert!(outlasted < Duration::from_secs(3), "{node}: {outlasted:?}");
        flow_that(&lab, node, "a flow that was closed", |flow| {
            flow.text("protocol") == "udp" && flow.text("error").starts_with("closed: ")
        });
    }
    assert!(refused(CLIENT));
    lab.apply(&policy("ALLOW", "client"));
    eventually("allowed again", PATIENCE, || {
        answered(&lab, CLIENT, &all(), &["--timeout", "300ms"]).then_some(())
    });
}

/// A client that goes on, and says of each datagram whether it was answered.
struct Running {
    process: Child,
    lines: std::sync::mpsc::Receiver<(Instant, bool)>,
}

impl Running {
    fn start(lab: &Lab, to: &str) -> Self {
        let process = Command::new(program("lab"))
            .args(["--name", lab.name(), "exec", "-n", "mesh", "client", "--"])
            .arg(program("load"))
            .args([
                "udp",
                to,
                "-n",
                "100000",
                "--interval",
                "50ms",
                "--timeout",
                "200ms",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = process.expect("started");
        let out = process.stdout.take().expect("piped");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                let answer: Value = serde_json::from_str(&line).expect("JSON");
                let _ = sender.send((Instant::now(), !answer["answer"].is_null()));
            }
        });
        let running = Self { process, lines };
        let deadline = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        while in_a_row < 5 {
            assert!(Instant::now() < deadline, "it does not run");
            let answered = running.lines.recv_timeout(PATIENCE).expect("a line").1;
            in_a_row = if answered { in_a_row + 1 } else { 0 };
        }
        running
    }

    /// Waits until one more is answered than were so far.
    fn is_answered(&self) {
        while self.lines.try_recv().is_ok() {}
        eventually("an answer", PATIENCE, || {
            let answered = self.lines.recv_timeout(PATIENCE).expect("a line").1;
            answered.then_some(())
        });
    }

    fn stops(mut self) {
        self.process.kill().expect("stopped");
        self.process.wait().expect("it was there");
    }

    /// Waits until nothing is answered any more, and gives the time of the first line that says so.
    fn falls_silent(self) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        let mut silent = Vec::new();
        // One that is late on a busy machine is no silence: none of those that follow it is answered.
        while silent.len() < 6 {
            assert!(Instant::now() < deadline, "it goes on");
            let (at, answered) = self.lines.recv_timeout(PATIENCE).expect("a line");
            match answered {
                true => silent.clear(),
                false => silent.push(at),
            }
        }
        self.stops();
        silent[0]
    }
}

/// Sockets of a kind (`udp`, `raw`) in a pod's namespace: lines of the kernel's own tables.
fn sockets(lab: &Lab, pod: &str, kind: &str) -> usize {
    let tables = ["", "6"].map(|version| format!("/proc/net/{kind}{version}"));
    let lines = tables.map(|table| lab.exec(pod, &["cat", &table]).success().lines().count() - 1);
    lines.iter().sum()
}

#[test]
fn flows_are_bounded_and_end_when_they_are_idle() {
    let limits = [
        "--ztunnel-env",
        "AMBIT_UDP_IDLE_TIMEOUT=2s",
        "--ztunnel-env",
        "AMBIT_UDP_FLOWS_PER_POD=50",
    ];
    let lab = start(manifests(), &limits);
    let before = ["mesh/client", "mesh/far"].map(|pod| sockets(&lab, pod, "udp"));
    let to = at_pod(&lab, "mesh/far");
    assert!(answered(&lab, CLIENT, &to, &[]));
    let counted =
        |node: &str, name: &str, labels: &[(&str, &str)]| metric(&lab, node, name, labels);
    let reached = [("limit", "AMBIT_UDP_FLOWS_PER_POD")];
    let dropped = "ambit_udp_datagrams_dropped_total";
    // Of the pod's own, and of a stranger's.
    let _ = lab
        .load(CLIENT, &["udp", &to[0], "--flood", "500"])
        .success();
    let _ = lab
        .load(STRANGER, &["udp", &to[0], "--flood", "500"])
        .success();
    for node in ["node-1", "node-2"] {
        eventually(&format!("a limit at {node}"), PATIENCE, || {
            let limit = counted(node, "ambit_pod_limits_reached_total", &reached);
            let lost = counted(node, dropped, &[("reason", "limit")]);
            (limit > 0.0 && lost > 0.0).then_some(())
        });
    }
    let most = sockets(&lab, "mesh/far", "udp");
    assert!(most <= before[1] + 110, "{most}");
    // Given up, with their sockets; and there is room again.
    eventually("what it was before", PATIENCE, || {
        let now = ["mesh/client", "mesh/far"].map(|pod| sockets(&lab, pod, "udp"));
        (now == before).then_some(())
    });
    assert!(answered(&lab, CLIENT, &to, &["-n", "3"]));
    // One refusal is judged and told once a second, however much follows. What comes before it is judged is not counted.
    let none = format!("{}:5001", host(&cluster_ips(&lab, "mesh/far")[0]));
    let burst = [
        "udp",
        &none,
        "--from",
        "7000",
        "-n",
        "300",
        "--interval",
        "1ms",
        "--timeout",
        "1ms",
    ];
    let begun = Instant::now();
    assert_eq!(lab.load(CLIENT, &burst).code, 1);
    let most = 3 + begun.elapsed().as_secs() as usize;
    eventually("a refusal that is remembered", PATIENCE, || {
        let lost = counted("node-1", dropped, &[("reason", "refused")]);
        (lost >= 150.0).then_some(())
    });
    let told = flows(&lab, "node-1");
    let told = told
        .iter()
        .filter(|flow| flow.text("error").contains("no UDP port 5001"));
    let told = told.count();
    assert!((1..=most).contains(&told), "{told}, at most {most}");
}

#[test]
fn what_is_sent_to_the_proxys_own_ports_costs_nothing() {
    let lab = shared();
    let before = sockets(lab, "mesh/bare", "raw");
    assert_eq!(before, 0, "nobody has sent it UDP that is captured");
    let dropped = || {
        let reason = [("reason", "own_port")];
        metric(lab, "node-2", "ambit_udp_datagrams_dropped_total", &reason)
    };
    let earlier = dropped();
    let mut sent = 0.0;
    for pod in ["mesh/bare", "mesh/far"] {
        for ip in addresses(lab, pod) {
            for port in [15001, 15006] {
                let to = [format!("{}:{port}", host(&ip))];
                let answers = ask(lab, STRANGER, &to, &["--timeout", "1ms"]);
                assert_eq!(answers, [Value::Null]);
                sent += 1.0;
            }
        }
    }
    eventually("all are counted", PATIENCE, || {
        (dropped() >= earlier + sent).then_some(())
    });
    assert_eq!(sockets(lab, "mesh/bare", "raw"), 0);
    let told = flows(lab, "node-2").into_iter().find(|flow| {
        let to = flow.text("dst.addr");
        flow.text("protocol") == "udp" && (to.ends_with(":15001") || to.ends_with(":15006"))
    });
    assert!(told.is_none(), "{told:?}");
}

#[test]
fn a_plain_flow_that_runs_is_planned_again_when_its_end_changes() {
    let lab = start(manifests(), &["--ztunnel-env", "AMBIT_UDP_IDLE_TIMEOUT=2s"]);
    let to = at_pod(&lab, "mesh/bare").remove(0);
    let running = Running::start(&lab, &to);
    lab.apply(&with_udp(&echo("mesh", "bare", "node-2")));
    // It is never idle: it ends because it was plain.
    let own = identity("mesh", "client");
    flow_that(&lab, "node-1", "the plain flow has ended", |flow| {
        flow.text("protocol") == "udp"
            && flow.text("direction") == "outbound"
            && flow.text("dst.addr") == to
            && flow.text("dst.hbone_addr").is_empty()
    });
    running.is_answered();
    running.stops();
    flow_that(&lab, "node-2", "a tunnel of the same client", |flow| {
        flow.text("protocol") == "udp"
            && flow.text("direction") == "inbound"
            && flow.text("src.identity") == own
            && flow.text("dst.hbone_addr") == to
            && flow.number("bytes_recv") > 0
    });
}

#[test]
fn the_annotation_may_come_and_go() {
    let lab = start(manifests(), &["--ztunnel-env", "AMBIT_UDP_IDLE_TIMEOUT=2s"]);
    let to = at_pod(&lab, "mesh/far");
    let plain = |yes: &str| {
        client("mesh", "plain", "node-1")
            .replace("labels: {app: ", &format!("{yes}labels: {{app: "))
    };
    assert!(answered(&lab, PLAIN, &to, &["--send", "first"]));
    lab.apply(&plain("annotations: {ambit.dev/udp: enabled}, "));
    let own = identity("mesh", "plain");
    let fields = [
        ("protocol", "udp"),
        ("direction", "inbound"),
        ("src.identity", own.as_str()),
    ];
    eventually("captured", PATIENCE, || {
        assert!(answered(&lab, PLAIN, &to, &[]));
        let mut found = flows(&lab, "node-2").into_iter();
        found.find(|flow| flow.has(&fields))
    });
    lab.apply(&plain("annotations: {ambit.dev/udp: 'yes'}, "));
    eventually("said why not", PATIENCE, || {
        let log = lab.logs("agent/node-1");
        log.contains("write enabled, or leave it away")
            .then_some(())
    });
    let tap = tap(&lab, "node-2");
    assert!(answered(&lab, PLAIN, &to, &["--send", "open"]));
    sees(&tap, b"0 open");
}
