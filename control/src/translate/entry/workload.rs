//! Who serves entries: endpoints that an entry names, and WorkloadEntries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ambit_core::addr::{NamespacedName, is_dns_name, is_elsewhere};
use ambit_core::identity::Identity;
use ambit_core::model::{
    Health, Locality, NetworkMode, PortMapping, TunnelProtocol, Workload, WorkloadType,
};
use ambit_core::plan::Transport;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Resolution, hosts, mappings, other_claimant, selecting};
use crate::index::objects::Objects;
use crate::source::entry::{EntryPort, ServiceEntry, WorkloadEntry, WorkloadEntrySpec};
use crate::translate::labels::{is_captured, is_native, label, selects};
use crate::translate::workload::that_has_any;
use crate::translate::{Mesh, authorization, network, peer, ports, service};

const GROUP: &str = "networking.istio.io";

/// The uid of a WorkloadEntry in the mesh.
#[must_use]
pub fn uid(namespace: &str, name: &str, mesh: &Mesh) -> Arc<str> {
    format!(
        "{}/{GROUP}/WorkloadEntry/{namespace}/{name}",
        mesh.cluster_id
    )
    .into()
}

/// The endpoints that an entry names. Of one that is resolved by DNS and names none, its hosts.
///
/// # Errors
/// The value that is wrong.
pub fn endpoints(
    namespace: &str,
    name: &str,
    entry: &ServiceEntry,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Vec<Workload>, String> {
    let spec = &entry.spec;
    let resolution = Resolution::of(spec)?;
    // In order and each once, as the services of every workload are.
    let served: BTreeSet<NamespacedName> = hosts(entry)
        .map(|host| NamespacedName::new(namespace, host))
        .filter(|key| other_claimant(key, name, objects, mesh).is_none())
        .collect();
    let uid = |address: &str, earlier: usize| -> Arc<str> {
        let again = match earlier {
            0 => String::new(),
            number => format!("/{number}"),
        };
        format!(
            "{}/{GROUP}/ServiceEntry/{namespace}/{name}/{address}{again}",
            mesh.cluster_id
        )
        .into()
    };
    // What it serves these hosts on, by TCP and by UDP.
    let serves = |endpoint: &WorkloadEntrySpec, hosts: &BTreeSet<NamespacedName>| {
        [Transport::Tcp, Transport::Udp].map(|transport| {
            let ports = mappings(&spec.ports, transport, |port: &EntryPort| {
                named(endpoint, port.name.as_deref())
            });
            let services = hosts.iter().map(|key| (key.clone(), ports.clone()));
            services.collect()
        })
    };
    // One address may be there again, with other ports.
    let make = |endpoint: &WorkloadEntrySpec,
                earlier: &[WorkloadEntrySpec],
                [services, udp_ports]: [_; 2]| {
        let same = earlier.iter().filter(|it| it.address == endpoint.address);
        let address = endpoint.address.as_deref().unwrap_or_default();
        let labels = ObjectMeta {
            labels: Some(endpoint.labels.clone()),
            ..ObjectMeta::default()
        };
        let about = About {
            uid: uid(address, same.count()),
            namespace,
            name,
            metadata: &labels,
            services,
            udp_ports,
        };
        about.workload(endpoint, resolution == Resolution::Dns, objects, mesh)
    };
    let implied = resolution == Resolution::Dns && spec.workload_selector.is_none();
    if spec.endpoints.is_empty() && implied {
        let hosts = served.iter().filter(|key| !key.name.starts_with('*'));
        return hosts
            .map(|key| {
                let endpoint = WorkloadEntrySpec {
                    address: Some(key.name.to_string()),
                    ..WorkloadEntrySpec::default()
                };
                make(&endpoint, &[], serves(&endpoint, &[key.clone()].into()))
            })
            .collect();
    }
    let all = spec.endpoints.iter().enumerate();
    all.map(|(at, endpoint)| {
        let made = make(endpoint, &spec.endpoints[..at], serves(endpoint, &served));
        made.map_err(|why| format!("spec.endpoints[{at}].{why}"))
    })
    .collect()
}

/// The workload of a WorkloadEntry.
///
/// # Errors
/// The value that is wrong.
pub fn translate(
    namespace: &str,
    name: &str,
    entry: &WorkloadEntry,
    objects: &Objects,
    mesh: &Mesh,
) -> Result<Workload, String> {
    let metadata = labelled(entry);
    let [services, udp_ports] = [Transport::Tcp, Transport::Udp].map(|transport| {
        let own = |port: &EntryPort| named(&entry.spec, port.name.as_deref());
        let mut services = selecting(namespace, &metadata, (transport, own), objects, mesh);
        let spec = &entry.spec;
        services.extend(of_kubernetes(
            namespace, &metadata, spec, transport, objects, mesh,
        ));
        services.sort_by(|(a, _), (b, _)| a.cmp(b));
        services
    });
    let about = About {
        uid: uid(namespace, name, mesh),
        namespace,
        name,
        metadata: &metadata,
        services,
        udp_ports,
    };
    let workload = about.workload(&entry.spec, true, objects, mesh);
    let mut workload = workload.map_err(|why| format!("spec.{why}"))?;
    let services = &workload.services;
    let mut policies = authorization::selecting(namespace, &metadata, services, objects, mesh);
    policies.extend(peer::selecting(namespace, &metadata, objects, mesh));
    policies.sort();
    workload.authorization_policies = policies;
    Ok(workload)
}

/// Its labels: those of its spec, which its own may add to.
pub(crate) fn labelled(entry: &WorkloadEntry) -> ObjectMeta {
    let mut metadata = entry.metadata.clone();
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(entry.spec.labels.clone());
    metadata
}

/// The Services of Kubernetes that select it.
fn of_kubernetes(
    namespace: &str,
    metadata: &ObjectMeta,
    spec: &WorkloadEntrySpec,
    transport: Transport,
    objects: &Objects,
    mesh: &Mesh,
) -> Vec<(NamespacedName, Vec<PortMapping>)> {
    let services = objects.services.within(namespace);
    services
        .filter(|(_, found)| service::has_selector(found) && !service::is_external(found))
        .filter(|(_, found)| {
            let selector = found.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|selector| selects(selector, metadata))
        })
        .map(|(name, found)| {
            let own = ports::of_entry(found, |port| named(spec, port), transport);
            (mesh.service_key(namespace, name), own)
        })
        .collect()
}

fn named(endpoint: &WorkloadEntrySpec, port: Option<&str>) -> Option<u16> {
    ports::valid(*endpoint.ports.get(port?)?)
}

/// What is known of a workload besides what its spec says.
struct About<'a> {
    uid: Arc<str>,
    namespace: &'a str,
    name: &'a str,
    metadata: &'a ObjectMeta,
    services: Vec<(NamespacedName, Vec<PortMapping>)>,
    udp_ports: Vec<(NamespacedName, Vec<PortMapping>)>,
}

impl About<'_> {
    fn workload(
        self,
        spec: &WorkloadEntrySpec,
        may_be_host: bool,
        objects: &Objects,
        mesh: &Mesh,
    ) -> Result<Workload, String> {
        for (name, number) in &spec.ports {
            if ports::valid(*number).is_none() {
                return Err(format!("ports.{name}: a port is from 1 to 65535"));
            }
        }
        let address = spec.address.as_deref().unwrap_or_default();
        let (addresses, hostname) = match address.parse::<IpAddr>() {
            Ok(ip) if !is_elsewhere(ip) => {
                return Err(format!(
                    "address: {address:?} means each host its own (loopback, link-local, multicast): it is no endpoint"
                ));
            }
            Ok(ip) => (vec![ip.to_canonical()], String::new()),
            Err(_) if may_be_host && is_dns_name(address) => {
                (Vec::new(), address.to_ascii_lowercase())
            }
            Err(_) => {
                let expected = if may_be_host {
                    "neither an IP address nor the name of a host"
                } else {
                    "not an IP address, as resolution STATIC has it"
                };
                return Err(format!("address: {address:?} is {expected}"));
            }
        };
        let account = spec.account();
        let identity = Identity::new(mesh.trust_domains.own().clone(), self.namespace, account)
            .map_err(|error| format!("serviceAccount: {account:?}: {error}"))?;
        let network = spec
            .network
            .as_deref()
            .filter(|network| !network.is_empty());
        let tunnel = has_proxy(self.metadata);
        let network: Arc<str> = match network {
            Some(network) => network.into(),
            // As pods are.
            None if tunnel => objects.networks.home(mesh).clone(),
            None => mesh.network.clone(),
        };
        let canonical = label(self.metadata, "service.istio.io/canonical-name");
        let revision = label(self.metadata, "service.istio.io/canonical-revision");
        Ok(Workload {
            uid: self.uid,
            name: self.name.into(),
            namespace: self.namespace.into(),
            addresses,
            hostname: hostname.into(),
            network_gateway: network::gateway_of(&network, objects, mesh),
            network,
            identity,
            tunnel_protocol: if tunnel {
                TunnelProtocol::Hbone
            } else {
                TunnelProtocol::None
            },
            native_tunnel: false,
            waypoint: None,
            node: "".into(),
            cluster_id: mesh.cluster_id.clone(),
            canonical_name: canonical.unwrap_or(self.name).into(),
            canonical_revision: revision.unwrap_or("latest").into(),
            workload_type: WorkloadType::Pod,
            workload_name: self.name.into(),
            authorization_policies: Vec::new(),
            health: Health::Healthy,
            services: self.services,
            udp_ports: that_has_any(self.udp_ports),
            takes_udp: false,
            application_tunnel: None,
            locality: locality(spec.locality.as_deref().unwrap_or_default()),
            network_mode: NetworkMode::Standard,
            capacity: spec
                .weight
                .and_then(|weight| u32::try_from(weight).ok())
                .unwrap_or(1)
                .max(1),
        })
    }
}

/// Whether a WorkloadEntry says that a proxy of the mesh is at its address, which callers open tunnels to. Who writes it knows.
#[must_use]
pub fn is_in_the_mesh(entry: &WorkloadEntry) -> bool {
    has_proxy(&labelled(entry))
}

fn has_proxy(metadata: &ObjectMeta) -> bool {
    is_native(metadata) || is_captured(metadata)
}

fn locality(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/').map(Arc::from);
    let mut next = || parts.next().unwrap_or_else(|| "".into());
    Locality {
        region: next(),
        zone: next(),
        subzone: next(),
    }
}
