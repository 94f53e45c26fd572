//! ServiceEntries and WorkloadEntries: services that Kubernetes does not know, and who serves them.

pub mod allocation;
pub mod claims;
#[cfg(test)]
mod tests;
pub mod workload;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ambit_core::addr::{NamespacedName, is_dns_name};
use ambit_core::identity::Identity;
use ambit_core::model::service::{IpFamilies, LoadBalancing, Mode};
use ambit_core::model::{PortMapping, PortName, Service as MeshService, Vip};
use ambit_core::plan::Transport;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::labels::{INGRESS_USE_WAYPOINT, TRAFFIC_DISTRIBUTION, annotation, label, selects};
use super::{Mesh, canary, network, ports, service, waypoint};
use crate::index::objects::Objects;
use crate::source::entry::{EntryPort, ServiceEntry, ServiceEntrySpec};

/// Hosts of an entry (as Istio's definition of the kind has it).
const MOST_HOSTS: usize = 256;

/// How the endpoints of an entry are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The address that a client has is the endpoint.
    None,
    /// They are named.
    Static,
    /// By the names of hosts.
    Dns,
}

impl Resolution {
    /// What an entry says.
    ///
    /// # Errors
    /// A word that is not known, or not supported.
    pub fn of(spec: &ServiceEntrySpec) -> Result<Self, String> {
        match spec.resolution.as_deref().unwrap_or("NONE") {
            "" | "NONE" => Ok(Self::None),
            "STATIC" => Ok(Self::Static),
            "DNS" | "DNS_ROUND_ROBIN" => Ok(Self::Dns),
            other => Err(format!(
                "spec.resolution: {other:?} is not supported; NONE, STATIC, DNS and DNS_ROUND_ROBIN are"
            )),
        }
    }
}

/// The services of an entry, one a host that no other object of the namespace has, and what its author may not expect.
#[derive(Debug, Default)]
pub struct Services {
    #[allow(missing_docs)]
    pub found: Vec<MeshService>,
    #[allow(missing_docs)]
    pub notices: Vec<String>,
}

/// The services of an entry.
///
/// # Errors
/// The value that is wrong.
pub fn services(
    namespace: &str,
    name: &str,
    entry: &ServiceEntry,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Services, String> {
    let spec = &entry.spec;
    let resolution = Resolution::of(spec)?;
    let own: Vec<Vip> = vips(spec, mesh)?;
    check_ports(&spec.ports)?;
    let [tcp, udp] = [Transport::Tcp, Transport::Udp].map(|it| mappings(&spec.ports, it, |_| None));
    let identities = identities(spec)?;
    let mut services = Services::default();
    let Some(private) = private(spec, namespace, &mut services.notices) else {
        return Ok(services);
    };
    let ingress = label(&entry.metadata, INGRESS_USE_WAYPOINT)
        .or_else(|| objects.namespace_label(namespace, INGRESS_USE_WAYPOINT));
    let metadata = &entry.metadata;
    let waypoint = waypoint::of_service(namespace, metadata, objects, mesh);
    let weighted = canary::weighted(namespace, metadata, waypoint.as_ref(), objects, mesh);
    let canary = canary::of_service(namespace, metadata, objects);
    let problem = canary.and_then(|canary| canary.problem());
    services.notices.extend(problem.map(|(_, why)| why));
    let mut without = Vec::new();
    check_hosts(spec, resolution)?;
    for host in hosts(entry) {
        let key = NamespacedName::new(namespace, host.as_str());
        if let Some(other) = other_claimant(&key, name, objects, mesh) {
            services
                .notices
                .push(format!("{host} is the host of {other} already"));
            continue;
        }
        let allocated = objects.allocation.addresses(namespace, name, &host);
        let allocated: Vec<_> = allocated.map(|ip| vip(IpNet::from(ip), mesh)).collect();
        if allocated.is_empty() && allocation::wants(entry) {
            without.push(host);
        }
        let chosen = if own.is_empty() {
            allocated
        } else {
            own.clone()
        };
        services.found.push(MeshService {
            name: name.into(),
            key,
            vips: network::on_all(chosen, objects, mesh),
            ports: tcp.clone(),
            udp_ports: udp.clone(),
            subject_alt_names: identities.clone(),
            waypoint: waypoint.clone(),
            weighted_waypoints: weighted.clone(),
            waypoint_bypass: waypoint::may_be_bypassed(namespace, &entry.metadata, objects),
            takes_direct: false,
            load_balancing: load_balancing(entry, resolution),
            canonical: false,
            ingress_use_waypoint: ingress == Some("true"),
            namespace_private: private,
            ip_families: IpFamilies::Automatic,
            port_names: port_names(&spec.ports),
        });
    }
    if let Some(first) = without.first() {
        services.notices.push(format!(
            "hosts without an address: {} ({first} ...): the namespace has {} automatic ones, or all are taken; name some in spec.addresses",
            without.len(),
            allocation::MOST_OF_A_NAMESPACE
        ));
    }
    Ok(services)
}

/// What is written back into an entry: the addresses that its hosts were given.
#[must_use]
pub fn status(
    namespace: &str,
    name: &str,
    entry: &ServiceEntry,
    objects: &Objects,
) -> Option<Value> {
    let hosts: Vec<String> = hosts(entry).collect();
    let addresses: Vec<Value> = hosts
        .iter()
        .flat_map(|host| {
            let given = objects.allocation.addresses(namespace, name, host);
            given.map(move |ip| json!({"value": ip.to_string(), "host": host}))
        })
        .collect();
    let said = entry
        .status
        .as_ref()
        .is_some_and(|status| !status.addresses.is_empty());
    (said || !addresses.is_empty()).then(|| json!({ "addresses": addresses }))
}

/// The hosts of an entry as they are looked up, each once, without those that are none.
pub(crate) fn hosts(entry: &ServiceEntry) -> impl Iterator<Item = String> + '_ {
    let hosts = entry.spec.hosts.iter().take(MOST_HOSTS);
    let mut seen = BTreeSet::new();
    hosts
        .map(|host| host.to_ascii_lowercase())
        .filter(move |host| is_host(host) && seen.insert(host.clone()))
}

/// The services, with their ports of this transport on this workload, of the entries that select it.
pub(super) fn selecting(
    namespace: &str,
    metadata: &ObjectMeta,
    (transport, port_on): (Transport, impl Fn(&EntryPort) -> Option<u16>),
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<(NamespacedName, Vec<PortMapping>)> {
    let mut found = Vec::new();
    for (name, entry) in objects.service_entries.within(namespace) {
        let Some(selector) = &entry.spec.workload_selector else {
            continue;
        };
        if selector.labels.is_empty() || !selects(&selector.labels, metadata) {
            continue;
        }
        for host in hosts(entry) {
            let key = NamespacedName::new(namespace, host);
            if other_claimant(&key, name, objects, mesh).is_none() {
                found.push((key, mappings(&entry.spec.ports, transport, &port_on)));
            }
        }
    }
    found
}

/// The Service of Kubernetes whose name in the cluster this key is.
pub(crate) fn service_named<'k>(
    key: &'k NamespacedName,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<&'k str> {
    let namespace = &*key.namespace;
    let suffix = format!(".{namespace}.svc.{}", mesh.cluster_domain);
    let name = key.name.strip_suffix(suffix.as_str())?;
    let found = objects.services.find(namespace, name)?;
    (!service::is_external(found)).then_some(name)
}

/// Who has the host of this key, if it is not the entry `name`: a Service, or an older entry of the namespace, or one whose name
/// comes first.
pub(crate) fn other_claimant(
    key: &NamespacedName,
    name: &str,
    objects: &Objects,
    mesh: &Mesh,
) -> Option<String> {
    let namespace = &*key.namespace;
    if let Some(service) = service_named(key, objects, mesh) {
        return Some(format!("Service {namespace}/{service}"));
    }
    let first = objects.claims.of(key).next()?;
    (**first != *name).then(|| format!("ServiceEntry {namespace}/{first}"))
}

fn check_hosts(spec: &ServiceEntrySpec, resolution: Resolution) -> Result<(), String> {
    if spec.hosts.is_empty() {
        return Err("spec.hosts: a host is missing".to_owned());
    }
    if spec.hosts.len() > MOST_HOSTS {
        let count = spec.hosts.len();
        return Err(format!(
            "spec.hosts: {count} are too many: an entry has at most {MOST_HOSTS}"
        ));
    }
    let wrong = |at: usize, host: &str, what: &str| format!("spec.hosts[{at}]: {host:?} {what}");
    let served = !spec.endpoints.is_empty() || spec.workload_selector.is_some();
    let asked_for = resolution == Resolution::Dns && !served;
    for (at, host) in spec.hosts.iter().enumerate() {
        let lower = host.to_ascii_lowercase();
        if !is_host(&lower) {
            return Err(wrong(at, host, "is not the name of a host"));
        }
        if asked_for && lower.starts_with('*') {
            let what = "is no name that DNS can be asked for: resolution DNS needs endpoints";
            return Err(wrong(at, host, what));
        }
    }
    Ok(())
}

/// A name of DNS, or one with `*.` before it.
fn is_host(host: &str) -> bool {
    is_dns_name(host.strip_prefix("*.").unwrap_or(host))
}

/// When an object was made. One without a time is as old as can be.
pub(super) fn age(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn vips(spec: &ServiceEntrySpec, mesh: &Mesh) -> Result<Vec<Vip>, String> {
    let addresses = spec.addresses.iter().enumerate();
    addresses
        .map(|(at, text)| {
            let ip = text
                .parse::<IpAddr>()
                .map(|ip| IpNet::from(ip.to_canonical()));
            let net = ip.or_else(|_| text.parse::<IpNet>());
            net.map(|net| vip(net, mesh)).map_err(|_| {
                format!("spec.addresses[{at}]: {text:?} is neither an IP address nor a range")
            })
        })
        .collect()
}

fn vip(net: IpNet, mesh: &Mesh) -> Vip {
    Vip {
        network: mesh.network.clone(),
        net,
    }
}

fn check_ports(entries: &[EntryPort]) -> Result<(), String> {
    for (at, port) in entries.iter().enumerate() {
        for (field, number) in [
            ("number", Some(port.number)),
            ("targetPort", port.target_port),
        ] {
            let unset = field == "targetPort" && number == Some(0);
            if number.is_some_and(|number| ports::valid(number).is_none()) && !unset {
                return Err(format!(
                    "spec.ports[{at}].{field}: a port is from 1 to 65535"
                ));
            }
        }
    }
    Ok(())
}

/// Where the ports lead on a workload that may have its own for them.
pub(super) fn mappings(
    entries: &[EntryPort],
    transport: Transport,
    port_on: impl Fn(&EntryPort) -> Option<u16>,
) -> Vec<PortMapping> {
    entries
        .iter()
        .filter(|port| {
            let protocol = port.protocol.as_deref().unwrap_or_default();
            protocol.eq_ignore_ascii_case("udp") == (transport == Transport::Udp)
        })
        .filter_map(|port| {
            let service_port = ports::valid(port.number)?;
            let target = port_on(port).or(port.target_port.and_then(ports::valid));
            Some(PortMapping {
                service_port,
                target_port: target.unwrap_or(service_port),
                app_protocol: ports::of_protocol(port.protocol.as_deref()),
            })
        })
        .collect()
}

fn port_names(entries: &[EntryPort]) -> Vec<PortName> {
    let named = entries.iter().filter_map(|port| {
        let name = port.name.as_deref().filter(|name| !name.is_empty())?;
        Some(PortName {
            port: u16::try_from(port.number).ok()?,
            name: name.to_ascii_lowercase().into(),
        })
    });
    named.collect()
}

fn identities(spec: &ServiceEntrySpec) -> Result<Vec<Identity>, String> {
    let names = spec.subject_alt_names.iter();
    // Names of hosts are for proxies that speak TLS to the outside.
    names
        .filter(|name| name.starts_with("spiffe://"))
        .map(|name| {
            name.parse()
                .map_err(|_| format!("spec.subjectAltNames: {name:?} is not a SPIFFE id"))
        })
        .collect()
}

/// Whether only clients of its own namespace see it; `None` when nobody does.
fn private(spec: &ServiceEntrySpec, namespace: &str, notices: &mut Vec<String>) -> Option<bool> {
    let says = |word: &str| spec.export_to.iter().any(|to| to == word);
    if says("*") {
        return Some(false);
    }
    if says("~") {
        return None;
    }
    let others = spec
        .export_to
        .iter()
        .filter(|to| *to != "." && *to != namespace);
    notices.extend(others.map(|to| {
        format!(
            "spec.exportTo: {to:?} is not supported: only its own namespace sees the ServiceEntry"
        )
    }));
    Some(!spec.export_to.is_empty())
}

fn load_balancing(entry: &ServiceEntry, resolution: Resolution) -> LoadBalancing {
    if resolution == Resolution::None {
        return LoadBalancing {
            mode: Mode::Passthrough,
            allow_unhealthy: true,
            ..LoadBalancing::default()
        };
    }
    let (preference, mode) = service::preference(annotation(&entry.metadata, TRAFFIC_DISTRIBUTION));
    LoadBalancing {
        preference,
        mode,
        ..LoadBalancing::default()
    }
}
