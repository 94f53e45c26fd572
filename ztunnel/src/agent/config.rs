//! Settings of the agent: flags, or the environment variables of a DaemonSet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ambit_core::cni::AGENT_SOCKET;
use clap::{ArgAction, Args};

/// Settings of `ambit-cni agent`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The node that this agent serves.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,

    /// Where pods and namespaces are listed and pods are marked: `kubernetes`, or http://HOST:PORT of what stands for an API
    /// server, as a lab does.
    #[arg(long, env = "SOURCE_URL", default_value = "kubernetes")]
    pub source_url: String,

    /// The namespace of the installation.
    #[arg(long, env = "POD_NAMESPACE", default_value = "ambit-system")]
    pub pod_namespace: String,

    /// The node's /proc, for an agent that is not on the node's network itself.
    #[arg(long, env = "HOST_PROC")]
    pub host_proc: Option<PathBuf>,

    /// Installs the CNI plugin on the node, and keeps it installed.
    #[arg(long, env = "CNI_INSTALL")]
    pub install: bool,

    /// The node's folder of CNI plugins.
    #[arg(long, env = "CNI_BIN_DIR", default_value = "/host/cni/bin")]
    pub cni_bin_dir: PathBuf,

    /// The node's folder of CNI configurations.
    #[arg(long, env = "CNI_CONF_DIR", default_value = "/host/cni/net.d")]
    pub cni_conf_dir: PathBuf,

    /// Namespaces whose pods the installed plugin does not ask about: what a node needs to start at all.
    #[arg(
        long,
        env = "CNI_EXCLUDE_NAMESPACES",
        value_delimiter = ',',
        default_value = "ambit-system,kube-system"
    )]
    pub exclude_namespaces: Vec<String>,

    /// The socket that the CNI plugin asks.
    #[arg(long, env = "CNI_SOCKET", default_value = AGENT_SOCKET)]
    pub socket: PathBuf,

    /// The socket that node proxies connect to.
    #[arg(
        long,
        env = "INPOD_UDS",
        default_value = "/var/run/ztunnel/ztunnel.sock"
    )]
    pub zds_socket: PathBuf,

    /// The folder that remembers the pods in the mesh across restarts; beside the CNI socket unless given.
    #[arg(long, env = "STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// The folder in which node proxies keep what they know; it goes with the installation.
    #[arg(long, env = "AMBIT_STATE_DIR")]
    pub proxy_state_dir: Option<PathBuf>,

    /// Where /healthz/ready and /metrics are served.
    #[arg(long, env = "AGENT_ADDR", default_value = "0.0.0.0:15022")]
    pub address: SocketAddr,

    /// Captures DNS of pods too, unless their annotation ambient.istio.io/dns-capture says otherwise.
    #[arg(long, env = "DNS_CAPTURE", action = ArgAction::Set, default_value_t = true)]
    pub dns_capture: bool,

    /// Seconds to wait for a starting pod to be listed.
    #[arg(long, env = "SOURCE_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub source_timeout: Duration,

    /// Seconds to wait for a node proxy to connect, and for its answer about a pod.
    #[arg(long, env = "PROXY_TIMEOUT", default_value = "20", value_parser = seconds)]
    pub proxy_timeout: Duration,

    /// Seconds for which a pod that leaves the mesh as it runs is captured as before, for its callers to hear of it.
    #[arg(long, env = "PARTING_TIME", default_value = "2", value_parser = seconds)]
    pub parting: Duration,

    /// Seconds for the connections of such a pod to end after that: a little more than node proxies give them.
    #[arg(long, env = "DRAINING_TIME", default_value = "6", value_parser = seconds)]
    pub draining: Duration,
}

impl Config {
    /// The folder that remembers pods.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        let beside = || self.socket.with_extension("pods");
        self.state_dir.clone().unwrap_or_else(beside)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=600) => Ok(Duration::from_secs(seconds)),
        _ => Err("a number of seconds from 1 to 600".into()),
    }
}
