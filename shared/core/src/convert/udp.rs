//! UDP, which Istio's messages have no words for: extensions of services and workloads that other proxies skip.

use ambit_proto::names::{UdpPort, UdpPorts};
use ambit_proto::{Any, UDP_PORTS_TYPE, workload as proto};
use prost::Message;

use super::error::{ConvertError, port};
use super::gateway::service_key;
use crate::addr::NamespacedName;
use crate::model::{AppProtocol, PortMapping, Workload};

/// A workload takes UDP in tunnels.
pub(super) const TAKEN: &str = "ambit.dev/udp";
/// With the ports as its config.
const PORTS: &str = "ambit.dev/udp-ports";

/// The UDP ports of a service.
pub(super) fn of_service(
    extensions: &[proto::Extension],
) -> Result<Vec<PortMapping>, ConvertError> {
    decoded(extensions)?.iter().map(mapping).collect()
}

/// The UDP ports of a workload, by service; a workload says where each of them leads.
pub(super) fn of_workload(
    extensions: &[proto::Extension],
) -> Result<Vec<(NamespacedName, Vec<PortMapping>)>, ConvertError> {
    let mut found: Vec<(NamespacedName, Vec<PortMapping>)> = Vec::new();
    for wire in &decoded(extensions)? {
        let field = "extensions.ports.service";
        let (namespace, hostname) = wire
            .service
            .split_once('/')
            .ok_or_else(|| ConvertError::new(field, &wire.service, "namespace/hostname"))?;
        let key = service_key(field, namespace, hostname)?;
        let mapping = mapping(wire)?;
        match found.last_mut().filter(|(last, _)| *last == key) {
            Some((_, ports)) => ports.push(mapping),
            None => found.push((key, vec![mapping])),
        }
    }
    Ok(found)
}

/// What a workload says of UDP.
pub(super) fn extensions_of(workload: &Workload) -> Vec<proto::Extension> {
    let taken = workload.takes_udp.then(|| proto::Extension {
        name: TAKEN.to_owned(),
        config: None,
    });
    let by_service = workload.udp_ports.iter();
    let all = by_service.flat_map(|(key, ports)| of(Some(key), ports));
    taken.into_iter().chain(ports(all)).collect()
}

/// Ports as they go on the wire, of a workload for a service or of a service itself.
pub(super) fn of<'a>(
    service: Option<&'a NamespacedName>,
    ports: &'a [PortMapping],
) -> impl Iterator<Item = UdpPort> + 'a {
    ports.iter().map(move |mapping| UdpPort {
        service: service.map(ToString::to_string).unwrap_or_default(),
        service_port: mapping.service_port.into(),
        target_port: mapping.target_port.into(),
    })
}

/// The extension with these ports; none without any.
pub(super) fn ports(all: impl Iterator<Item = UdpPort>) -> Option<proto::Extension> {
    let ports: Vec<UdpPort> = all.collect();
    (!ports.is_empty()).then(|| proto::Extension {
        name: PORTS.to_owned(),
        config: Some(Any {
            type_url: UDP_PORTS_TYPE.to_owned(),
            value: UdpPorts { ports }.encode_to_vec(),
        }),
    })
}

fn decoded(extensions: &[proto::Extension]) -> Result<Vec<UdpPort>, ConvertError> {
    let config = extensions.iter().find(|it| it.name == PORTS);
    let Some(config) = config.and_then(|it| it.config.as_ref()) else {
        return Ok(Vec::new());
    };
    let decoded = UdpPorts::decode(&config.value[..]).map_err(|error| {
        ConvertError::new("extensions", error.to_string(), "ambit.names.UdpPorts")
    })?;
    Ok(decoded.ports)
}

fn mapping(wire: &UdpPort) -> Result<PortMapping, ConvertError> {
    Ok(PortMapping {
        service_port: port("extensions.ports.service_port", wire.service_port)?,
        target_port: match wire.target_port {
            0 => 0,
            target => port("extensions.ports.target_port", target)?,
        },
        app_protocol: AppProtocol::Unknown,
    })
}
