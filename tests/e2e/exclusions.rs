//! What annotations of a pod leave alone goes in plain text, from when they say so until they do not.

use std::thread;
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually};

use crate::fixtures::{AMBIENT, addresses, client, echo, host, namespace};
use crate::flows::{Flow, flow_that, flows, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// In the mesh, on the server's node and on the other.
const NEAR: &str = "mesh/near";
const FAR: &str = "mesh/far";
/// Not in the mesh.
const STRANGER: &str = "outside/stranger";
/// Refuses plain text on port 8080, and on port 9090 unless that is left alone.
const SERVER: &str = "mesh/server";
/// Takes plain text on port 8080.
const OPEN: &str = "open/echo";
/// Who asks the server all the time, and at which port.
const LOADS: [(&str, u16); 3] = [(STRANGER, 9090), (FAR, 8080), (NEAR, 9090)];

/// What an annotation is set to; none at all for the empty name.
fn annotation(name: &str, value: &str) -> String {
    match name {
        "" => "annotations: {}".to_owned(),
        name => format!("annotations: {{ambit.dev/{name}: '{value}'}}"),
    }
}

fn server(left_alone: &str) -> String {
    let annotations = match left_alone {
        "" => annotation("", ""),
        ports => annotation("exclude-inbound-ports", ports),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: server, namespace: mesh, labels: {{app: server}}, {annotations}}}\n\
         spec:\n  nodeName: node-1\n  terminationGracePeriodSeconds: 2\n  \
         containers:\n  - name: echo\n    image: ambit/echo\n    args: [\"--port=8080\", \"--port=9090\"]\n    \
         readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n"
    )
}

/// The client on the other node.
fn far(name: &str, value: &str) -> String {
    let with = format!("labels: {{app: client}}, {}", annotation(name, value));
    client("mesh", "far", "node-2").replace("labels: {app: client}", &with)
}

fn lab() -> Lab {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: strict, namespace: mesh}\nspec: {mtls: {mode: STRICT}}\n";
    let mut all = namespace("mesh", AMBIENT) + &namespace("open", AMBIENT);
    all += &(namespace("outside", "") + strict);
    all += &(server("9090") + &echo("open", "echo", "node-1"));
    all += &(client("mesh", "near", "node-1") + &far("", ""));
    all += &client("outside", "stranger", "node-2");
    start(all, &[])
}

/// Whether a port of a pod answers, at each of its addresses.
fn answers(lab: &Lab, from: &str, to: &str, port: u16) -> [bool; 2] {
    addresses(lab, to).map(|address| {
        let url = format!("http://{}:{port}/", host(&address));
        lab.load(from, &["get", "--fail", "--timeout", "5s", &url])
            .code
            == 0
    })
}

/// How many requests of each load the server has answered.
fn requests(lab: &Lab) -> [u64; 3] {
    let counts = lab.get(SERVER, "http://127.0.0.1:8080/requests");
    LOADS.map(|(from, _)| counts[format!("/{from}")].as_u64().unwrap_or_default())
}

/// Waits until each load has been answered more often than `before`.
fn go_on(lab: &Lab, before: [u64; 3]) {
    eventually("answers to each load", PATIENCE, || {
        let now = requests(lab);
        let more = before
            .iter()
            .zip(now)
            .all(|(before, now)| now > before + 10);
        more.then_some(())
    });
}

fn becomes(lab: &Lab, from: &str, port: u16, answered: bool) {
    eventually(&format!("{from} {port}: {answered}"), PATIENCE, || {
        (answers(lab, from, SERVER, port) == [answered; 2]).then_some(())
    });
}

#[test]
fn a_port_that_is_left_alone_takes_plain_text_and_tunnels() {
    let lab = lab();
    assert_eq!(answers(&lab, STRANGER, SERVER, 9090), [true; 2]);
    assert_eq!(answers(&lab, STRANGER, SERVER, 8080), [false; 2], "STRICT");
    for from in [NEAR, FAR] {
        for port in [8080, 9090] {
            assert_eq!(
                answers(&lab, from, SERVER, port),
                [true; 2],
                "{from} {port}"
            );
        }
    }
    // Others while the pod runs, and what is open goes on.
    let [address, _] = addresses(&lab, SERVER);
    thread::scope(|scope| {
        let loads = LOADS.map(|(from, port)| {
            let (url, lab) = (format!("http://{address}:{port}/{from}"), &lab);
            let kept = ["-c", "2", "--rate", "40", "-d", "20s", "--json"];
            scope.spawn(move || {
                let arguments: Vec<&str> = ["http", &url].into_iter().chain(kept).collect();
                lab.load(from, &arguments).json()
            })
        });
        go_on(&lab, [0; 3]);
        lab.apply(&server("8080"));
        becomes(&lab, STRANGER, 8080, true);
        becomes(&lab, STRANGER, 9090, false);
        go_on(&lab, requests(&lab));
        for load in loads {
            let report = load.join().expect("a report");
            assert_eq!(report["errors"]["total"], 0, "{report}");
        }
    });
    // What does not read leaves nothing alone, and says so.
    lab.apply(&server("8080,web"));
    becomes(&lab, STRANGER, 8080, false);
    assert_eq!(answers(&lab, STRANGER, SERVER, 9090), [false; 2]);
    assert_eq!(answers(&lab, FAR, SERVER, 8080), [true; 2]);
    let said = eventually("a word on it", PATIENCE, || {
        let log = lab.logs("agent/node-1");
        let mut lines = log.lines().map(str::to_owned);
        lines.find(|line| line.contains("the pod is captured as if it did not say so"))
    });
    for part in [
        SERVER,
        "exclude-inbound-ports",
        "8080,web",
        "write ports from 1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // An agent that starts again knows what it was.
    lab.apply(&server("9090"));
    becomes(&lab, STRANGER, 9090, true);
    let _ = lab.run(["restart", "agent/node-1"]).success();
    assert_eq!(answers(&lab, STRANGER, SERVER, 9090), [true; 2]);
    assert_eq!(answers(&lab, STRANGER, SERVER, 8080), [false; 2]);
    lab.apply(&server(""));
    becomes(&lab, STRANGER, 9090, false);
}

/// Whether this is a connection of `mesh/far`, seen at its end, with or without an identity.
fn is_of_far(flow: &Flow, to: &str, identified: bool) -> bool {
    flow.text("direction") == "inbound"
        && flow.text("src.workload") == "far"
        && flow.text("dst.workload") == to
        && flow.text("src.identity").is_empty() != identified
}

#[test]
fn what_a_pod_dials_is_left_alone_by_port_and_by_address() {
    let lab = lab();
    for to in [SERVER, OPEN] {
        assert_eq!(answers(&lab, FAR, to, 8080), [true; 2]);
    }
    let tunnels = |flow: &Flow| is_of_far(flow, "echo", true);
    let _ = flow_that(&lab, "node-1", "a tunnel to echo", tunnels);
    let plain = |flow: &Flow| is_of_far(flow, "echo", false);
    assert!(!flows(&lab, "node-1").iter().any(plain));

    // In plain text: STRICT refuses it, and who takes it knows nobody.
    lab.apply(&far("exclude-outbound-ports", "8080, 443"));
    becomes(&lab, FAR, 8080, false);
    assert_eq!(answers(&lab, FAR, SERVER, 9090), [true; 2], "not that port");
    assert_eq!(answers(&lab, FAR, OPEN, 8080), [true; 2]);
    let _ = flow_that(&lab, "node-1", "plain text to echo", plain);

    let all = addresses(&lab, SERVER).join(",");
    lab.apply(&far("exclude-outbound-ip-ranges", &all));
    becomes(&lab, FAR, 8080, false);
    assert_eq!(
        answers(&lab, FAR, SERVER, 9090),
        [true; 2],
        "it is open there"
    );
    assert_eq!(answers(&lab, NEAR, SERVER, 8080), [true; 2], "another's");
    let before = flows(&lab, "node-1")
        .iter()
        .filter(|it| tunnels(it))
        .count();
    assert_eq!(answers(&lab, FAR, OPEN, 8080), [true; 2]);
    eventually("tunnels to other addresses", PATIENCE, || {
        let now = flows(&lab, "node-1");
        (now.iter().filter(|it| tunnels(it)).count() > before).then_some(())
    });

    lab.apply(&far("exclude-outbound-ip-ranges", "10.0.0.0/33"));
    becomes(&lab, FAR, 8080, true);
    let log = lab.logs("agent/node-2");
    assert!(log.contains("10.0.0.0/33"), "{log}");
    lab.apply(&far("", ""));
    assert_eq!(answers(&lab, FAR, SERVER, 8080), [true; 2]);
}
