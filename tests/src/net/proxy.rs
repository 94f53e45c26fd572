//! Service addresses for whoever is outside the mesh: what kube-proxy does, as a packet filter table
//! of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ambit_net::netlink::nft::{
    Chain, ChainKind, Family, Hook, Protocol, Rule, Spread, Table, priority,
};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan;
use crate::api::{Key, Store};
use crate::controllers::SERVICE_NAME_LABEL;

const TABLE: &str = "lab-services";
const SERVICES: &str = "services";
const REFUSED: &str = "refused";

/// One service address and port, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frontend {
    name: String,
    address: SocketAddr,
    protocol: Protocol,
    backends: Vec<SocketAddr>,
}

/// The table that sends service addresses to serving endpoints, and refuses the rest at once. `crossings` are for what leaves a
/// network of nodes.
#[must_use]
pub fn table(store: &Store, crossings: Vec<Rule>) -> Table {
    let frontends = frontends(store);
    let jump = || Rule::new().jump(SERVICES);
    let refuse = || Rule::new().jump(REFUSED);
    let nat = |name, hook, at| Chain::base(name, ChainKind::Nat, hook, at);
    let filter = |name, hook| Chain::base(name, ChainKind::Filter, hook, priority::FILTER);
    let mut services = Chain::regular(SERVICES);
    let mut backends: BTreeSet<IpAddr> = BTreeSet::new();
    for frontend in frontends
        .iter()
        .filter(|frontend| !frontend.backends.is_empty())
    {
        backends.extend(frontend.backends.iter().map(SocketAddr::ip));
        services = services.rule(
            Rule::new()
                .destination(IpNet::from(frontend.address.ip()))
                .protocol(frontend.protocol)
                .destination_port(frontend.address.port())
                .dnat_any(frontend.backends.clone(), Spread::Random)
                .comment(frontend.name.clone()),
        );
    }
    let mut hairpin = nat("postrouting", Hook::Postrouting, priority::SRCNAT);
    for backend in backends {
        // A pod that reached itself by a service must see an answer from that service.
        let both = Rule::new()
            .source(IpNet::from(backend))
            .destination(IpNet::from(backend));
        hairpin = hairpin.rule(both.masquerade());
    }
    let postrouting = crossings.into_iter().fold(hairpin, Chain::rule);
    let mut refused = Chain::regular(REFUSED);
    for range in [plan::SERVICE_RANGES.0, plan::SERVICE_RANGES.1] {
        let range: IpNet = range.parse().expect("the plan's ranges are networks");
        let tcp = Rule::new().destination(range).protocol(Protocol::Tcp);
        refused = refused
            .rule(tcp.reset())
            .rule(Rule::new().destination(range).reject());
    }
    Table::new(Family::Inet, TABLE)
        .chain(services)
        .chain(refused)
        .chain(nat("prerouting", Hook::Prerouting, priority::DSTNAT).rule(jump()))
        .chain(nat("output", Hook::Output, priority::DSTNAT).rule(jump()))
        .chain(postrouting)
        .chain(filter("forward", Hook::Forward).rule(refuse()))
        .chain(output_filter(filter("own", Hook::Output)).rule(refuse()))
}

/// A node's own DNS server answers from a service address.
fn output_filter(chain: Chain) -> Chain {
    plan::dns()
        .both()
        .into_iter()
        .fold(chain, |chain, address| {
            chain.rule(Rule::new().destination(IpNet::from(address)).accept())
        })
}

fn frontends(store: &Store) -> Vec<Frontend> {
    let mut slices: BTreeMap<Key, Vec<&EndpointSlice>> = BTreeMap::new();
    for (key, slice) in store.endpoint_slices.iter() {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) {
            slices
                .entry(Key::new(&key.namespace, service))
                .or_default()
                .push(slice);
        }
    }
    let none = Vec::new();
    let mut frontends = Vec::new();
    for (key, service) in store.services.iter() {
        let slices = slices.get(key).unwrap_or(&none);
        frontends.extend(of_service(key, service, slices));
    }
    frontends
}

fn of_service(key: &Key, service: &Service, slices: &[&EndpointSlice]) -> Vec<Frontend> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse::<IpAddr>().ok());
    let mut frontends = Vec::new();
    for address in addresses {
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => continue,
            };
            frontends.push(Frontend {
                name: format!("{key}:{}", port.port),
                address: SocketAddr::new(address, number),
                protocol,
                backends: backends(port, address.is_ipv6(), slices),
            });
        }
    }
    frontends
}

fn backends(port: &ServicePort, v6: bool, slices: &[&EndpointSlice]) -> Vec<SocketAddr> {
    let family = if v6 { "IPv6" } else { "IPv4" };
    let mut backends = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let same = |name: &Option<String>| {
            name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        };
        let target = slice
            .ports
            .iter()
            .flatten()
            .find(|target| same(&target.name));
        let number = target
            .and_then(|target| target.port)
            .and_then(|it| u16::try_from(it).ok());
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            if ready == Some(false) {
                continue;
            }
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|it| it.parse::<IpAddr>().ok());
            backends.extend(addresses.map(|address| SocketAddr::new(address, number)));
        }
    }
    backends
}
