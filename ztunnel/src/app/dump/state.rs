//! The pods of this node and their connections, as `istioctl ztunnel-config connections` reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_proxy::dump;
use ambit_telemetry::access::Direction;
use ambit_telemetry::metrics::Security;
use serde::Serialize;

use crate::connections::Connection;
use crate::workloads::{State, Summary};

/// How a pod stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadState<'a> {
    state: &'static str,
    /// Why its connections wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'a str>,
    connections: Both,
    info: Info<'a>,
}

#[derive(Default, Serialize)]
struct Both {
    inbound: Vec<Inbound>,
    outbound: Vec<Outbound>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inbound {
    src: SocketAddr,
    /// The service that the client asked for.
    original_dst: Option<String>,
    /// Where the pod was asked: by the tunnel, if there is one.
    actual_dst: SocketAddr,
    protocol: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outbound {
    src: SocketAddr,
    /// What the pod dialled.
    original_dst: SocketAddr,
    actual_dst: SocketAddr,
    protocol: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    name: &'a str,
    namespace: &'a str,
    trust_domain: &'a str,
    service_account: &'a str,
}

/// The pods by the agent's uids, with the connections that are listed.
pub(super) fn workload_state<'a>(
    pods: &'a [Summary],
    connections: &[Arc<Connection>],
) -> BTreeMap<&'a str, WorkloadState<'a>> {
    let mut by_pod: BTreeMap<String, Both> = BTreeMap::new();
    for connection in connections.iter().take(dump::LISTED) {
        add(&mut by_pod, connection);
    }
    let shown = pods.iter().map(|pod| {
        let connections = by_pod.remove(&pod.pod).unwrap_or_default();
        (&*pod.uid, standing(pod, connections))
    });
    shown.collect()
}

fn standing(pod: &Summary, connections: Both) -> WorkloadState<'_> {
    let (state, waits_for) = match &pod.state {
        State::Serving => ("Up", None),
        State::Waiting(why) => ("Pending", Some(&**why)),
    };
    let (namespace, name) = pod.pod.split_once('/').unwrap_or_default();
    WorkloadState {
        state,
        waits_for,
        connections,
        info: Info {
            name,
            namespace,
            trust_domain: pod.identity.trust_domain(),
            service_account: pod.identity.service_account(),
        },
    }
}

/// Adds a connection to the pod that has it, once it is known which one does.
fn add(by_pod: &mut BTreeMap<String, Both>, connection: &Connection) {
    let Some(details) = connection.details() else {
        return;
    };
    let ends = connection.ends();
    let protocol = protocol(details.security);
    let (pod, inbound) = match ends.direction {
        Direction::Inbound => (&details.destination, true),
        Direction::Outbound => (&details.source, false),
    };
    let Some(pod) = pod else { return };
    let both = by_pod.entry(dump::name(pod)).or_default();
    if inbound {
        let asked = details.hbone_addr.as_deref();
        let tunnelled = asked.and_then(|address| address.parse().ok());
        both.inbound.push(Inbound {
            src: ends.source,
            original_dst: details.service.as_ref().map(|it| it.key.name.to_string()),
            actual_dst: tunnelled.unwrap_or(details.destination_addr),
            protocol,
        });
    } else {
        both.outbound.push(Outbound {
            src: ends.source,
            original_dst: ends.destination,
            actual_dst: details.destination_addr,
            protocol,
        });
    }
}

fn protocol(security: Security) -> &'static str {
    match security {
        Security::MutualTls => "HBONE",
        Security::Local | Security::Unknown => "TCP",
    }
}
