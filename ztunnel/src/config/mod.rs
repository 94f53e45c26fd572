//! The node proxy's configuration: environment variables under the names that manifests of
//! Istio's ztunnel use, and `AMBIT_*` for what is ours.
//!
//! Everything is read and checked before anything starts, and everything that is wrong is
//! reported at once. Nothing else in the process reads the environment.

mod dns;
mod machine;
mod process;
mod udp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

pub use ambit_proxy::config::{ControlPlane, Drain, Known, Log, Mesh, Problems, Servers};
pub use dns::Dns;
pub use machine::{Machine, WorkloadInfo};
pub use process::{Limits, NodeLocal, Pods, Threads};
pub use udp::Udp;

use ambit_proxy::config::Reader;

/// All that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Where and who this proxy is.
    pub mesh: Mesh,
    /// Discovery and certificates.
    pub control_plane: ControlPlane,
    /// The pods of this node.
    pub pods: Pods,
    /// The machine that is served instead of the pods of a node.
    pub machine: Option<Machine>,
    /// DNS of pods.
    pub dns: Dns,
    /// UDP of pods.
    pub udp: Udp,
    /// What peers and pods may use.
    pub limits: Limits,
    /// Worker threads.
    pub threads: Threads,
    /// The end of the process.
    pub drain: Drain,
    /// Admin, metrics and readiness.
    pub servers: Servers,
    /// Log lines.
    pub log: Log,
    /// Variables of istio/ztunnel that are set and change nothing here.
    pub without_effect: Vec<&'static str>,
}

impl Config {
    /// Reads the configuration from environment variables.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_env(vars: BTreeMap<String, String>) -> Result<Self, Problems> {
        let mut reader = Reader::new(vars);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    /// Every variable there is.
    #[must_use]
    pub fn variables() -> Vec<Known> {
        let mut reader = Reader::new(BTreeMap::new());
        Self::read(&mut reader);
        reader.into_known()
    }

    fn read(reader: &mut Reader) -> Self {
        let mut mesh = Mesh::read(reader);
        let control_plane = ControlPlane::read(reader);
        let pods = Pods::read(reader);
        let machine = Machine::read(reader, pods.packet_mark);
        if let Some(Machine { workload, .. }) = &machine {
            // The control plane hears of it by this name.
            mesh.pod_name.clone_from(&workload.name);
            mesh.pod_namespace.clone_from(&workload.namespace);
            mesh.service_account.clone_from(&workload.service_account);
        }
        let dns = Dns::read(reader);
        let config = Self {
            control_plane,
            mesh,
            pods,
            machine,
            dns,
            udp: Udp::read(reader),
            limits: Limits::read(reader),
            threads: Threads::read(reader),
            drain: Drain::read(reader),
            servers: Servers::read(reader),
            log: Log::read(reader),
            without_effect: WITHOUT_EFFECT
                .into_iter()
                .filter(|name| reader.text(name).is_some())
                .collect(),
        };
        unsupported(reader);
        config
    }
}

/// What istio/ztunnel can be told and this proxy decides by itself. A manifest that says so still
/// starts it; the log and `--print-config` name what was set in vain.
const WITHOUT_EFFECT: [&str; 11] = [
    "AUTHZ_POLICY_INFO_LOGGING",
    "ENABLE_RESPONSE_BAGGAGE",
    "INPOD_PORT_REUSE",
    "IPV6_ENABLED",
    "KEEPALIVE_ENABLED",
    "KEEPALIVE_INTERVAL",
    "KEEPALIVE_RETRIES",
    "KEEPALIVE_TIME",
    "LOCALHOST_APP_TUNNEL",
    "PREFERED_SERVICE_NAMESPACE",
    "USER_TIMEOUT_ENABLED",
];

/// What istio/ztunnel can be told and this proxy cannot do: silence would be a lie.
fn unsupported(reader: &mut Reader) {
    reader.only("FAKE_CA", &["false"], "certificates without an authority");
    reader.only("XDS_ON_DEMAND", &["false"], "discovery on demand");
    reader.only("UNSTABLE_ENABLE_SOCKS5", &["false"], "the SOCKS5 listener");
    reader.only("ENABLE_PROXY", &["true"], "a DNS proxy alone");
    reader.only("TLS12_ENABLED", &["false"], "TLS 1.2");
    reader.only(
        "LOCAL_XDS_PATH",
        &[],
        "discovery from a file; run `ambit control` on a folder",
    );
    reader.only(
        "LOCAL_XDS",
        &[],
        "discovery from a text; run `ambit control` on a folder",
    );
    reader.only("COMPLIANCE_POLICY", &[], "a choice of cryptography");
    reader.only(
        "PROXY_CONFIG",
        &[],
        "a nested proxy configuration; set the variables themselves",
    );
}
