//! `ServiceEntry` and `WorkloadEntry`, as users write them. Unknown fields of a spec are errors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::gateway::object;

/// `ServiceEntry`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ServiceEntry {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: ServiceEntrySpec,
    /// What was said of it before.
    #[serde(default)]
    pub status: Option<ServiceEntryStatus>,
}

/// What a `ServiceEntry` says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceEntrySpec {
    /// Names of the service; `*.` before a name stands for all below it.
    pub hosts: Vec<String>,
    /// Its virtual addresses or ranges.
    pub addresses: Vec<String>,
    #[allow(missing_docs)]
    pub ports: Vec<EntryPort>,
    /// `MESH_EXTERNAL` or `MESH_INTERNAL`.
    pub location: Option<String>,
    /// `NONE` (the default), `STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `DYNAMIC_DNS`.
    pub resolution: Option<String>,
    /// Who serves it.
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// The pods and workload entries of its namespace that serve it.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see it: `*` (the default), `.` for its own, `~` for none.
    pub export_to: Vec<String>,
    /// Names that its servers may show.
    pub subject_alt_names: Vec<String>,
}

#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EntryPort {
    pub number: i64,
    pub protocol: Option<String>,
    pub name: Option<String>,
    pub target_port: Option<i64>,
}

#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadSelector {
    pub labels: BTreeMap<String, String>,
}

/// What the control plane has said of a `ServiceEntry`. Others may say more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceEntryStatus {
    /// The addresses that its hosts were given.
    pub addresses: Vec<HostAddress>,
}

#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostAddress {
    pub value: String,
    pub host: String,
}

object!(
    /// `WorkloadEntry`.
    WorkloadEntry,
    WorkloadEntrySpec
);

/// What a `WorkloadEntry` says, or an endpoint of a `ServiceEntry`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct WorkloadEntrySpec {
    /// An IP address, or the name of a host.
    pub address: Option<String>,
    /// Ports by the names that the service has for them.
    pub ports: BTreeMap<String, i64>,
    pub labels: BTreeMap<String, String>,
    pub network: Option<String>,
    /// `REGION/ZONE/SUBZONE`.
    pub locality: Option<String>,
    pub weight: Option<i64>,
    pub service_account: Option<String>,
}

impl WorkloadEntrySpec {
    /// The service account that it runs as: that of pods which name none, where it names none or an empty one.
    #[must_use]
    pub fn account(&self) -> &str {
        let named = self.service_account.as_deref();
        named.filter(|name| !name.is_empty()).unwrap_or("default")
    }
}
