//! `istio.workload.Workload`.

use std::sync::Arc;

use ambit_proto::workload as proto;

use super::error::{At, ConvertError, each, known, port};
use super::gateway::{gateway, ip, ip_bytes, port_mapping, service_key};
use super::udp;
use crate::addr::NamespacedName;
use crate::identity::Identity;
use crate::model::{
    ApplicationTunnel, Health, Locality, NetworkMode, PortMapping, TunnelProtocol, Workload,
    WorkloadType,
};

/// What the wire leaves out.
const TRUST_DOMAIN: &str = "cluster.local";
const SERVICE_ACCOUNT: &str = "default";
const CLUSTER: &str = "Kubernetes";

impl TryFrom<&proto::Workload> for Workload {
    type Error = ConvertError;

    fn try_from(wire: &proto::Workload) -> Result<Self, Self::Error> {
        workload(wire).map_err(|error| error.of(&wire.uid))
    }
}

fn workload(wire: &proto::Workload) -> Result<Workload, ConvertError> {
    // With fewer slashes it could be taken for a service's name.
    if wire.uid.matches('/').count() < 2 {
        return Err(ConvertError::new(
            "uid",
            &wire.uid,
            "cluster/group/kind/namespace/name",
        ));
    }
    Ok(Workload {
        uid: text(&wire.uid),
        name: text(&wire.name),
        namespace: text(&wire.namespace),
        addresses: each("addresses", &wire.addresses, |bytes| ip(bytes))?,
        hostname: text(&wire.hostname),
        network: text(&wire.network),
        identity: identity(wire)?,
        tunnel_protocol: tunnel_protocol(wire.tunnel_protocol)?,
        native_tunnel: wire.native_tunnel,
        waypoint: wire
            .waypoint
            .as_ref()
            .map(gateway)
            .transpose()
            .at("waypoint")?,
        network_gateway: wire
            .network_gateway
            .as_ref()
            .map(gateway)
            .transpose()
            .at("network_gateway")?,
        node: text(&wire.node),
        cluster_id: or(&wire.cluster_id, CLUSTER),
        canonical_name: text(&wire.canonical_name),
        canonical_revision: text(&wire.canonical_revision),
        workload_type: workload_type(wire.workload_type),
        workload_name: text(&wire.workload_name),
        authorization_policies: each(
            "authorization_policies",
            &wire.authorization_policies,
            |name| name_of(name),
        )?,
        health: match known("status", wire.status, "HEALTHY or UNHEALTHY")? {
            proto::WorkloadStatus::Healthy => Health::Healthy,
            proto::WorkloadStatus::Unhealthy => Health::Unhealthy,
        },
        services: services(wire)?,
        udp_ports: udp::of_workload(&wire.extensions)?,
        takes_udp: wire.extensions.iter().any(|it| it.name == udp::TAKEN),
        application_tunnel: application_tunnel(wire.application_tunnel.as_ref())
            .at("application_tunnel")?,
        locality: locality(wire.locality.as_ref()),
        network_mode: match known("network_mode", wire.network_mode, "a known network mode")? {
            proto::NetworkMode::Standard => NetworkMode::Standard,
            proto::NetworkMode::HostNetwork => NetworkMode::HostNetwork,
        },
        capacity: wire.capacity.unwrap_or(1).max(1),
    })
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

fn or(text: &str, default: &str) -> Arc<str> {
    if text.is_empty() { default } else { text }.into()
}

fn identity(wire: &proto::Workload) -> Result<Identity, ConvertError> {
    let trust_domain = or(&wire.trust_domain, TRUST_DOMAIN);
    let account = or(&wire.service_account, SERVICE_ACCOUNT);
    Identity::new(
        trust_domain.clone(),
        wire.namespace.as_str(),
        account.clone(),
    )
    .map_err(|_| {
        ConvertError::new(
            "trust_domain, namespace, service_account",
            (trust_domain, &wire.namespace, account),
            "the parts of a SPIFFE id",
        )
    })
}

fn name_of(name: &str) -> Result<NamespacedName, ConvertError> {
    name.parse()
        .map_err(|_| ConvertError::new("", name, "namespace/name"))
}

/// Unknown protocols are errors: a guess could take the encryption away.
fn tunnel_protocol(value: i32) -> Result<TunnelProtocol, ConvertError> {
    Ok(
        match known("tunnel_protocol", value, "a known tunnel protocol")? {
            proto::TunnelProtocol::None => TunnelProtocol::None,
            proto::TunnelProtocol::Hbone => TunnelProtocol::Hbone,
            proto::TunnelProtocol::LegacyIstioMtls => TunnelProtocol::LegacyIstioMtls,
        },
    )
}

/// For telemetry only, so an unknown owner is just a pod.
fn workload_type(value: i32) -> WorkloadType {
    match proto::WorkloadType::try_from(value) {
        Ok(proto::WorkloadType::Deployment) => WorkloadType::Deployment,
        Ok(proto::WorkloadType::Cronjob) => WorkloadType::CronJob,
        Ok(proto::WorkloadType::Job) => WorkloadType::Job,
        Ok(proto::WorkloadType::Pod) | Err(_) => WorkloadType::Pod,
    }
}

/// In the order of names: the wire's map has none.
fn services(
    wire: &proto::Workload,
) -> Result<Vec<(NamespacedName, Vec<PortMapping>)>, ConvertError> {
    let mut services = Vec::with_capacity(wire.services.len());
    for (name, ports) in &wire.services {
        let field = format!("services[{name:?}]");
        let key = match name.split_once('/') {
            Some((namespace, hostname)) => service_key(&field, namespace, hostname)?,
            None => return Err(ConvertError::new("services", name, "namespace/hostname")),
        };
        let ports = each("ports", &ports.ports, port_mapping).at(&field)?;
        services.push((key, ports));
    }
    services.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(services)
}

fn application_tunnel(
    wire: Option<&proto::ApplicationTunnel>,
) -> Result<Option<ApplicationTunnel>, ConvertError> {
    let Some(wire) = wire else { return Ok(None) };
    match known("protocol", wire.protocol, "NONE or PROXY")? {
        proto::application_tunnel::Protocol::None => Ok(None),
        proto::application_tunnel::Protocol::Proxy => Ok(Some(ApplicationTunnel {
            port: match wire.port {
                0 => None,
                number => Some(port("port", number)?),
            },
        })),
    }
}

fn locality(wire: Option<&proto::Locality>) -> Locality {
    wire.map(|wire| Locality {
        region: text(&wire.region),
        zone: text(&wire.zone),
        subzone: text(&wire.subzone),
    })
    .unwrap_or_default()
}

impl From<&Workload> for proto::Workload {
    fn from(workload: &Workload) -> Self {
        let locality = &workload.locality;
        Self {
            name: workload.name.to_string(),
            namespace: workload.namespace.to_string(),
            addresses: workload
                .addresses
                .iter()
                .map(|ip| ip_bytes(*ip).into())
                .collect(),
            network: workload.network.to_string(),
            tunnel_protocol: match workload.tunnel_protocol {
                TunnelProtocol::None => proto::TunnelProtocol::None,
                TunnelProtocol::Hbone => proto::TunnelProtocol::Hbone,
                TunnelProtocol::LegacyIstioMtls => proto::TunnelProtocol::LegacyIstioMtls,
            }
            .into(),
            trust_domain: elided(workload.identity.trust_domain(), TRUST_DOMAIN),
            service_account: elided(workload.identity.service_account(), SERVICE_ACCOUNT),
            waypoint: workload.waypoint.as_ref().map(Into::into),
            node: workload.node.to_string(),
            canonical_name: workload.canonical_name.to_string(),
            canonical_revision: workload.canonical_revision.to_string(),
            workload_type: match workload.workload_type {
                WorkloadType::Deployment => proto::WorkloadType::Deployment,
                WorkloadType::CronJob => proto::WorkloadType::Cronjob,
                WorkloadType::Pod => proto::WorkloadType::Pod,
                WorkloadType::Job => proto::WorkloadType::Job,
            }
            .into(),
            workload_name: workload.workload_name.to_string(),
            native_tunnel: workload.native_tunnel,
            authorization_policies: workload
                .authorization_policies
                .iter()
                .map(ToString::to_string)
                .collect(),
            status: match workload.health {
                Health::Healthy => proto::WorkloadStatus::Healthy,
                Health::Unhealthy => proto::WorkloadStatus::Unhealthy,
            }
            .into(),
            cluster_id: elided(&workload.cluster_id, CLUSTER),
            network_gateway: workload.network_gateway.as_ref().map(Into::into),
            uid: workload.uid.to_string(),
            hostname: workload.hostname.to_string(),
            services: workload
                .services
                .iter()
                .map(|(key, ports)| {
                    let ports = ports.iter().map(Into::into).collect();
                    (key.to_string(), proto::PortList { ports })
                })
                .collect(),
            application_tunnel: workload.application_tunnel.map(|tunnel| {
                proto::ApplicationTunnel {
                    protocol: proto::application_tunnel::Protocol::Proxy.into(),
                    port: tunnel.port.unwrap_or(0).into(),
                }
            }),
            locality: (*locality != Locality::default()).then(|| proto::Locality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                subzone: locality.subzone.to_string(),
            }),
            network_mode: match workload.network_mode {
                NetworkMode::Standard => proto::NetworkMode::Standard,
                NetworkMode::HostNetwork => proto::NetworkMode::HostNetwork,
            }
            .into(),
            extensions: udp::extensions_of(workload),
            capacity: (workload.capacity != 1).then_some(workload.capacity),
        }
    }
}

fn elided(text: &str, default: &str) -> String {
    if text == default { "" } else { text }.to_owned()
}
