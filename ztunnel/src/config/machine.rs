//! A machine of its own: one workload, which a WorkloadEntry describes, instead of the pods of a node.

use ambit_core::exclusions::Exclusions;
use ambit_net::sys::PROXY_MARK;
use ambit_proxy::config::Reader;
use ambit_proxy::config::value::{Value, word, word_of};
use serde::Serialize;

const MODE: &str = "PROXY_MODE";
const WORKLOAD: &str = "PROXY_WORKLOAD_INFO";
const INBOUND: &str = "AMBIT_EXCLUDE_INBOUND_PORTS";
const OUTBOUND: &str = "AMBIT_EXCLUDE_OUTBOUND_PORTS";
const RANGES: &str = "AMBIT_EXCLUDE_OUTBOUND_RANGES";
const DUMP: &str = "AMBIT_CONFIG_DUMP";
/// Stands for an empty list, where a variable that is not set has values.
const NOTHING: &str = "none";

/// The machine that this proxy serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Who it is.
    pub workload: WorkloadInfo,
    /// What of its traffic is left alone.
    pub exclusions: Exclusions,
    /// Whether the admin server says everything that this proxy knows, to any user of the machine.
    pub config_dump: bool,
}

/// A WorkloadEntry and its service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
}

impl Value for WorkloadInfo {
    const ACCEPTS: &'static str = "NAMESPACE/NAME/SERVICE-ACCOUNT of a WorkloadEntry";

    fn read(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [namespace, name, service_account] if parts.iter().all(|part| is_name(part)) => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    service_account: service_account.to_owned(),
                })
            }
            _ => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.name, self.service_account)
    }
}

/// As Kubernetes names objects (RFC 1123 subdomain).
fn is_name(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(fits)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Dedicated,
}

const MODES: [(&str, Mode); 2] = [("shared", Mode::Shared), ("dedicated", Mode::Dedicated)];

impl Value for Mode {
    const ACCEPTS: &'static str = "shared or dedicated";

    fn read(text: &str) -> Result<Self, String> {
        word(text, &MODES)
    }

    fn show(&self) -> String {
        word_of(*self, &MODES)
    }
}

impl Machine {
    /// Nothing for the proxy of a node.
    pub(super) fn read(reader: &mut Reader, packet_mark: u32) -> Option<Self> {
        let about = "shared: the pods of a node, which its agent announces; dedicated: this machine alone, which captures its own traffic";
        let mode = reader.value(MODE, about, Mode::Shared);
        let about = "who this machine is, in mode dedicated";
        let workload: Option<WorkloadInfo> = reader.optional(WORKLOAD, about);
        let about = "ports of this machine that are left alone in mode dedicated: what comes to them goes past the mesh; none for none";
        let inbound = reader.value(INBOUND, about, "22".to_owned());
        let about = "ports elsewhere that are left alone in mode dedicated; 53 leaves DNS alone";
        let outbound: Option<String> = reader.optional(OUTBOUND, about);
        let about = "ranges of addresses elsewhere that are left alone in mode dedicated";
        let ranges: Option<String> = reader.optional(RANGES, about);
        let about = "true serves /config_dump in mode dedicated, to any user of the machine: all that the mesh is";
        let config_dump = reader.value(DUMP, about, false);
        if mode == Mode::Shared {
            return None;
        }
        let listed = |name: &str| match name {
            INBOUND => Some(&*inbound).filter(|text| *text != NOTHING),
            OUTBOUND => outbound.as_deref(),
            _ => ranges.as_deref(),
        };
        let exclusions = Exclusions::named([INBOUND, OUTBOUND, RANGES], listed);
        let exclusions = exclusions.map_err(|error| {
            let (name, why) = error.parts();
            reader.refuse(name, why);
        });
        if packet_mark != PROXY_MARK {
            let only = format!(
                "expected {PROXY_MARK} in mode dedicated, by which the machine's packet filter knows the proxy"
            );
            reader.refuse("PACKET_MARK", only);
        }
        if workload.is_none() && reader.text(WORKLOAD).is_none() {
            reader.refuse(WORKLOAD, format!("expected {}", WorkloadInfo::ACCEPTS));
        }
        Some(Self {
            workload: workload?,
            exclusions: exclusions.ok()?,
            config_dump,
        })
    }
}
