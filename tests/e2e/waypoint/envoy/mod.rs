//! The waypoint beside an Envoy: random routes and requests, the same to both, and the same to come of it.
//!
//! Ours is the whole way: Gateway API objects through the control plane, requests through the node proxy and
//! the waypoint. Theirs is a configuration made of the same cases ([`peer`]). What differs on purpose is in a
//! table with its reason ([`compare::INTENDED`]); everything else fails.
//!
//! `AMBIT_TEST_ENVOY_REQUESTS` and `AMBIT_TEST_ENVOY_SEED` ask for more, and for others. `tests/envoy` installs the Envoy;
//! `AMBIT_TEST_ENVOY` names another.

mod compare;
mod generate;
mod model;
mod objects;
mod peer;
mod send;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ambit_lab::harness::{Lab, program};
use futures_util::{StreamExt as _, stream};

use self::compare::{INTENDED, differences, intended};
use self::generate::generate;
use self::model::{Case, Request, SERVERS};
use self::send::Outcome;
use super::scene::{manifests, program_pod};
use super::told::lines;
use crate::fixtures::{addresses, namespace, text};
use crate::flows::start;

const SEED: u64 = 1;
const REQUESTS: usize = 1000;
/// Of a case.
const EACH: usize = 20;
/// At once.
const CONCURRENT: usize = 16;
/// Where tests/envoy has put it.
const INSTALLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/tools/envoy/envoy/_bin/envoy"
);

#[test]
fn a_waypoint_and_an_envoy_do_the_same() {
    let (seed, count) = (
        number("AMBIT_TEST_ENVOY_SEED").unwrap_or(SEED),
        number("AMBIT_TEST_ENVOY_REQUESTS")
            .map_or(REQUESTS, |it| usize::try_from(it).expect("a count")),
    );
    let (cases, requests) = generate(seed, count, EACH);
    let scene = Scene::new(&cases);
    let outcomes = scene.ask(&requests);
    let mut met: BTreeMap<&str, usize> = INTENDED.iter().map(|it| (it.name, 0)).collect();
    let mut wrong = Vec::new();
    for (request, [ours, theirs]) in requests.iter().zip(outcomes) {
        let (known, unexplained) = intended(request, differences(&ours, &theirs));
        for name in known {
            *met.entry(name).or_default() += 1;
        }
        if !unexplained.is_empty() {
            wrong.push(report(&cases[request.case], request, &unexplained));
        }
    }
    for it in &INTENDED {
        eprintln!("{} x {}: {}", met[it.name], it.name, it.reason);
    }
    let shown: Vec<_> = wrong.iter().take(40).map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} of {count} requests differ, such as\n{}\nwithout an answer of a server: {:#?}",
        wrong.len(),
        shown.join("\n"),
        lines(&scene.lab, &["\" 503 "])
    );
    if (seed, count) == (SEED, REQUESTS) {
        let stale: Vec<_> = met.iter().filter(|(_, count)| **count == 0).collect();
        assert!(stale.is_empty(), "no request shows {stale:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
    )
}

fn envoy() -> PathBuf {
    let chosen = std::env::var_os("AMBIT_TEST_ENVOY").map(PathBuf::from);
    let envoy = chosen.unwrap_or_else(|| INSTALLED.into());
    assert!(
        envoy.is_file(),
        "no Envoy at {}: tests/envoy installs it",
        envoy.display()
    );
    envoy
}

fn report(case: &Case, request: &Request, differences: &[compare::Difference]) -> String {
    let mut text = format!(
        "{}{} {:?}\n",
        objects::routes(case),
        if request.h2 { "h2c" } else { "HTTP/1.1" },
        String::from_utf8_lossy(&request.bytes())
    );
    for it in differences {
        text += &format!(
            "  {}: {:?} here, {:?} at Envoy\n",
            it.field, it.ours, it.theirs
        );
    }
    text
}

struct Scene {
    lab: Lab,
    folder: tempfile::TempDir,
    count: usize,
}

impl Scene {
    fn new(cases: &[Case]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, peer::config(cases).to_string()).expect("a file");
        let mut all = manifests() + &namespace("plain", "");
        for case in cases {
            all += &objects::service(case);
            all += &objects::routes(case);
        }
        all += &peer_pod(&config);
        all += &carrier(&folder.path().join("wire"));
        Self {
            lab: start(all, &[]),
            folder,
            count: cases.len(),
        }
    }

    /// What ours and theirs make of each request.
    fn ask(&self, requests: &[Request]) -> Vec<[Outcome; 2]> {
        let services = self.lab.objects("service", "mesh");
        let ips: BTreeMap<String, String> = services
            .iter()
            .map(|it| {
                (
                    text(&it["metadata"]["name"]),
                    text(&it["spec"]["clusterIPs"][0]),
                )
            })
            .collect();
        let ours: Vec<[SocketAddr; 2]> = (0..self.count)
            .map(|number| {
                let ip = &ips[&format!("case-{number}")];
                [80, 8081].map(|port| address(ip, port))
            })
            .collect();
        let theirs = &addresses(&self.lab, "plain/envoy")[0];
        let wire = self.folder.path().join("wire");
        let both = requests.iter().map(|request| {
            let (ours, theirs) = (
                ours[request.case],
                address(theirs, peer::port(request.case)),
            );
            let wire = &wire;
            async move {
                let sent = [request.send(wire, ours), request.send(wire, [theirs; 2])];
                let [ours, theirs] = sent;
                let (ours, theirs) = tokio::join!(ours, theirs);
                [ours, theirs]
                    .map(|outcome| outcome.unwrap_or_else(|error| panic!("{request:?}: {error:#}")))
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(stream::iter(both).buffered(CONCURRENT).collect())
    }
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// Envoy and its servers.
fn peer_pod(config: &Path) -> String {
    let echo = program("echo").display().to_string();
    let servers = SERVERS.iter().enumerate().map(|(at, name)| {
        let port = peer::server_port(at);
        format!(
            "  - {{name: {name}, command: [{echo}, --version-label, {name}, --port, \"{port}\"]}}\n"
        )
    });
    let envoy = envoy().display().to_string();
    let command = format!(
        "command: [{envoy}, -c, {}, --disable-hot-restart, --concurrency, \"1\", --log-level, warning]",
        config.display()
    );
    program_pod("plain", "envoy", peer::port(0), &command) + &servers.collect::<String>()
}

/// A pod of the mesh through which the test speaks.
fn carrier(socket: &Path) -> String {
    let peer = program("peer").display().to_string();
    let command = format!("command: [{peer}, dial, {}]", socket.display());
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: wire, namespace: mesh, labels: {{app: wire}}}}\n\
         spec:\n  nodeName: node-1\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: wire\n    {command}\n"
    )
}
