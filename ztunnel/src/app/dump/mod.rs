//! `/config_dump`: everything this proxy knows, in the shape that `istioctl ztunnel-config` reads, with what only Ambit
//! knows beside it.

mod policy;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_core::index::Index;
use ambit_core::model::Workload;
use ambit_proxy::ShownDenials;
use ambit_proxy::dump::{self, Certificate, Connections, Service};
use serde::Serialize;
use serde_json::{Value, json};

use self::policy::{Policy, policies};
use self::state::{WorkloadState, workload_state};
use super::App;
use crate::config::Config;
use crate::connections::Connection;
use crate::workloads::Summary;

/// The answer to `/config_dump`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dump<'a> {
    version: Value,
    config: &'a Config,
    static_config: Value,
    discovery: Value,
    workloads: Vec<dump::Workload<'a>>,
    workload_state: BTreeMap<&'a str, WorkloadState<'a>>,
    services: Vec<Service<'a>>,
    /// Endpoints of services that are not known (yet).
    staged_services: BTreeMap<String, Vec<Arc<str>>>,
    policies: Vec<Policy<'a>>,
    certificates: Vec<Certificate>,
    connections: Connections,
    denials: ShownDenials,
}

/// What is known at one moment.
pub(super) struct Known {
    index: Index,
    pods: Vec<Summary>,
    connections: Vec<Arc<Connection>>,
}

impl Known {
    pub(super) fn of(app: &App) -> Self {
        let mut connections = app.shared.connections().all();
        connections.sort_by_key(|connection| connection.id());
        Self {
            index: Index::clone(&app.shared.index()),
            pods: app.pods.borrow().clone(),
            connections,
        }
    }

    pub(super) fn dump<'a>(&'a self, app: &'a App) -> Dump<'a> {
        let Self {
            index,
            pods,
            connections,
        } = self;
        let mut workloads: Vec<_> = index.workloads().collect();
        workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
        Dump {
            version: json!({ "name": "ambit", "version": env!("CARGO_PKG_VERSION") }),
            config: &app.config,
            static_config: json!({}),
            discovery: discovery(app, index),
            staged_services: staged(index, &workloads),
            workloads: workloads
                .into_iter()
                .map(|it| dump::Workload::of(it))
                .collect(),
            workload_state: workload_state(pods, connections),
            services: dump::services(index),
            policies: policies(index),
            certificates: dump::certificates(&app.certificates),
            connections: Connections::of(connections, |one| shown(one)),
            denials: app.shared.connections().denials().shown(),
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

/// Uids of workloads by the services that they name and nobody described.
fn staged(index: &Index, workloads: &[&Arc<Workload>]) -> BTreeMap<String, Vec<Arc<str>>> {
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

fn shown(connection: &Connection) -> dump::Connection {
    let ends = connection.ends();
    let (sent, received) = connection.bytes();
    let name = |workload: &Option<Arc<Workload>>| workload.as_deref().map(dump::name);
    let details = connection.details();
    dump::Connection {
        direction: ends.direction.as_str(),
        source: ends.source,
        source_workload: details.and_then(|d| name(&d.source)),
        source_identity: details.and_then(|d| d.source_identity.clone()),
        source_waypoint: details.and_then(|d| d.waypoint.clone()),
        destination: details.map_or(ends.destination, |d| d.destination_addr),
        destination_workload: details.and_then(|d| name(&d.destination)),
        destination_service: details.and_then(|d| Some(d.service.as_ref()?.key.to_string())),
        hbone_addr: details.and_then(|d| d.hbone_addr.as_deref().map(str::to_owned)),
        security: details.map(|d| d.security.as_str()),
        bytes_from_client: sent,
        bytes_to_client: received,
        seconds: connection.started().elapsed().as_secs_f64(),
    }
}
