//! A real API server in the place of the lab's own: objects come from it, and how nodes and pods are
//! goes to it. The lab is then kubelet, network and DNS alone; controllers and the scheduler are the
//! cluster's.
//!
//! ```text
//! follow   lists and watches -> the lab's objects, which the kubelet, service addresses and DNS read
//! pods     statuses that the kubelet wrote, ends of pods -> the API server
//! nodes    Node objects, conditions, leases -> the API server
//! tokens   what pods are given of their service accounts <- the API server
//! relay    the way to the API server, which is outside the lab's namespaces
//! egress   the API server's way into them
//! callers  who may ask kubelets <- the API server
//! ```

mod callers;
mod egress;
mod follow;
mod nodes;
mod pods;
mod relay;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::kubelet;
use crate::net::plan;
use crate::state::StateDir;

pub(crate) use callers::{Caller, verifier};
pub(crate) use pods::has_ended;
pub(crate) use relay::stage;

/// The name under which the lab writes.
const FIELD_MANAGER: &str = "lab-kubelet";

/// Which API server a lab is joined to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// Where the machine reaches the server: host and port.
    pub address: String,
    /// Where the server finds the socket of its way into the lab.
    pub egress: Option<PathBuf>,
}

impl Settings {
    /// The settings for the current context of `kubeconfig`.
    ///
    /// # Errors
    /// When it cannot be read or names no server.
    pub async fn read(kubeconfig: &Path, egress: Option<&Path>) -> anyhow::Result<Self> {
        let path = kubeconfig
            .canonicalize()
            .with_context(|| format!("--kube {}", kubeconfig.display()))?;
        let (host, port) = server(&config(&path).await?)?;
        Ok(Self {
            kubeconfig: path,
            address: format!("{host}:{port}"),
            egress: egress.map(std::path::absolute).transpose()?,
        })
    }

    fn port(&self) -> anyhow::Result<u16> {
        let (_, port) = self.address.rsplit_once(':').context("an address")?;
        Ok(port.parse()?)
    }
}

/// Opens both ways' ends outside the lab's namespaces; what serves them ends with the calling process.
///
/// # Errors
/// When a socket or a link cannot be made, or a process not be started.
pub(crate) fn open(folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    relay::listen(folder, settings).context("cannot relay to the API server")?;
    if let Some(place) = &settings.egress {
        let linked = egress::link(folder, place);
        linked.with_context(|| format!("--egress {}", place.display()))?;
    }
    Ok(())
}

async fn config(kubeconfig: &Path) -> anyhow::Result<Config> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.with_context(|| kubeconfig.display().to_string())
}

fn server(config: &Config) -> anyhow::Result<(String, u16)> {
    let url = &config.cluster_url;
    let host = url.host().with_context(|| format!("{url}: no host"))?;
    Ok((host.to_owned(), url.port_u16().unwrap_or(443)))
}

/// The API server that a lab is joined to.
pub struct ApiServer {
    client: Client,
    /// The identities of pods whose end is being told.
    ending: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Opens the way to the API server. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or the lab's end of the way cannot listen.
    pub async fn connect(settings: &Settings, state: &StateDir) -> anyhow::Result<Self> {
        let mut config = config(&settings.kubeconfig).await?;
        let (host, _) = server(&config)?;
        let port = settings.port()?;
        relay::serve(state.root(), plan::bridge().v4, port)?;
        egress::serve(state.root())?;
        // The relay listens where the lab's own processes find it by the kubeconfig of a server on
        // this machine. Any other server keeps its name, and is reached by that way too.
        config.cluster_url = format!("https://127.0.0.1:{port}").parse()?;
        config.tls_server_name.get_or_insert(host);
        Ok(Self {
            client: Client::try_from(config)?,
            ending: Mutex::default(),
        })
    }

    /// Registers the nodes, fills the lab's objects, and keeps both up to date from then on.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn join(&self, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
        kubelet::serve(cluster)?;
        nodes::register(&self.client, cluster).await?;
        follow::everything(&self.client, cluster).await?;
        if let Err(error) = cluster.read(verifier) {
            tracing::warn!("kubelets answer nobody yet: {error:#}");
        }
        tokio::spawn(nodes::beat(self.client.clone(), Arc::clone(cluster)));
        tokio::spawn(pods::tell(self.client.clone(), Arc::clone(cluster)));
        Ok(())
    }
}

/// What went wrong, said once.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether the API server says that there is no such object, or that it is another one by now.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}
