//! A workload, as `istioctl ztunnel-config workloads` reads it.

use std::net::IpAddr;

use ambit_core::addr::NamespacedName;
use ambit_core::model::{
    self, Destination, GatewayAddress, Health, Locality, NetworkMode, TunnelProtocol, WorkloadType,
};
use serde::Serialize;

/// A workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload<'a> {
    uid: &'a str,
    name: &'a str,
    namespace: &'a str,
    trust_domain: &'a str,
    service_account: &'a str,
    workload_ips: &'a [IpAddr],
    hostname: &'a str,
    network: &'a str,
    network_mode: NetworkMode,
    /// How it is reached.
    protocol: &'static str,
    native_tunnel: bool,
    waypoint: Option<Gateway<'a>>,
    network_gateway: Option<Gateway<'a>>,
    application_tunnel: Option<ApplicationTunnel>,
    node: &'a str,
    cluster_id: &'a str,
    locality: &'a Locality,
    status: Health,
    capacity: u32,
    workload_name: &'a str,
    workload_type: &'static str,
    canonical_name: &'a str,
    canonical_revision: &'a str,
    authorization_policies: &'a [NamespacedName],
}

/// A waypoint or a gateway of another network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gateway<'a> {
    destination: Named<'a>,
    hbone_mtls_port: u16,
}

/// `NETWORK/ADDRESS` or `NAMESPACE/HOSTNAME`.
#[derive(Debug)]
struct Named<'a>(&'a Destination);

impl Serialize for Named<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Destination::Address(address) => address.serialize(serializer),
            Destination::Hostname(name) => name.serialize(serializer),
        }
    }
}

impl<'a> Gateway<'a> {
    pub(super) fn of(gateway: &'a GatewayAddress) -> Self {
        Self {
            destination: Named(&gateway.destination),
            hbone_mtls_port: gateway.hbone_port,
        }
    }
}

#[derive(Debug, Serialize)]
struct ApplicationTunnel {
    protocol: &'static str,
    port: Option<u16>,
}

impl<'a> Workload<'a> {
    /// What is shown of a workload.
    #[must_use]
    pub fn of(workload: &'a model::Workload) -> Self {
        Self {
            uid: &workload.uid,
            name: &workload.name,
            namespace: &workload.namespace,
            trust_domain: workload.identity.trust_domain(),
            service_account: workload.identity.service_account(),
            workload_ips: &workload.addresses,
            hostname: &workload.hostname,
            network: &workload.network,
            network_mode: workload.network_mode,
            protocol: match workload.tunnel_protocol {
                TunnelProtocol::None => "TCP",
                TunnelProtocol::Hbone => "HBONE",
                TunnelProtocol::LegacyIstioMtls => "LegacyIstioMtls",
            },
            native_tunnel: workload.native_tunnel,
            waypoint: workload.waypoint.as_ref().map(Gateway::of),
            network_gateway: workload.network_gateway.as_ref().map(Gateway::of),
            application_tunnel: workload.application_tunnel.map(|tunnel| ApplicationTunnel {
                protocol: "PROXY",
                port: tunnel.port,
            }),
            node: &workload.node,
            cluster_id: &workload.cluster_id,
            locality: &workload.locality,
            status: workload.health,
            capacity: workload.capacity,
            workload_name: &workload.workload_name,
            workload_type: match workload.workload_type {
                WorkloadType::Deployment => "deployment",
                WorkloadType::CronJob => "cronjob",
                WorkloadType::Pod => "pod",
                WorkloadType::Job => "job",
            },
            canonical_name: &workload.canonical_name,
            canonical_revision: &workload.canonical_revision,
            authorization_policies: &workload.authorization_policies,
        }
    }
}
