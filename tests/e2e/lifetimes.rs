//! What outlives what: connections their certificates, traffic the control plane, and nothing a lab.

mod authority;
mod roots;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_lab::harness::{self, Ending, Lab, eventually, program};
use serde_json::Value;

use crate::faults::errors;
use crate::fixtures::{client, echo, namespace, service};
use crate::flows::{identity, metric, start};
use crate::lifecycle::nothing_left;

/// How long certificates and roots rotate under load, in seconds; the figure of a release is 300.
const ROTATION: &str = "AMBIT_TEST_ROTATION_SECONDS";
const PATIENCE: Duration = Duration::from_secs(20);

/// Who asks whom for how much meanwhile: over connections that stay, and over new ones.
const LOADS: [(&str, &str); 4] = [
    ("client-1", "http http://echo-2/ -c 4 --rate 100"),
    (
        "client-1",
        "http http://echo-2/ -c 4 --rate 40 --new-connections",
    ),
    (
        "client-2",
        "http http://echo-1/ -c 4 --rate 40 --new-connections",
    ),
    ("client-2", "websocket http://echo-1/ -c 2 --rate 20"),
];

fn rotation() -> u64 {
    std::env::var(ROTATION).map_or(30, |text| text.parse().expect("seconds"))
}

/// `echo-1` and `echo-2` on their nodes, `client-1` and `client-2` likewise, and as many that talk to
/// nobody until later.
fn lab(control: &[&str]) -> Lab {
    let mut manifests = namespace("shop", "istio.io/dataplane-mode: ambient");
    for number in [1, 2] {
        let node = format!("node-{number}");
        for name in [format!("echo-{number}"), format!("echo-late-{number}")] {
            manifests += &echo("shop", &name, &node);
            manifests += &service("shop", &name, &format!("name: {name}"));
        }
        for name in [format!("client-{number}"), format!("client-late-{number}")] {
            manifests += &client("shop", &name, &node);
        }
    }
    let control: Vec<String> = control
        .iter()
        .map(|argument| format!("--control-arg={argument}"))
        .collect();
    let control: Vec<&str> = control.iter().map(String::as_str).collect();
    start(manifests, &control)
}

/// The serial number of the certificate that the proxy of `node` uses for a pod.
fn serial(lab: &Lab, node: &str, pod: &str) -> Option<String> {
    let url = "http://127.0.0.1:15000/config_dump";
    let dump = lab
        .load(&format!("node/{node}"), &["get", "--fail", url])
        .json();
    let own = identity("shop", pod);
    let certificates = dump["certificates"].as_array().cloned().unwrap_or_default();
    let found = certificates.into_iter().find(|it| it["identity"] == own)?;
    found["certChain"][0]["serialNumber"]
        .as_str()
        .map(str::to_owned)
}

#[test]
fn certificates_rotate_under_load_without_a_failed_request() {
    let lab = lab(&["--certificate-lifetime", "10s"]);
    let seconds = rotation();
    let duration = format!("{seconds}s");
    let (reports, serials) = thread::scope(|scope| {
        let running: Vec<_> = LOADS
            .iter()
            .map(|(pod, arguments)| {
                let more = ["--json", "--duration", &duration];
                let arguments: Vec<&str> = arguments.split(' ').chain(more).collect();
                let lab = &lab;
                scope.spawn(move || lab.load(&format!("shop/{pod}"), &arguments).json())
            })
            .collect();
        let mut serials = [BTreeSet::new(), BTreeSet::new()];
        while running.iter().any(|thread| !thread.is_finished()) {
            for (seen, (node, pod)) in serials
                .iter_mut()
                .zip([("node-1", "client-1"), ("node-2", "echo-2")])
            {
                seen.extend(serial(&lab, node, pod));
            }
            thread::sleep(Duration::from_secs(1));
        }
        let reports: Vec<Value> = running
            .into_iter()
            .map(|thread| thread.join().expect("a report"))
            .collect();
        (reports, serials)
    });
    for (report, (pod, arguments)) in reports.iter().zip(LOADS) {
        assert_eq!(errors(report), 0, "{pod} {arguments}: {report}");
        assert!(
            report["requests"].as_u64() > Some(seconds * 10),
            "{pod} {arguments}: {report}"
        );
    }
    for seen in &serials {
        assert!(
            seen.len() as u64 >= seconds / 10,
            "only {seen:?} in {duration}"
        );
    }
    // Connections that need a new handshake, long after the first certificates are gone.
    for (client, server) in [
        ("client-late-1", "echo-late-2"),
        ("client-late-2", "echo-late-1"),
    ] {
        let answer = lab.get(&format!("shop/{client}"), &format!("http://{server}/"));
        assert_eq!(answer["hostname"], server);
    }
    let counts = serials.map(|seen| seen.len());
    let requests: Vec<_> = reports.iter().map(|report| &report["requests"]).collect();
    eprintln!("{duration}: {counts:?} certificates seen, {requests:?} requests, no errors");
}

/// The control plane comes back, and what it says is done.
fn is_heard_again(lab: &Lab) {
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: deny, namespace: shop}\nspec: {action: DENY, rules: [{}]}\n";
    eventually("the control plane to be back", PATIENCE, || {
        (lab.try_apply(deny).code == 0).then_some(())
    });
    let _ = lab
        .load("shop/client-1", &["get", "--fail", "http://echo-2/"])
        .failure();
}

#[test]
fn traffic_goes_on_without_the_control_plane() {
    let lab = lab(&[]);
    assert_eq!(
        lab.get("shop/client-1", "http://echo-2/")["hostname"],
        "echo-2"
    );
    // At least, and until all first contacts are made.
    let outage = Duration::from_secs(6);
    let done = AtomicBool::new(false);
    let reports = thread::scope(|scope| {
        let loads: [&[&str]; 2] = [
            &[
                "websocket",
                "http://echo-2/",
                "--rate",
                "20",
                "-d",
                "12s",
                "--json",
            ],
            &[
                "http",
                "http://echo-2/",
                "--rate",
                "40",
                "-d",
                "12s",
                "--new-connections",
                "--json",
            ],
        ];
        let running = loads.map(|arguments| {
            let lab = &lab;
            scope.spawn(move || lab.load("shop/client-1", arguments).json())
        });
        let began = Instant::now();
        let (lab, over) = (&lab, &done);
        let killing = scope.spawn(move || {
            // The lab starts it again at once: killed on and on it never gets to serve.
            while began.elapsed() < outage || !over.load(Ordering::Relaxed) {
                let _ = lab.run(["kill", "control"]).success();
            }
        });
        let ending = Ending(&done);
        // First contacts, tunnelled and on one node, while there is nobody to ask.
        for (client, server) in [
            ("client-late-1", "echo-late-2"),
            ("client-late-2", "echo-late-1"),
            ("client-late-1", "echo-late-1"),
            ("client-2", "echo-1"),
        ] {
            let answer = lab.get(&format!("shop/{client}"), &format!("http://{server}/"));
            assert_eq!(answer["hostname"], server);
        }
        drop(ending);
        killing.join().expect("an outage");
        running.map(|thread| thread.join().expect("a report"))
    });
    for report in reports {
        assert_eq!(errors(&report), 0, "{report}");
        assert!(report["requests"].as_u64() > Some(100), "{report}");
    }
    is_heard_again(&lab);
}

/// Node proxies that start while there is no control plane go on with what the earlier ones knew.
#[test]
fn node_proxies_restart_without_the_control_plane() {
    let lab = lab(&[]);
    let first = lab.get("shop/client-1", "http://echo-2/");
    assert_eq!(first["hostname"], "echo-2");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (lab, done) = (&lab, &done);
        let outage = scope.spawn(move || {
            // The lab starts it again at once: killed on and on it never gets to serve.
            while !done.load(Ordering::Relaxed) {
                let _ = lab.run(["kill", "control"]).success();
            }
        });
        for node in ["node-1", "node-2"] {
            let proxy = format!("ztunnel/{node}");
            let mut heard = 0;
            eventually("a node proxy to start in the outage", PATIENCE, || {
                let log = lab.logs(&proxy);
                // One that was heard by the control plane has started between two outages.
                let connected = log.matches("connected to the control plane").count();
                if connected > heard {
                    heard = connected;
                    let _ = lab.run(["kill", &proxy]).success();
                }
                log.contains("going on with what was known before the start")
                    .then_some(())
            });
        }
        // Tunnelled, on one node, and first contacts.
        let answers = [
            ("client-1", "echo-2"),
            ("client-late-1", "echo-late-2"),
            ("client-late-2", "echo-late-1"),
            ("client-2", "echo-late-2"),
        ]
        .map(|(client, server)| {
            let answer = eventually(&format!("{client} to reach {server}"), PATIENCE, || {
                let url = format!("http://{server}/");
                let got = lab.load(&format!("shop/{client}"), &["get", "--fail", &url]);
                (got.code == 0).then_some(got.stdout)
            });
            (server, answer)
        });
        done.store(true, Ordering::Relaxed);
        outage.join().expect("an outage");
        for (server, answer) in answers {
            assert!(answer.contains(server), "{server}: {answer}");
        }
    });
    is_heard_again(&lab);
}

/// The network namespaces of a lab's nodes and pods, as the kernel names them.
fn namespaces(lab: &Lab) -> BTreeSet<String> {
    let of = |target: &str| {
        lab.exec(target, &["readlink", "/proc/self/ns/net"])
            .success()
    };
    ["node/node-1", "node/node-2", "shop/echo-1", "shop/client-2"]
        .map(|target| of(target).trim().to_owned())
        .into()
}

/// The network namespaces that any process is in.
fn used() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let links = processes.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok());
    links
        .map(|link: PathBuf| link.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_busy_mesh_leaves_nothing() {
    type End = fn(Lab);
    let ends: [(&str, End); 3] = [
        ("lab down", |lab| drop(lab.run(["down"]).success())),
        ("Ctrl-C", Lab::interrupt),
        ("a failed test", |lab| {
            let failed = catch_unwind(AssertUnwindSafe(move || {
                let _lab = lab;
                std::panic::resume_unwind(Box::new("failed"));
            }));
            assert!(failed.is_err());
        }),
    ];
    for (case, end) in ends {
        let lab = lab(&[]);
        let (name, own) = (lab.name().to_owned(), namespaces(&lab));
        assert_eq!(own.len(), 4, "{own:?}");
        assert!(own.is_subset(&used()), "{own:?}");
        let load = program("load").to_string_lossy().into_owned();
        let held = [
            "exec",
            "-n",
            "shop",
            "client-1",
            "--",
            &load,
            "hold",
            "echo-2:80",
            "-c",
            "20",
            "--for",
            "60s",
        ];
        let mut command = Command::new(program("lab"));
        command.args(["--name", &name]).args(held);
        thread::scope(|scope| {
            let holding = scope.spawn(move || harness::run(command, ""));
            eventually("connections", PATIENCE, || {
                let opened = metric(&lab, "node-2", "istio_tcp_connections_opened_total", &[]);
                (opened >= 20.0).then_some(())
            });
            end(lab);
            let _ = holding.join().expect("the client is gone as well");
        });
        nothing_left(&name);
        eventually(&format!("{case}: the namespaces to go"), PATIENCE, || {
            own.is_disjoint(&used()).then_some(())
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        assert!(!mounts.contains(&name), "{case}: {mounts}");
    }
}
