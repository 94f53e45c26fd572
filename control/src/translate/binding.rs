//! Waypoints of other controllers, which speak no HBONE: the proxies of their nodes end the tunnels, and tell them in a header of
//! the PROXY protocol who called and what for. Their Gateway, or its class, says so.

use ambit_core::model::ApplicationTunnel;
use ambit_core::plan::is_own_port;
use k8s_openapi::api::core::v1::Pod;

use super::labels::{GATEWAY_NAME, INBOUND_BINDING, annotation, label};
use super::{network, waypoint};
use crate::index::objects::Objects;
use crate::source::gateway::{Gateway, GatewayClass};

/// How the instances of a Gateway are given what comes to them: its own annotation says so, else its class's. Gateways of ours speak
/// HBONE, whatever they are annotated with.
///
/// # Errors
/// What is wrong with the annotation, which has no effect then.
pub fn of(
    gateway: &Gateway,
    class: Option<&GatewayClass>,
) -> Result<Option<ApplicationTunnel>, String> {
    if waypoint::is_waypoint(gateway) || network::is_gateway(gateway) {
        return Ok(None);
    }
    let own = annotation(&gateway.metadata, INBOUND_BINDING);
    let said = own.or_else(|| annotation(&class?.metadata, INBOUND_BINDING));
    said.map_or(Ok(None), parse)
}

/// The same of a Gateway among these objects; what has no effect is none.
#[must_use]
pub fn of_gateway(gateway: &Gateway, objects: &Objects) -> Option<ApplicationTunnel> {
    let class = objects.classes.find("", &gateway.spec.gateway_class_name);
    of(gateway, class.map(|class| &**class)).ok().flatten()
}

/// The same of a Gateway's instance.
#[must_use]
pub fn of_pod(namespace: &str, pod: &Pod, objects: &Objects) -> Option<ApplicationTunnel> {
    let name = label(&pod.metadata, GATEWAY_NAME)?;
    of_gateway(objects.gateways.find(namespace, name)?, objects)
}

/// `NONE`, or `PROXY` with the port where the instances listen for it; without one they do where the caller wants to.
fn parse(text: &str) -> Result<Option<ApplicationTunnel>, String> {
    let (protocol, port) = match text.split_once('/') {
        Some((protocol, port)) => (protocol, Some(port)),
        None => (text, None),
    };
    let refuse = |why: &str| {
        let form = "write PROXY/PORT, PROXY or NONE";
        Err(format!(
            "annotation {INBOUND_BINDING} is {text:?}, which has no effect: {why}; {form}"
        ))
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port != 0 && !is_own_port(port) => Some(port),
        Some(Ok(port)) => return refuse(&format!("nobody listens on port {port} for it")),
        Some(Err(_)) => return refuse("what follows the protocol is no port"),
    };
    match protocol {
        "NONE" => Ok(None),
        "PROXY" => Ok(Some(ApplicationTunnel { port })),
        _ => refuse("there is no such protocol"),
    }
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
