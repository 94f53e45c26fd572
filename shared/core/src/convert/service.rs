//! `istio.workload.Service`.

use ambit_proto::names::{self, PortNames};
use ambit_proto::{GATEWAY_TYPE, PORT_NAMES_TYPE, workload as proto};
use prost::Message;
use proto::load_balancing as lb;

use super::error::{At, ConvertError, each, known, port};
use super::gateway::{gateway, port_mapping, service_key, vip};
use super::udp;
use crate::identity::Identity;
use crate::model::service::{Mode, Scope};
use crate::model::{
    GatewayAddress, IpFamilies, LoadBalancing, PortName, Service, WeightedWaypoint,
};

/// Name of the extension that other proxies do not know: for them bound stays required, or not, as they
/// see it.
const WAYPOINT_BYPASS: &str = "ambit.dev/waypoint-bypass";
/// The same: direct calls are taken as well.
const TAKES_DIRECT: &str = "ambit.dev/takes-direct-calls";
/// The same, with a waypoint as its config: calls may come through it, though the service is bound to none. Among the
/// weighted ones other proxies would take it for the service's.
const SERVED_BY: &str = "ambit.dev/served-by";
/// The same: connections of one client address go to the same endpoint.
const SESSION_AFFINITY: &str = "ambit.dev/session-affinity";
/// The same, with the names of ports as its config.
const PORT_NAMES: &str = "ambit.dev/port-names";

impl TryFrom<&proto::Service> for Service {
    type Error = ConvertError;

    fn try_from(wire: &proto::Service) -> Result<Self, Self::Error> {
        service(wire).map_err(|error| error.of(format!("{}/{}", wire.namespace, wire.hostname)))
    }
}

fn service(wire: &proto::Service) -> Result<Service, ConvertError> {
    let mut weighted_waypoints = each("weighted_waypoints", &wire.weighted_waypoints, weighted)?;
    let waypoint = waypoint(wire, &weighted_waypoints)?;
    weighted_waypoints.extend(served_by(wire)?);
    let extended = |name| wire.extensions.iter().any(|it| it.name == name);
    Ok(Service {
        name: wire.name.as_str().into(),
        key: service_key("namespace, hostname", &wire.namespace, &wire.hostname)?,
        vips: each("addresses", &wire.addresses, vip)?,
        ports: each("ports", &wire.ports, port_mapping)?,
        udp_ports: udp::of_service(&wire.extensions)?,
        subject_alt_names: each("subject_alt_names", &wire.subject_alt_names, |name| {
            name.parse::<Identity>()
                .map_err(|_| ConvertError::new("", name, "a SPIFFE id"))
        })?,
        waypoint,
        weighted_waypoints,
        waypoint_bypass: extended(WAYPOINT_BYPASS),
        takes_direct: extended(TAKES_DIRECT),
        load_balancing: LoadBalancing {
            client_affinity: extended(SESSION_AFFINITY),
            ..load_balancing(wire.load_balancing.as_ref()).at("load_balancing")?
        },
        canonical: wire.canonical,
        ingress_use_waypoint: wire.ingress_use_waypoint,
        namespace_private: match known("visibility", wire.visibility, "PUBLIC or NAMESPACE")? {
            proto::ServiceVisibility::Public => false,
            proto::ServiceVisibility::Namespace => true,
        },
        ip_families: match known("ip_families", wire.ip_families, "known IP families")? {
            proto::IpFamilies::Automatic => IpFamilies::Automatic,
            proto::IpFamilies::Ipv4Only => IpFamilies::V4,
            proto::IpFamilies::Ipv6Only => IpFamilies::V6,
            proto::IpFamilies::Dual => IpFamilies::Dual,
        },
        port_names: port_names(wire)?,
    })
}

/// The one waypoint, or of several weighted ones that name none the heaviest: bound stays bound.
fn waypoint(
    wire: &proto::Service,
    weighted: &[WeightedWaypoint],
) -> Result<Option<GatewayAddress>, ConvertError> {
    if let Some(waypoint) = &wire.waypoint {
        return gateway(waypoint).at("waypoint").map(Some);
    }
    let heaviest = weighted.iter().rev().max_by_key(|it| it.weight);
    Ok(heaviest.map(|it| it.waypoint.clone()))
}

fn weighted(wire: &proto::WeightedWaypoint) -> Result<WeightedWaypoint, ConvertError> {
    let destination = wire.destination.as_ref();
    let destination =
        destination.ok_or_else(|| ConvertError::new("destination", (), "a gateway"))?;
    Ok(WeightedWaypoint {
        waypoint: gateway(destination).at("destination")?,
        weight: wire.weight,
    })
}

fn served_by(wire: &proto::Service) -> Result<Vec<WeightedWaypoint>, ConvertError> {
    let all = wire.extensions.iter().filter(|it| it.name == SERVED_BY);
    let all: Vec<&proto::Extension> = all.collect();
    each("extensions.served-by", &all, |extension| {
        let config = extension.config.as_ref();
        let config = config.ok_or_else(|| ConvertError::new("config", (), "a gateway"))?;
        let decoded = proto::GatewayAddress::decode(&config.value[..]).map_err(|error| {
            ConvertError::new("config", error.to_string(), "istio.workload.GatewayAddress")
        })?;
        Ok(WeightedWaypoint {
            waypoint: gateway(&decoded)?,
            weight: 0,
        })
    })
}

fn port_names(wire: &proto::Service) -> Result<Vec<PortName>, ConvertError> {
    let config = wire.extensions.iter().find(|it| it.name == PORT_NAMES);
    let Some(config) = config.and_then(|it| it.config.as_ref()) else {
        return Ok(Vec::new());
    };
    let decoded = PortNames::decode(&config.value[..]).map_err(|error| {
        ConvertError::new("extensions", error.to_string(), "ambit.names.PortNames")
    })?;
    each("extensions.ports", &decoded.ports, |named| {
        Ok(PortName {
            port: port("port", named.port)?,
            name: named.name.as_str().into(),
        })
    })
}

fn extensions(service: &Service) -> Vec<proto::Extension> {
    let mut extensions = Vec::new();
    for (name, holds) in [
        (WAYPOINT_BYPASS, service.waypoint_bypass),
        (TAKES_DIRECT, service.takes_direct),
        (SESSION_AFFINITY, service.load_balancing.client_affinity),
    ] {
        if holds {
            extensions.push(proto::Extension {
                name: name.to_owned(),
                config: None,
            });
        }
    }
    if service.waypoint.is_none() {
        extensions.extend(service.waypoints().map(|waypoint| proto::Extension {
            name: SERVED_BY.to_owned(),
            config: Some(ambit_proto::Any {
                type_url: GATEWAY_TYPE.to_owned(),
                value: proto::GatewayAddress::from(waypoint).encode_to_vec(),
            }),
        }));
    }
    if !service.port_names.is_empty() {
        let ports = service.port_names.iter().map(|named| names::PortName {
            name: named.name.to_string(),
            port: named.port.into(),
        });
        let value = PortNames {
            ports: ports.collect(),
        };
        extensions.push(proto::Extension {
            name: PORT_NAMES.to_owned(),
            config: Some(ambit_proto::Any {
                type_url: PORT_NAMES_TYPE.to_owned(),
                value: value.encode_to_vec(),
            }),
        });
    }
    extensions.extend(udp::ports(udp::of(None, &service.udp_ports)));
    extensions
}

fn load_balancing(wire: Option<&proto::LoadBalancing>) -> Result<LoadBalancing, ConvertError> {
    let Some(wire) = wire else {
        return Ok(LoadBalancing::default());
    };
    Ok(LoadBalancing {
        preference: each("routing_preference", &wire.routing_preference, |scope| {
            scope_of(*scope)
        })?,
        mode: match known("mode", wire.mode, "a known mode")? {
            lb::Mode::UnspecifiedMode => Mode::Unspecified,
            lb::Mode::Strict => Mode::Strict,
            lb::Mode::Failover => Mode::Failover,
            lb::Mode::Passthrough => Mode::Passthrough,
        },
        allow_unhealthy: match known("health_policy", wire.health_policy, "a known policy")? {
            lb::HealthPolicy::OnlyHealthy => false,
            lb::HealthPolicy::AllowAll => true,
        },
        client_affinity: false,
    })
}

fn scope_of(value: i32) -> Result<Scope, ConvertError> {
    match lb::Scope::try_from(value) {
        Ok(lb::Scope::Region) => Ok(Scope::Region),
        Ok(lb::Scope::Zone) => Ok(Scope::Zone),
        Ok(lb::Scope::Subzone) => Ok(Scope::Subzone),
        Ok(lb::Scope::Node) => Ok(Scope::Node),
        Ok(lb::Scope::Cluster) => Ok(Scope::Cluster),
        Ok(lb::Scope::Network) => Ok(Scope::Network),
        Ok(lb::Scope::UnspecifiedScope) | Err(_) => {
            Err(ConvertError::new("", value, "a known scope"))
        }
    }
}

impl From<&Service> for proto::Service {
    fn from(service: &Service) -> Self {
        let how = &service.load_balancing;
        Self {
            name: service.name.to_string(),
            namespace: service.key.namespace.to_string(),
            hostname: service.key.name.to_string(),
            addresses: service.vips.iter().map(Into::into).collect(),
            ports: service.ports.iter().map(Into::into).collect(),
            subject_alt_names: service
                .subject_alt_names
                .iter()
                .map(ToString::to_string)
                .collect(),
            waypoint: service.waypoint.as_ref().map(Into::into),
            load_balancing: (*how != LoadBalancing::default()).then(|| how.into()),
            ip_families: match service.ip_families {
                IpFamilies::Automatic => proto::IpFamilies::Automatic,
                IpFamilies::V4 => proto::IpFamilies::Ipv4Only,
                IpFamilies::V6 => proto::IpFamilies::Ipv6Only,
                IpFamilies::Dual => proto::IpFamilies::Dual,
            }
            .into(),
            extensions: extensions(service),
            canonical: service.canonical,
            ingress_use_waypoint: service.ingress_use_waypoint,
            weighted_waypoints: service
                .weighted_waypoints
                .iter()
                .filter(|_| service.waypoint.is_some())
                .map(|it| proto::WeightedWaypoint {
                    destination: Some((&it.waypoint).into()),
                    weight: it.weight,
                })
                .collect(),
            visibility: if service.namespace_private {
                proto::ServiceVisibility::Namespace
            } else {
                proto::ServiceVisibility::Public
            }
            .into(),
        }
    }
}

impl From<&LoadBalancing> for proto::LoadBalancing {
    fn from(how: &LoadBalancing) -> Self {
        let scope = |scope: &Scope| match scope {
            Scope::Region => lb::Scope::Region,
            Scope::Zone => lb::Scope::Zone,
            Scope::Subzone => lb::Scope::Subzone,
            Scope::Node => lb::Scope::Node,
            Scope::Cluster => lb::Scope::Cluster,
            Scope::Network => lb::Scope::Network,
        };
        Self {
            routing_preference: how.preference.iter().map(|s| scope(s).into()).collect(),
            mode: match how.mode {
                Mode::Unspecified => lb::Mode::UnspecifiedMode,
                Mode::Strict => lb::Mode::Strict,
                Mode::Failover => lb::Mode::Failover,
                Mode::Passthrough => lb::Mode::Passthrough,
            }
            .into(),
            health_policy: if how.allow_unhealthy {
                lb::HealthPolicy::AllowAll
            } else {
                lb::HealthPolicy::OnlyHealthy
            }
            .into(),
        }
    }
}
