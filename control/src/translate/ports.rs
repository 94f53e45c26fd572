//! Service ports: what leads where, and what is spoken there.

use ambit_core::model::{AppProtocol, PortMapping, PortName};
use ambit_core::plan::Transport;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The ports of a service with number and what is spoken there. A named target is 0: the
/// workload says.
#[must_use]
pub fn of_service(service: &Service, transport: Transport) -> Vec<PortMapping> {
    ports(service, transport)
        .filter_map(|port| {
            let target_port = match &port.target_port {
                Some(IntOrString::String(_)) => 0,
                other => number(other.as_ref(), port)?,
            };
            mapping(port, target_port, transport)
        })
        .collect()
}

/// The ports a pod serves a service on. A target name that the pod does not have gives no port.
#[must_use]
pub fn of_pod(service: &Service, pod: &Pod, transport: Transport) -> Vec<PortMapping> {
    ports(service, transport)
        .filter_map(|port| {
            let target_port = match &port.target_port {
                Some(IntOrString::String(name)) => match name.parse() {
                    Ok(number) => number,
                    Err(_) => container_port(pod, name, transport)?,
                },
                other => number(other.as_ref(), port)?,
            };
            mapping(port, target_port, transport)
        })
        .collect()
}

/// The ports that an endpoint slice gives a service: those of the same name.
#[must_use]
pub fn of_slice(
    service: &Service,
    of_slice: &[EndpointPort],
    transport: Transport,
) -> Vec<PortMapping> {
    ports(service, transport)
        .filter_map(|port| {
            let name = port.name.as_deref().unwrap_or_default();
            let found = of_slice.iter().find(|p| {
                p.name.as_deref().unwrap_or_default() == name
                    && is_of(p.protocol.as_deref(), transport)
            })?;
            mapping(port, u16::try_from(found.port?).ok()?, transport)
        })
        .collect()
}

/// A port, if the number is one.
#[must_use]
pub fn valid(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// The names of a service's TCP ports.
#[must_use]
pub fn names(service: &Service) -> Vec<PortName> {
    ports(service, Transport::Tcp)
        .filter_map(|port| {
            let name = port.name.as_deref().filter(|name| !name.is_empty())?;
            Some(PortName {
                port: u16::try_from(port.port).ok()?,
                name: name.into(),
            })
        })
        .collect()
}

/// The ports that a WorkloadEntry gives a service: its own of that name, else the service's target.
#[must_use]
pub fn of_entry(
    service: &Service,
    own: impl Fn(Option<&str>) -> Option<u16>,
    transport: Transport,
) -> Vec<PortMapping> {
    ports(service, transport)
        .filter_map(|port| {
            let target = own(port.name.as_deref());
            let target = target.or_else(|| match &port.target_port {
                // There are no names of ports but the service's.
                Some(IntOrString::String(_)) => None,
                other => number(other.as_ref(), port),
            });
            mapping(port, target?, transport)
        })
        .collect()
}

/// What is spoken, by the word that entries have for it.
#[must_use]
pub fn of_protocol(protocol: Option<&str>) -> AppProtocol {
    named(&protocol.unwrap_or_default().to_ascii_lowercase())
}

fn ports(service: &Service, transport: Transport) -> impl Iterator<Item = &ServicePort> {
    service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
        .filter(move |port| is_of(port.protocol.as_deref(), transport))
}

fn is_of(protocol: Option<&str>, transport: Transport) -> bool {
    match transport {
        Transport::Tcp => matches!(protocol, None | Some("" | "TCP")),
        Transport::Udp => protocol == Some("UDP"),
    }
}

fn number(target: Option<&IntOrString>, port: &ServicePort) -> Option<u16> {
    match target {
        Some(IntOrString::Int(number)) if *number != 0 => u16::try_from(*number).ok(),
        _ => u16::try_from(port.port).ok(),
    }
}

fn mapping(port: &ServicePort, target_port: u16, transport: Transport) -> Option<PortMapping> {
    let service_port = u16::try_from(port.port).ok().filter(|port| *port != 0)?;
    Some(PortMapping {
        service_port,
        target_port,
        app_protocol: match transport {
            Transport::Tcp => protocol(port.app_protocol.as_deref(), port.name.as_deref()),
            Transport::Udp => AppProtocol::Unknown,
        },
    })
}

fn container_port(pod: &Pod, name: &str, transport: Transport) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    // Init containers that are restarted always are sidecars and serve ports as well.
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| {
            port.name.as_deref() == Some(name) && is_of(port.protocol.as_deref(), transport)
        })
        .and_then(|port| u16::try_from(port.container_port).ok())
}

/// `appProtocol` decides; without it the port's name, up to its first `-`.
fn protocol(app_protocol: Option<&str>, name: Option<&str>) -> AppProtocol {
    if let Some(declared) = app_protocol {
        return match declared.to_ascii_lowercase().as_str() {
            "kubernetes.io/h2c" => AppProtocol::Http2,
            "kubernetes.io/ws" => AppProtocol::Http11,
            "kubernetes.io/wss" => AppProtocol::Tls,
            other => named(other),
        };
    }
    let name = name.unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        "grpc-web" => AppProtocol::Http11,
        other => named(other.split('-').next().unwrap_or_default()),
    }
}

fn named(name: &str) -> AppProtocol {
    match name {
        "http" | "http1" | "grpc-web" => AppProtocol::Http11,
        "http2" | "h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tcp" | "mongo" | "mysql" | "redis" | "postgresql" => AppProtocol::Tcp,
        "tls" | "https" => AppProtocol::Tls,
        _ => AppProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        use AppProtocol as P;
        let cases = [
            (None, None, P::Unknown),
            (None, Some("http"), P::Http11),
            (None, Some("http-web"), P::Http11),
            (None, Some("httpx"), P::Unknown),
            (None, Some("HTTP2-x"), P::Http2),
            (None, Some("grpc-web"), P::Http11),
            (None, Some("grpc-api"), P::Grpc),
            (None, Some("tcp-redis"), P::Tcp),
            (None, Some("https"), P::Tls),
            (Some("kubernetes.io/h2c"), Some("http"), P::Http2),
            (Some("kubernetes.io/ws"), None, P::Http11),
            (Some("grpc"), Some("http"), P::Grpc),
            (Some("example.com/own"), Some("http"), P::Unknown),
        ];
        for (declared, name, expected) in cases {
            assert_eq!(protocol(declared, name), expected, "{declared:?} {name:?}");
        }
    }

    fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_saphyr::from_str(text).expect("an object")
    }

    #[test]
    fn targets() {
        let service: Service = yaml(
            "spec:\n  ports:\n  - {name: http, port: 80, targetPort: web}\n  - {name: same, port: 81}\n  - {name: other, port: 82, targetPort: 8082}\n  - {name: text, port: 83, targetPort: '8083'}\n  - {name: missing, port: 84, targetPort: nowhere}\n  - {name: dns, port: 53, protocol: UDP}\n  - {name: web-udp, port: 80, targetPort: web, protocol: UDP}\n",
        );
        let pod: Pod = yaml(
            "spec:\n  containers:\n  - name: a\n    ports: [{name: web, containerPort: 9, protocol: UDP}]\n  - name: b\n    ports: [{name: web, containerPort: 8080}]\n",
        );
        let numbers = |ports: Vec<PortMapping>| -> Vec<_> {
            ports
                .iter()
                .map(|p| (p.service_port, p.target_port))
                .collect()
        };
        assert_eq!(
            numbers(of_service(&service, Transport::Tcp)),
            [(80, 0), (81, 81), (82, 8082), (83, 0), (84, 0)]
        );
        assert_eq!(
            numbers(of_service(&service, Transport::Udp)),
            [(53, 53), (80, 0)]
        );
        assert_eq!(
            numbers(of_pod(&service, &pod, Transport::Tcp)),
            [(80, 8080), (81, 81), (82, 8082), (83, 8083)]
        );
        assert_eq!(
            numbers(of_pod(&service, &pod, Transport::Udp)),
            [(53, 53), (80, 9)],
            "one number, two targets"
        );
        let ports: Vec<EndpointPort> =
            yaml("- {name: http, port: 7000}\n- {name: dns, port: 5353, protocol: UDP}\n");
        for (transport, expected) in [(Transport::Tcp, (80, 7000)), (Transport::Udp, (53, 5353))] {
            let found = of_slice(&service, &ports, transport);
            assert_eq!(numbers(found), [expected]);
        }
    }
}
