//! Addresses, gateways and ports: what workloads and services share.

use std::net::IpAddr;

use ambit_proto::workload as proto;
use ipnet::IpNet;
use proto::gateway_address::Destination as ProtoDestination;

use super::error::{At, ConvertError, known, port};
use crate::addr::{NamespacedName, NetworkAddr};
use crate::model::{AppProtocol, Destination, GatewayAddress, PortMapping, Vip};

/// 4 or 16 bytes.
pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    let ip = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    ip.map(|ip| ip.to_canonical())
        .map_err(|_| ConvertError::new("", bytes, "an IP address of 4 or 16 bytes"))
}

pub(super) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A prefix without host bits. IPv4-mapped ones are IPv4, as peers' addresses are.
pub(super) fn prefix(address: &[u8], length: Option<u32>) -> Result<IpNet, ConvertError> {
    let parsed = ip(address).at("address")?;
    let mapped = parsed.is_ipv4() && address.len() == 16;
    let max = if parsed.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => max,
        Some(length) if mapped => length.checked_sub(96).unwrap_or(u32::MAX),
        Some(length) => length,
    };
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(parsed, length).ok())
        .map(|net| net.trunc())
        .ok_or_else(|| ConvertError::new("length", length, "a prefix length the address allows"))
}

pub(super) fn vip(address: &proto::NetworkAddress) -> Result<Vip, ConvertError> {
    Ok(Vip {
        network: address.network.as_str().into(),
        net: prefix(&address.address, address.length)?,
    })
}

impl From<&Vip> for proto::NetworkAddress {
    fn from(vip: &Vip) -> Self {
        let host = vip.net.prefix_len() == vip.net.max_prefix_len();
        Self {
            network: vip.network.to_string(),
            address: ip_bytes(vip.net.addr()).into(),
            length: (!host).then(|| vip.net.prefix_len().into()),
        }
    }
}

pub(super) fn gateway(address: &proto::GatewayAddress) -> Result<GatewayAddress, ConvertError> {
    let destination = match &address.destination {
        Some(ProtoDestination::Hostname(name)) => {
            Destination::Hostname(service_key("hostname", &name.namespace, &name.hostname)?)
        }
        Some(ProtoDestination::Address(address)) => Destination::Address(NetworkAddr::new(
            address.network.as_str(),
            ip(&address.address).at("address.address")?,
        )),
        None => {
            return Err(ConvertError::new(
                "destination",
                (),
                "a hostname or address",
            ));
        }
    };
    Ok(GatewayAddress {
        destination,
        hbone_port: port("hbone_mtls_port", address.hbone_mtls_port)?,
    })
}

impl From<&GatewayAddress> for proto::GatewayAddress {
    fn from(gateway: &GatewayAddress) -> Self {
        let destination = match &gateway.destination {
            Destination::Hostname(key) => ProtoDestination::Hostname(proto::NamespacedHostname {
                namespace: key.namespace.to_string(),
                hostname: key.name.to_string(),
            }),
            Destination::Address(addr) => ProtoDestination::Address(proto::NetworkAddress {
                network: addr.network.to_string(),
                address: ip_bytes(addr.ip).into(),
                length: None,
            }),
        };
        Self {
            hbone_mtls_port: gateway.hbone_port.into(),
            destination: Some(destination),
        }
    }
}

/// A key that reads `namespace/name` and cannot be confused with a workload's uid.
pub(super) fn service_key(
    field: &str,
    namespace: &str,
    name: &str,
) -> Result<NamespacedName, ConvertError> {
    let part = |text: &str| !text.is_empty() && !text.contains('/');
    if part(namespace) && part(name) {
        return Ok(NamespacedName::new(namespace, name));
    }
    let found = format!("{namespace}/{name}");
    Err(ConvertError::new(
        field,
        found,
        "a namespace and a name without slashes",
    ))
}

/// A target port of 0 leaves the choice to the workload.
pub(super) fn port_mapping(mapping: &proto::Port) -> Result<PortMapping, ConvertError> {
    let service_port = port("service_port", mapping.service_port)?;
    let target_port = match mapping.target_port {
        0 => 0,
        target => port("target_port", target)?,
    };
    let app_protocol = known::<proto::AppProtocol>(
        "app_protocol",
        mapping.app_protocol,
        "a known application protocol",
    )
    // What a newer control plane declares is at least TCP.
    .unwrap_or(proto::AppProtocol::Unknown);
    Ok(PortMapping {
        service_port,
        target_port,
        app_protocol: match app_protocol {
            proto::AppProtocol::Unknown => AppProtocol::Unknown,
            proto::AppProtocol::Http11 => AppProtocol::Http11,
            proto::AppProtocol::Http2 => AppProtocol::Http2,
            proto::AppProtocol::Grpc => AppProtocol::Grpc,
            proto::AppProtocol::Tcp => AppProtocol::Tcp,
            proto::AppProtocol::Tls => AppProtocol::Tls,
        },
    })
}

impl From<&PortMapping> for proto::Port {
    fn from(mapping: &PortMapping) -> Self {
        let app_protocol = match mapping.app_protocol {
            AppProtocol::Unknown => proto::AppProtocol::Unknown,
            AppProtocol::Http11 => proto::AppProtocol::Http11,
            AppProtocol::Http2 => proto::AppProtocol::Http2,
            AppProtocol::Grpc => proto::AppProtocol::Grpc,
            AppProtocol::Tcp => proto::AppProtocol::Tcp,
            AppProtocol::Tls => proto::AppProtocol::Tls,
        };
        Self {
            service_port: mapping.service_port.into(),
            target_port: mapping.target_port.into(),
            app_protocol: app_protocol.into(),
        }
    }
}
