//! What the container runtime says: the configuration on standard input, the rest in environment variables.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::AGENT_SOCKET;
use super::agent::PodName;
use super::output::{CniError, VERSIONS};

/// The plugin's configuration, with the result of the plugins before it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// One of [`VERSIONS`].
    pub cni_version: String,
    /// Where the agent listens.
    #[serde(default = "agent_socket")]
    pub agent_socket: PathBuf,
    /// Namespaces whose pods the agent is not asked about: what a cluster needs to start at all.
    #[serde(default)]
    exclude_namespaces: Vec<String>,
    #[serde(default)]
    prev_result: Option<Value>,
}

fn agent_socket() -> PathBuf {
    AGENT_SOCKET.into()
}

impl NetConf {
    /// Reads the configuration.
    ///
    /// # Errors
    /// It is none, or of a version that is not spoken here.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let conf: Self = serde_json::from_str(text)
            .map_err(|error| CniError::decode(format!("network configuration: {error}")))?;
        if !VERSIONS.contains(&conf.cni_version.as_str()) {
            return Err(CniError::version(&conf.cni_version));
        }
        Ok(conf)
    }

    /// The result so far, an object: this plugin gives no network of its own.
    ///
    /// # Errors
    /// There is none.
    pub fn result(&self) -> Result<Value, CniError> {
        match &self.prev_result {
            Some(result) if result.is_object() => Ok(result.clone()),
            _ => Err(CniError::configuration(
                "prevResult is missing: ambit-cni has to come behind the plugin that gives the pod its network",
            )),
        }
    }

    /// Whether the agent is not to be asked about a pod.
    #[must_use]
    pub fn excludes(&self, pod: &PodName) -> bool {
        self.exclude_namespaces.contains(&pod.namespace)
    }
}

/// What comes in environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The sandbox, as the runtime knows it.
    pub container_id: String,
    /// The path of its network namespace; absent at some DELs.
    pub netns: Option<String>,
    /// `None` when the sandbox is not a Kubernetes pod's.
    pub pod: Option<PodName>,
}

impl Environment {
    /// Reads the variables.
    ///
    /// # Errors
    /// Which is missing, or is not what it has to be.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        needs_netns: bool,
    ) -> Result<Self, CniError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| {
            set(name).ok_or_else(|| CniError::environment(format!("{name} is missing")))
        };
        let netns = if needs_netns {
            Some(needed("CNI_NETNS")?)
        } else {
            set("CNI_NETNS")
        };
        Ok(Self {
            container_id: needed("CNI_CONTAINERID")?,
            netns,
            pod: pod(&set("CNI_ARGS").unwrap_or_default())?,
        })
    }
}

/// `KEY=VALUE;KEY=VALUE`
fn pod(args: &str) -> Result<Option<PodName>, CniError> {
    let (mut namespace, mut name, mut uid) = (None, None, None);
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            let reason = format!("CNI_ARGS: {pair:?} is not KEY=VALUE");
            return Err(CniError::environment(reason));
        };
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "K8S_POD_NAMESPACE" => namespace = value,
            "K8S_POD_NAME" => name = value,
            "K8S_POD_UID" => uid = value,
            _ => {}
        }
    }
    Ok(namespace.zip(name).map(|(namespace, name)| PodName {
        namespace,
        name,
        uid: uid.unwrap_or_default(),
    }))
}

/// The pod's addresses in a result, without their prefix.
///
/// # Errors
/// What is no address.
pub fn ips(result: &Value) -> Result<Vec<IpAddr>, CniError> {
    let entries = match &result["ips"] {
        Value::Null => &[][..],
        Value::Array(entries) => entries,
        other => {
            let found: String = other.to_string().chars().take(80).collect();
            let reason = format!("prevResult: ips is {found}, no list");
            return Err(CniError::decode(reason));
        }
    };
    entries
        .iter()
        .map(|entry| {
            let text = entry["address"].as_str().unwrap_or_default();
            let ip = text.split('/').next().unwrap_or_default();
            ip.parse()
                .map_err(|_| CniError::decode(format!("prevResult: {text:?} is no address")))
        })
        .collect()
}
