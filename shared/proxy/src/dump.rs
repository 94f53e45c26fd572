//! The parts of `/config_dump` that both proxies have, as `ambit ztunnel|waypoint` reads them.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::index::Index;
use ambit_core::model::{self, Workload};
use ambit_net::ca::{CertificateStore, Entry, Standing};
use ambit_net::tls::Certified;
use ambit_telemetry::log::utc;
use serde::Serialize;

/// Connections that are listed; more are only counted.
const LISTED: usize = 1000;

/// A service, and the uids of its endpoints.
#[derive(Debug, Serialize)]
pub struct Service {
    #[serde(flatten)]
    service: Arc<model::Service>,
    endpoints: Vec<Arc<str>>,
}

/// Every service, by name.
#[must_use]
pub fn services(index: &Index) -> Vec<Service> {
    let mut services: Vec<Service> = index
        .services()
        .map(|service| Service {
            service: service.clone(),
            endpoints: endpoints(index, service),
        })
        .collect();
    services.sort_by(|a, b| a.service.key.cmp(&b.service.key));
    services
}

fn endpoints(index: &Index, service: &model::Service) -> Vec<Arc<str>> {
    let all = index.endpoints(&service.key).into_iter();
    let uids = all.flat_map(|all| all.iter().map(|it| it.workload().uid.clone()));
    let mut uids: Vec<_> = uids.collect();
    uids.sort();
    uids
}

/// An identity, and how its certificate stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    identity: Identity,
    state: &'static str,
    cert_chain: Option<Chain>,
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Chain {
    serial_number: String,
    valid_from: String,
    expiration_time: String,
    length: usize,
    roots: usize,
}

/// Every certificate of a store.
#[must_use]
pub fn certificates(store: &CertificateStore) -> Vec<Certificate> {
    store.snapshot().into_iter().map(certificate).collect()
}

fn certificate(entry: Entry) -> Certificate {
    let state = match entry.standing {
        Standing::Valid => "Available",
        Standing::Pending => "Initializing",
        Standing::Expired => "Expired",
        Standing::Failed => "Unavailable",
    };
    Certificate {
        identity: entry.identity,
        state,
        cert_chain: entry.certified.as_deref().map(chain),
        last_error: entry.last_error,
    }
}

fn chain(certified: &Certified) -> Chain {
    Chain {
        serial_number: certified.serial().to_owned(),
        valid_from: utc(certified.not_before()),
        expiration_time: utc(certified.not_after()),
        length: certified.chain().len(),
        roots: certified.roots().len(),
    }
}

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

/// A workload as `NAMESPACE/NAME`.
#[must_use]
pub fn name(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}
