//! A control plane outside the lab, which talks to the API server through an [`Interposer`], and those who talk to it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use ambit_core::identity::Identity;
use ambit_lab::harness::{eventually, program, run};
use ambit_lab::sys;
use ambit_net::ca::{CaClient, CaConfig};
use ambit_net::grpc::Remote;
use ambit_net::xds::{self, Node, Push, Rejection};
use ambit_proto::ADDRESS_TYPE;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::interposer::Interposer;
use crate::plane::{ControlPlane, PATIENCE};
use crate::replayed::Replayed;

/// One replica; it ends with this value.
pub(crate) struct Replica {
    pub(crate) way: Interposer,
    pub(crate) name: &'static str,
    folder: TempDir,
    process: Child,
    ready: Value,
}

impl Replica {
    /// Starts one and waits until it serves.
    pub(crate) fn start(plane: &ControlPlane, name: &'static str) -> Self {
        Self::start_with(plane, name, Vec::new())
    }

    /// The same, for a cluster in which these are, too.
    pub(crate) fn start_with(
        plane: &ControlPlane,
        name: &'static str,
        replayed: Vec<Replayed>,
    ) -> Self {
        let way = Interposer::start(&plane.kubeconfig());
        way.replay(replayed);
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        way.write_kubeconfig(&at("kubeconfig"));
        let log = std::fs::File::create(at("log")).expect("a log");
        let mut command = Command::new(program("ambit"));
        command
            .args([
                "control",
                "--source=kubernetes",
                "--xds-address=127.0.0.1:0",
            ])
            .args([
                "--admin-address=127.0.0.1:0",
                "--identity",
                name,
                "--ready-file",
            ])
            .arg(at("ready"))
            .env("KUBECONFIG", at("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        sys::die_with_parent(&mut command, Signal::SIGTERM);
        let process = command.spawn().expect("it starts");
        let mut replica = Self {
            way,
            name,
            folder,
            process,
            ready: Value::Null,
        };
        replica.ready = eventually("a replica serves", PATIENCE, || {
            replica.runs();
            let text = std::fs::read(replica.folder.path().join("ready")).ok()?;
            serde_json::from_slice(&text).ok()
        });
        replica
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// It has not ended, nor has a part of it.
    pub(crate) fn runs(&mut self) {
        let ended = self.process.try_wait().expect("a child");
        let log = self.log();
        assert!(
            ended.is_none() && !log.contains("panicked"),
            "{ended:?}: {log}"
        );
    }

    /// What it says of itself.
    pub(crate) fn dump(&self) -> Value {
        let admin = self.ready["admin"].as_str().unwrap_or_default();
        let mut command = Command::new(program("load"));
        command.args([
            "get",
            "--fail",
            &format!("http://{admin}/debug/config_dump"),
        ]);
        run(command, "").json()
    }

    /// How many objects of a kind it knows.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.dump()["objects"][kind].as_u64().unwrap_or_default()
    }

    /// Bytes of memory that it holds, and that it has held at most.
    pub(crate) fn memory(&self) -> [u64; 2] {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        ["VmRSS:", "VmHWM:"].map(|field| {
            let mut lines = status.lines().filter_map(|line| line.strip_prefix(field));
            let words = lines.next().unwrap_or_default().split_whitespace().next();
            words
                .and_then(|it| it.parse::<u64>().ok())
                .unwrap_or_default()
                << 10
        })
    }

    fn remote(&self, token: &str) -> Remote {
        let port = self.ready["xds"].as_str().unwrap_or_default();
        let port = port.rsplit_once(':').map_or("", |(_, port)| port);
        let address = format!("https://localhost:{port}")
            .parse()
            .expect("an address");
        let at = |name: &str| self.folder.path().join(name);
        std::fs::write(at("token"), token).expect("written");
        let mut remote = Remote::new(address, at("roots"));
        remote.token = Some(at("token"));
        remote
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.name, self.log());
        }
    }
}

/// A proxy's view of a replica.
pub(crate) struct Proxy {
    /// When it heard of each resource first.
    names: Arc<Mutex<BTreeMap<String, Instant>>>,
    status: xds::Status,
    authority: CaClient,
    runtime: Runtime,
}

impl Proxy {
    /// Subscribes as the node proxy whose token this is.
    pub(crate) fn subscribe(replica: &Replica, roots: &str, token: &str) -> Self {
        std::fs::write(replica.folder.path().join("roots"), roots).expect("written");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let names = Arc::new(Mutex::new(BTreeMap::new()));
        let heard = names.clone();
        let handler = move |push: Push| -> Result<(), Vec<Rejection>> {
            let mut names = heard.lock();
            let now = Instant::now();
            for resource in push.resources {
                names.entry(resource.name).or_insert(now);
            }
            for name in push.removed {
                names.remove(&name);
            }
            Ok(())
        };
        let remote = replica.remote(token);
        let node = Node::new(
            "ztunnel",
            [10, 0, 0, 1].into(),
            replica.name,
            "ambit-system",
            "node-1",
        );
        let config = xds::Config::new(remote.clone(), node, [ADDRESS_TYPE]);
        let (client, status) = xds::Client::new(config, handler);
        runtime.spawn(client.run());
        let proxy = Self {
            names,
            status,
            authority: CaClient::new(CaConfig::new(remote)),
            runtime,
        };
        eventually("a proxy is told of the mesh", PATIENCE, || {
            proxy.status.is_synced().then_some(())
        });
        proxy
    }

    /// Whether it knows a resource whose name ends so.
    pub(crate) fn knows(&self, end: &str) -> bool {
        self.names.lock().keys().any(|name| name.ends_with(end))
    }

    /// How many resources it knows.
    pub(crate) fn count(&self) -> usize {
        self.names.lock().len()
    }

    /// When it heard of a resource first.
    pub(crate) fn heard(&self, name: &str) -> Option<Instant> {
        self.names.lock().get(name).copied()
    }

    /// Whether its stream is up.
    pub(crate) fn is_connected(&self) -> bool {
        self.status.state_age().is_some_and(|age| age.is_zero())
    }

    /// Asks for the certificate of an account; the reason when there is none.
    pub(crate) fn certificate(&self, namespace: &str, account: &str) -> Result<(), String> {
        let identity = Identity::new("cluster.local", namespace, account).expect("an identity");
        let fetched = self.runtime.block_on(self.authority.fetch(&identity));
        fetched.map(drop).map_err(|error| error.to_string())
    }
}

/// Waits until a replica other than `not` holds the Lease; its name.
pub(crate) fn holder(plane: &ControlPlane, not: &str) -> String {
    let began = Instant::now();
    let found = eventually("a replica holds the Lease", PATIENCE, || {
        let lease = plane.object("lease", "ambit-system", "ambit-control")?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        (!holder.is_empty() && holder != not).then_some(holder)
    });
    eprintln!("{found} holds the Lease after {:.1?}", began.elapsed());
    found
}
