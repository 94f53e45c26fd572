//! The parts of `/config_dump` that both proxies have, as `ambit ztunnel|waypoint` reads them; workloads, services and
//! certificates in the shape of Istio's node proxy, with what only Ambit knows beside it.

mod certificate;
mod service;
mod workload;

use std::net::SocketAddr;

use ambit_core::identity::Identity;
use ambit_core::model;
use serde::Serialize;

pub use certificate::{Certificate, certificates};
pub use service::{Service, services};
pub use workload::Workload;

/// Connections that are listed; more are only counted.
pub const LISTED: usize = 1000;

/// The connections that run.
#[derive(Debug, Serialize)]
pub struct Connections {
    count: usize,
    listed: Vec<Connection>,
}

impl Connections {
    /// Counts all and shows the first of them.
    pub fn of<T>(all: &[T], show: impl Fn(&T) -> Connection) -> Self {
        Self {
            count: all.len(),
            listed: all.iter().take(LISTED).map(show).collect(),
        }
    }
}

/// A connection that runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Connection {
    pub direction: &'static str,
    pub source: SocketAddr,
    pub source_workload: Option<String>,
    pub source_identity: Option<Identity>,
    pub source_waypoint: Option<Identity>,
    pub destination: SocketAddr,
    pub destination_workload: Option<String>,
    /// The service that was asked for.
    pub destination_service: Option<String>,
    /// What the tunnel was asked for.
    pub hbone_addr: Option<String>,
    pub security: Option<&'static str>,
    pub bytes_from_client: u64,
    pub bytes_to_client: u64,
    pub seconds: f64,
}

/// What a workload is a part of, such as a Deployment, as `NAMESPACE/NAME`.
#[must_use]
pub fn owner(workload: &model::Workload) -> String {
    let name = match &*workload.workload_name {
        "" => &workload.name,
        owner => owner,
    };
    format!("{}/{name}", workload.namespace)
}

/// A workload as `NAMESPACE/NAME`.
#[must_use]
pub fn name(workload: &model::Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}
