//! `/config_dump`: everything this proxy knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_core::index::{Applicable, Index};
use ambit_core::model::{AuthorizationPolicy, Service, Workload};
use ambit_net::ca::Standing;
use ambit_telemetry::log::utc;
use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use crate::config::Config;
use crate::connections::Connection;
use crate::workloads::Summary;

/// Connections that are listed; more are only counted.
const CONNECTIONS: usize = 1000;

/// The answer to `/config_dump`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dump<'a> {
    version: Value,
    config: &'a Config,
    static_config: Value,
    discovery: Value,
    workloads: Vec<Arc<Workload>>,
    workload_state: Vec<Summary>,
    services: Vec<ServiceDump>,
    /// Endpoints of services that are not known (yet).
    staged_services: BTreeMap<String, Vec<Arc<str>>>,
    policies: Vec<Policy>,
    certificates: Vec<Value>,
    connections: Connections,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceDump {
    #[serde(flatten)]
    service: Arc<Service>,
    endpoints: Vec<Arc<str>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Policy {
    Ready(Arc<AuthorizationPolicy>),
    Broken(Value),
}

#[derive(Serialize)]
struct Connections {
    count: usize,
    listed: Vec<Value>,
}

impl<'a> Dump<'a> {
    pub(super) fn of(app: &'a App) -> Self {
        let index = Index::clone(&app.shared.index());
        let mut workloads: Vec<_> = index.workloads().cloned().collect();
        workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
        Self {
            version: json!({ "name": "ambit", "version": env!("CARGO_PKG_VERSION") }),
            config: &app.config,
            static_config: json!({}),
            discovery: discovery(app, &index),
            staged_services: staged(&index, &workloads),
            workloads,
            workload_state: app.pods.borrow().clone(),
            services: services(&index),
            policies: policies(&index),
            certificates: certificates(app),
            connections: connections(app),
        }
    }
}

fn discovery(app: &App, index: &Index) -> Value {
    let state = app.discovery.state();
    json!({
        "connected": state.connected,
        "synced": state.synced,
        "policiesSynced": index.policies_synced(),
        "stateAgeSeconds": app.discovery.state_age().map(|age| age.as_secs_f64()),
        "pushes": state.pushes,
        "rejectedPushes": state.nacks,
        "lastRejection": state.last_nack,
        "lastError": state.last_error,
        "pending": app.readiness.pending(),
    })
}

fn services(index: &Index) -> Vec<ServiceDump> {
    let mut services: Vec<ServiceDump> = index
        .services()
        .map(|service| {
            let endpoints = index.endpoints(&service.key);
            let uids = endpoints.into_iter().flat_map(|all| all.iter());
            let mut endpoints: Vec<_> = uids.map(|e| e.workload().uid.clone()).collect();
            endpoints.sort();
            ServiceDump {
                service: service.clone(),
                endpoints,
            }
        })
        .collect();
    services.sort_by(|a, b| a.service.key.cmp(&b.service.key));
    services
}

/// Uids of workloads by the services that they name and nobody described.
fn staged(index: &Index, workloads: &[Arc<Workload>]) -> BTreeMap<String, Vec<Arc<str>>> {
    let mut staged: BTreeMap<String, Vec<Arc<str>>> = BTreeMap::new();
    for workload in workloads {
        let services = workload.services.iter().map(|(key, _)| key);
        for key in services.filter(|key| index.service(key).is_none()) {
            let uids = staged.entry(key.to_string()).or_default();
            uids.push(workload.uid.clone());
        }
    }
    staged
}

fn policies(index: &Index) -> Vec<Policy> {
    index
        .policies()
        .map(|policy| match policy {
            Applicable::Ready(policy) => Policy::Ready(policy.clone()),
            Applicable::Undecodable(broken) => {
                Policy::Broken(json!({ "key": broken.key, "undecodable": broken.reason }))
            }
            Applicable::Unknown(key) => Policy::Broken(json!({ "key": key, "unknown": true })),
        })
        .collect()
}

fn certificates(app: &App) -> Vec<Value> {
    let entries = app.certificates.snapshot();
    entries
        .iter()
        .map(|entry| {
            let state = match entry.standing {
                Standing::Valid => "Available",
                Standing::Pending => "Initializing",
                Standing::Expired => "Expired",
                Standing::Failed => "Unavailable",
            };
            let chain = entry.certified.as_ref().map(|certified| {
                json!({
                    "serialNumber": certified.serial(),
                    "validFrom": utc(certified.not_before()),
                    "expirationTime": utc(certified.not_after()),
                    "length": certified.chain().len(),
                    "roots": certified.roots().len(),
                })
            });
            json!({
                "identity": entry.identity,
                "state": state,
                "certChain": chain,
                "lastError": entry.last_error,
            })
        })
        .collect()
}

fn connections(app: &App) -> Connections {
    let mut all = app.shared.connections().all();
    all.sort_by_key(|connection| connection.id());
    Connections {
        count: all.len(),
        listed: all
            .iter()
            .take(CONNECTIONS)
            .map(|one| connection(one))
            .collect(),
    }
}

fn connection(connection: &Connection) -> Value {
    let ends = connection.ends();
    let (sent, received) = connection.bytes();
    let name = |workload: &Option<Arc<Workload>>| {
        workload
            .as_ref()
            .map(|w| format!("{}/{}", w.namespace, w.name))
    };
    let details = connection.details();
    json!({
        "direction": ends.direction.as_str(),
        "source": ends.source,
        "sourceWorkload": details.and_then(|d| name(&d.source)),
        "sourceIdentity": details.and_then(|d| d.source_identity.as_ref()),
        "sourceWaypoint": details.and_then(|d| d.waypoint.as_ref()),
        "destination": details.map_or(ends.destination, |d| d.destination_addr),
        "destinationWorkload": details.and_then(|d| name(&d.destination)),
        "hboneAddr": details.and_then(|d| d.hbone_addr.as_deref()),
        "security": details.map(|d| d.security.as_str()),
        "bytesFromClient": sent,
        "bytesToClient": received,
        "seconds": connection.started().elapsed().as_secs_f64(),
    })
}
