//! One lab for all attacks: a client and a server whose ends are in the test, a stranger with the mesh's key.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ambit_lab::harness::{Lab, eventually, program};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use super::evil::Evil;
use super::wire::{Answer, Wire, at};
use crate::fixtures::{addresses, cluster_ips, text};
use crate::flows::start;
use crate::processes::{Process, named};
use crate::waypoint::scene::manifests;

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where the mesh's authority keeps its key in the lab.
const CA: &str = "/run/ambit-lab/mesh/ca";

/// What no spelling may get around.
const POLICY: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
     metadata: {name: attacks, namespace: mesh}\nspec:\n  \
     targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]\n  action: DENY\n  \
     rules:\n  - to: [{operation: {paths: [\"/admin*\"]}}]\n  - to: [{operation: {hosts: [secret.com]}}]\n";

/// The lab and the sockets of its pods.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) evil: Evil,
    folder: TempDir,
    waypoint: String,
}

/// The lab that tests share as long as one of them runs: nothing in it changes that concerns two of them.
pub(super) fn scene() -> Arc<Scene> {
    static SCENE: Mutex<Weak<Scene>> = Mutex::new(Weak::new());
    let mut shared = SCENE.lock();
    shared.upgrade().unwrap_or_else(|| {
        let scene = Arc::new(Scene::new());
        *shared = Arc::downgrade(&scene);
        scene
    })
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let evil = Evil::listen(&folder.path().join("evil"));
        let peer = program("peer").display().to_string();
        let socket = |name: &str| folder.path().join(name).display().to_string();
        let wire = pod("mesh", "wire", &[&peer, "dial", &socket("wire")], "");
        let server = pod(
            "mesh",
            "evil",
            &[&peer, "serve", "8080", &socket("evil")],
            "",
        );
        let identity = "spiffe://cluster.local/ns/mesh/sa/client";
        let stolen = [
            &peer,
            "dial",
            &socket("thief"),
            "--tls",
            "--identity",
            identity,
        ];
        let mounted = format!(
            "    volumeMounts: [{{name: ca, mountPath: /ca}}]\n  volumes: [{{name: ca, hostPath: {{path: {CA}}}}}]\n"
        );
        let thief = pod("outside", "thief", &stolen, &mounted);
        let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: evil, namespace: mesh}\n\
             spec:\n  ipFamilyPolicy: PreferDualStack\n  selector: {app: evil}\n  ports:\n  - {name: http, port: 80, targetPort: 8080}\n  \
             - {name: clear, port: 8081, targetPort: 8080, appProtocol: kubernetes.io/h2c}\n";
        let lab = start(
            manifests() + &wire + &server + &thief + service + POLICY,
            &[
                "--ztunnel-env",
                "AMBIT_POOL_SPREAD=1",
                "--ztunnel-env",
                "ZTUNNEL_WORKER_THREADS=1",
            ],
        );
        let pods = lab.objects("pod", "mesh");
        let names = pods.iter().map(|pod| text(&pod["metadata"]["name"]));
        let waypoint = names.into_iter().find(|name| name.starts_with("waypoint"));
        let waypoint = format!("mesh/{}", waypoint.expect("a waypoint"));
        Self {
            lab,
            evil,
            folder,
            waypoint,
        }
    }

    /// A connection of the client to a port of a service of namespace `mesh`.
    pub(super) fn dial(&self, service: &str, port: u16) -> Wire {
        let ip = &cluster_ips(&self.lab, &format!("mesh/{service}"))[0];
        Wire::dial(&self.folder.path().join("wire"), at(ip, port))
    }

    /// A connection of mutual TLS of the stranger, as `mesh/client`, to a pod's tunnels.
    pub(super) fn tls(&self, pod: &str) -> Wire {
        let ip = &addresses(&self.lab, pod)[0];
        Wire::dial(&self.folder.path().join("thief"), at(ip, 15008))
    }

    /// The waypoint's pod.
    pub(super) fn waypoint(&self) -> &str {
        &self.waypoint
    }

    pub(super) fn process(&self) -> Process {
        named(&self.lab, &self.waypoint, "waypoint")
    }

    /// The client's ends of its HBONE connections at the waypoint.
    fn tunnels(&self) -> Vec<String> {
        let words = |ip: &str| -> Vec<String> {
            let octets = match ip.parse().expect("an address") {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let word = |word: &[u8]| word.iter().rev().map(|it| format!("{it:02X}")).collect();
            octets.chunks(4).map(word).collect()
        };
        // An address of IPv4 may be written as one of IPv6 that ends with it.
        let client: Vec<String> = addresses(&self.lab, "mesh/wire")
            .iter()
            .map(|ip| words(ip).concat() + ":")
            .collect();
        let peers = self.lab.hbone_peers(&self.waypoint).into_iter();
        let own = peers.filter(|peer| client.iter().any(|ip| peer.contains(ip.as_str())));
        own.collect()
    }

    /// How often a path has arrived at the servers of `echo`.
    pub(super) fn arrived(&self, path: &str) -> u64 {
        ["mesh/v1", "mesh/v2"]
            .map(|pod| {
                let counts: Value = self.lab.get(pod, "http://127.0.0.1:8080/requests");
                counts[path].as_u64().unwrap_or_default()
            })
            .iter()
            .sum()
    }
}

/// Connections of the client that were there before any attack: one to the service that is attacked and one
/// to another. The node's proxy puts them on the one HBONE connection that it has for this identity, with
/// those of the attacker; that there was one all the time is seen when they are dropped.
pub(super) struct Neighbours {
    scene: Arc<Scene>,
    wires: Vec<(&'static str, Wire)>,
    before: Vec<String>,
}

impl Neighbours {
    pub(super) fn of(scene: &Arc<Scene>) -> Self {
        let mut wires = Vec::new();
        for service in ["echo", "v3"] {
            let wire = eventually("the first answer", PATIENCE, || {
                let mut wire = scene.dial(service, 80);
                let answer = ask(service, &mut wire)?;
                (answer.status == 200).then_some(wire)
            });
            wires.push((service, wire));
        }
        let before = scene.tunnels();
        assert_eq!(before.len(), 1, "{before:?}");
        Self {
            scene: scene.clone(),
            wires,
            before,
        }
    }

    /// Each still gets its answer on its connection.
    pub(super) fn check(&mut self, after: &str) {
        for (service, wire) in &mut self.wires {
            let answer = ask(service, wire);
            let status = answer.as_ref().map(|it| it.status);
            assert_eq!(status, Some(200), "{service} after {after:?}: {answer:?}");
        }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.scene.tunnels(), self.before, "another connection");
        }
    }
}

fn ask(service: &str, wire: &mut Wire) -> Option<Answer> {
    let request = format!("GET /neighbour HTTP/1.1\r\nHost: {service}.mesh\r\n\r\n");
    wire.send(request.as_bytes());
    wire.answer("a neighbour")
}

fn pod(namespace: &str, name: &str, argv: &[&str], more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
         spec:\n  serviceAccountName: {name}\n  nodeName: node-1\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: peer\n    command: {argv:?}\n{more}"
    )
}
