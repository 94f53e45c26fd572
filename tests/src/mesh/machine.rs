//! A machine beside the nodes: a program that serves, and the node proxy in the mode for one workload once the machine has joined
//! the mesh as a WorkloadEntry, with nothing of Kubernetes but a token at first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::component::{Place, Recipe};
use super::{Mesh, control, names, published};
use crate::api::{Key, Kind};
use crate::cluster::{Cluster, LabMachine};
use crate::net::plan;
use crate::stage::Mount;
use crate::tokens::{MESH_AUDIENCE, Subject};

/// How a machine joins the mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joining {
    /// The namespace of its WorkloadEntry.
    pub namespace: String,
    /// The WorkloadEntry's name.
    pub entry: String,
    /// Seconds for which its token is good from now; of one that has expired, fewer than none.
    pub token_seconds: i64,
    /// Variables of its node proxy.
    pub env: BTreeMap<String, String>,
    /// Whether it is ready when this is answered.
    pub wait: bool,
}

/// The recipes of a machine's program, and of its proxy, which says nothing yet of who the machine is.
pub(super) fn recipes(
    cluster: &Cluster,
    machine: &LabMachine,
    root: &Path,
) -> io::Result<(Recipe, Recipe)> {
    let folder = folder(root, machine);
    fs::create_dir_all(&folder)?;
    let resolver = folder.join("resolv.conf");
    // Nobody there knows the cluster's names, or any.
    fs::write(&resolver, format!("nameserver {}\n", plan::bridge().v4))?;
    symlink(published::roots(root), folder.join("root-cert.pem"))?;
    symlink(published::lists(root), folder.join("ca-crl.pem"))?;
    let mounts = vec![
        control::hosts_mount(&folder)?,
        Mount {
            source: resolver,
            target: PathBuf::from("/etc/resolv.conf"),
            read_only: true,
        },
    ];
    let program = |name: &str| {
        let path = cluster.settings.programs.join(name);
        path.to_string_lossy().into_owned()
    };
    let place = Place {
        name: &machine.name,
        netns: machine.netns.path(),
        folder: &folder,
        mounts: &mounts,
    };
    let ports = ["--port=8080", "--port=22"].map(str::to_owned);
    let argv = [vec![program("echo")], ports.to_vec()].concat();
    let mut env = control::environment();
    cluster.settings.add_to_path(&mut env);
    let echo = Recipe::at(&place, "echo", argv, env, cluster);
    let mut env = control::environment();
    env.extend(proxy_environment(cluster, machine, &folder));
    env.extend(cluster.settings.ztunnel_env.clone());
    let argv = vec![program("ztunnel")];
    let proxy = Recipe::at(&place, "ztunnel", argv, env, cluster);
    Ok((echo, proxy))
}

fn folder(root: &Path, machine: &LabMachine) -> PathBuf {
    root.join("machines").join(&machine.name)
}

/// Where a machine's token is, in its folder.
const TOKEN: &str = "token";

fn proxy_environment(
    cluster: &Cluster,
    machine: &LabMachine,
    folder: &Path,
) -> BTreeMap<String, String> {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let discovery = format!("https://{}:{}", control::NAMES[0], control::DISCOVERY_PORT);
    let variables = [
        ("PROXY_MODE", "dedicated".to_owned()),
        ("XDS_ADDRESS", discovery.clone()),
        ("CA_ADDRESS", discovery),
        ("XDS_ROOT_CA", file("root-cert.pem")),
        ("CA_ROOT_CA", file("root-cert.pem")),
        ("CRL_PATH", file("ca-crl.pem")),
        ("AUTH_TOKEN", file(TOKEN)),
        ("AMBIT_STATE_DIR", file("state")),
        ("INSTANCE_IP", plan::machine(machine.number).v4.to_string()),
        (names::OWN, cluster.settings.trust_domain.clone()),
        ("AMBIT_CONFIG_DUMP", "true".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value));
    owned.into()
}

impl Mesh {
    /// Starts the proxy of a machine as the workload of a WorkloadEntry, with a token of its service account.
    ///
    /// # Errors
    /// There is no such machine or entry, or why it is not ready.
    pub async fn join(
        &self,
        cluster: &Cluster,
        name: &str,
        joining: &Joining,
    ) -> Result<(), String> {
        let machine = machine(cluster, name)?;
        let Joining {
            namespace, entry, ..
        } = joining;
        let account = account(cluster, namespace, entry)?;
        let component = format!("ztunnel/{name}");
        let proxy = &self.components[&component];
        let mut recipe = proxy.recipe();
        let subject = Subject {
            namespace: namespace.clone(),
            account: account.clone(),
            ..Subject::default()
        };
        let token = cluster
            .issuer
            .issue(&subject, MESH_AUDIENCE, joining.token_seconds);
        let token = token.map_err(|error| error.to_string())?;
        let file = folder(Path::new(super::FOLDER), machine).join(TOKEN);
        fs::write(&file, token).map_err(|error| format!("{}: {error}", file.display()))?;
        let who = format!("{namespace}/{entry}/{account}");
        recipe
            .spec
            .env
            .insert("PROXY_WORKLOAD_INFO".to_owned(), who);
        recipe.spec.env.extend(joining.env.clone());
        let replaced = proxy.replace(recipe, None);
        replaced
            .await
            .map_err(|_| "it was not started".to_owned())?;
        match joining.wait {
            true => self.await_component(cluster, &component).await,
            false => Ok(()),
        }
    }

    /// Ends the proxy of a machine in order.
    ///
    /// # Errors
    /// There is no such machine.
    pub async fn leave(&self, cluster: &Cluster, name: &str) -> Result<(), String> {
        machine(cluster, name)?;
        let stopped = self.components[&format!("ztunnel/{name}")].stop();
        stopped.await.map_err(|_| "it was not ended".to_owned())
    }
}

fn machine<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a LabMachine, String> {
    let found = cluster.machine(name);
    found.ok_or_else(|| format!("no machine is called {name:?}: name them with `lab up --machine`"))
}

/// The service account of a WorkloadEntry.
fn account(cluster: &Cluster, namespace: &str, entry: &str) -> Result<String, String> {
    let key = Key::new(namespace, entry);
    let kind = Kind::of("WorkloadEntry").ok_or("the lab has no WorkloadEntries")?;
    let found = cluster.write(|store| store.find(kind, &key));
    let found = found.ok_or_else(|| format!("WorkloadEntry {key} not found"))?;
    let account = found["spec"]["serviceAccount"].as_str();
    Ok(account.unwrap_or("default").to_owned())
}
