//! What the cluster's DNS answers: the Kubernetes DNS specification for services, headless services,
//! named endpoints and ports. Every other name does not exist.

use std::net::IpAddr;

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::api::{Key, Store};
use crate::controllers::SERVICE_NAME_LABEL;
use crate::net::plan::CLUSTER_DOMAIN;

/// Seconds that an answer may be kept, as the clusters' own servers say.
const LIFETIME: u32 = 5;

/// The answer to a question.
pub(super) fn answer(store: &Store, question: &Message) -> Message {
    let mut reply = Message::query();
    reply.metadata = Metadata::response_from_request(&question.metadata);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_available = true;
    reply.edns.clone_from(&question.edns);
    let Some(query) = question.queries.first() else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply;
    };
    reply.add_query(query.clone());
    let name = query.name().to_lowercase().to_ascii();
    let Some(found) = resolve(store, name.trim_end_matches('.')) else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        return reply;
    };
    let owner = query.name();
    for data in found.records(query.query_type()) {
        reply.add_answer(Record::from_rdata(owner.clone(), LIFETIME, data));
    }
    reply
}

/// What a name stands for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    addresses: Vec<IpAddr>,
    alias: Option<String>,
    servers: Vec<(String, u16)>,
}

impl Found {
    fn records(&self, wanted: RecordType) -> Vec<RData> {
        if let Some(alias) = &self.alias {
            let target = Name::from_ascii(format!("{}.", alias.trim_end_matches('.')));
            return target
                .ok()
                .map(|name| RData::CNAME(CNAME(name)))
                .into_iter()
                .collect();
        }
        let mut records = Vec::new();
        for address in &self.addresses {
            match (address, wanted) {
                (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => records.push(RData::A(A(*ip))),
                (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => {
                    records.push(RData::AAAA(AAAA(*ip)));
                }
                _ => {}
            }
        }
        if wanted == RecordType::SRV {
            for (target, port) in &self.servers {
                if let Ok(target) = Name::from_ascii(format!("{target}.")) {
                    records.push(RData::SRV(SRV::new(0, 100, *port, target)));
                }
            }
        }
        records
    }
}

/// What `name` (lower case, no dot at the end) stands for, if it exists.
fn resolve(store: &Store, name: &str) -> Option<Found> {
    let inside = name.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix(".svc.")?;
    let labels: Vec<&str> = inside.split('.').collect();
    match labels[..] {
        [service, namespace] => by_service(store, &Key::new(namespace, service)),
        [host, service, namespace] => by_host(store, &Key::new(namespace, service), host),
        [port, protocol, service, namespace] => {
            let port = port.strip_prefix('_')?;
            let protocol = protocol.strip_prefix('_')?;
            by_port(store, &Key::new(namespace, service), port, protocol)
        }
        _ => None,
    }
}

fn by_service(store: &Store, key: &Key) -> Option<Found> {
    let service = store.services.get(key)?;
    let spec = service.spec.as_ref()?;
    if let Some(alias) = &spec.external_name {
        return Some(Found {
            alias: Some(alias.clone()),
            ..Found::default()
        });
    }
    let mut found = Found::default();
    if is_headless(service) {
        let endpoints = endpoints(store, key).map(|(_, endpoint)| endpoint);
        found.addresses = endpoints.flat_map(addresses).collect();
    } else {
        let ips = spec.cluster_ips.iter().flatten();
        found.addresses = ips.filter_map(|ip| ip.parse().ok()).collect();
    }
    for port in spec.ports.iter().flatten() {
        let name = port.name.clone().unwrap_or_default();
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
        found
            .servers
            .extend(servers(store, key, service, &name, &protocol));
    }
    Some(found)
}

fn by_host(store: &Store, key: &Key, host: &str) -> Option<Found> {
    let named = endpoints(store, key).filter(|(_, endpoint)| host_of(endpoint) == host);
    let addresses: Vec<IpAddr> = named
        .flat_map(|(_, endpoint)| addresses(endpoint))
        .collect();
    (!addresses.is_empty()).then(|| Found {
        addresses,
        ..Found::default()
    })
}

fn by_port(store: &Store, key: &Key, port: &str, protocol: &str) -> Option<Found> {
    let service = store.services.get(key)?;
    let servers = servers(store, key, service, port, protocol);
    (!servers.is_empty()).then(|| Found {
        servers,
        ..Found::default()
    })
}

fn servers(
    store: &Store,
    key: &Key,
    service: &Service,
    name: &str,
    protocol: &str,
) -> Vec<(String, u16)> {
    let full = format!("{}.{}.svc.{CLUSTER_DOMAIN}", key.name, key.namespace);
    let same = |port_name: Option<&str>, port_protocol: Option<&str>| {
        port_name.unwrap_or_default() == name
            && port_protocol
                .unwrap_or("TCP")
                .eq_ignore_ascii_case(protocol)
    };
    if !is_headless(service) {
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let mine = ports.filter(|port| same(port.name.as_deref(), port.protocol.as_deref()));
        return mine
            .filter_map(|it| Some((full.clone(), u16::try_from(it.port).ok()?)))
            .collect();
    }
    let mut servers = Vec::new();
    for (slice, endpoint) in endpoints(store, key) {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| same(port.name.as_deref(), port.protocol.as_deref()));
        if let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) {
            servers.push((format!("{}.{full}", host_of(endpoint)), port));
        }
    }
    servers.sort();
    servers.dedup();
    servers
}

/// The name of an endpoint below its service: its host name, else its address with dashes.
fn host_of(endpoint: &Endpoint) -> String {
    let address = endpoint
        .addresses
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    endpoint
        .hostname
        .clone()
        .unwrap_or_else(|| address.replace(['.', ':'], "-"))
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint
        .addresses
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

/// The serving endpoints of a service.
fn endpoints<'a>(
    store: &'a Store,
    service: &'a Key,
) -> impl Iterator<Item = (&'a EndpointSlice, &'a Endpoint)> {
    let slices = store
        .endpoint_slices
        .within(&service.namespace)
        .filter(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)) == Some(&service.name)
        });
    slices
        .flat_map(|slice| {
            slice
                .endpoints
                .iter()
                .map(move |endpoint| (slice, endpoint))
        })
        .filter(|(_, endpoint)| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        })
}

fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        let mut store = Store::default();
        let service = |value| serde_json::from_value::<Service>(value).expect("a service");
        store.services.put(service(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::14"],
                     "ports": [{"name": "http", "port": 80}]},
        })));
        store.services.put(service(serde_json::json!({
            "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"],
                     "ports": [{"name": "sql", "port": 5432}]},
        })));
        store.services.put(service(serde_json::json!({
            "metadata": {"name": "out", "namespace": "shop"},
            "spec": {"externalName": "example.org"},
        })));
        let slice = serde_json::json!({
            "metadata": {"name": "db-1", "namespace": "shop",
                         "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.1.3"], "hostname": "db-1", "conditions": {"ready": false}},
                {"addresses": ["10.244.1.4"], "conditions": {"ready": true}},
            ],
        });
        store
            .endpoint_slices
            .put(serde_json::from_value(slice).expect("a slice"));
        store
    }

    #[test]
    fn names_of_the_cluster() {
        let store = store();
        for (name, wanted, answers) in [
            (
                "web.shop.svc.cluster.local.",
                RecordType::A,
                Some("10.96.0.20"),
            ),
            (
                "WEB.shop.svc.cluster.local.",
                RecordType::AAAA,
                Some("fd00:10:96::14"),
            ),
            ("web.shop.svc.cluster.local.", RecordType::MX, Some("")),
            (
                "db.shop.svc.cluster.local.",
                RecordType::A,
                Some("10.244.1.2 10.244.1.4"),
            ),
            ("db.shop.svc.cluster.local.", RecordType::AAAA, Some("")),
            (
                "db-0.db.shop.svc.cluster.local.",
                RecordType::A,
                Some("10.244.1.2"),
            ),
            (
                "10-244-1-4.db.shop.svc.cluster.local.",
                RecordType::A,
                Some("10.244.1.4"),
            ),
            ("db-1.db.shop.svc.cluster.local.", RecordType::A, None),
            (
                "_sql._tcp.db.shop.svc.cluster.local.",
                RecordType::SRV,
                Some(
                    "0 100 5432 10-244-1-4.db.shop.svc.cluster.local. \
                     0 100 5432 db-0.db.shop.svc.cluster.local.",
                ),
            ),
            (
                "_http._tcp.web.shop.svc.cluster.local.",
                RecordType::SRV,
                Some("0 100 80 web.shop.svc.cluster.local."),
            ),
            (
                "_http._udp.web.shop.svc.cluster.local.",
                RecordType::SRV,
                None,
            ),
            (
                "out.shop.svc.cluster.local.",
                RecordType::A,
                Some("example.org."),
            ),
            ("none.shop.svc.cluster.local.", RecordType::A, None),
            ("web.shop.svc.", RecordType::A, None),
            ("example.org.", RecordType::A, None),
        ] {
            let mut question = Message::query();
            let query_name = Name::from_ascii(name).expect("a name");
            question.add_query(hickory_proto::op::Query::query(query_name, wanted));
            let reply = answer(&store, &question);
            let exists = reply.metadata.response_code == ResponseCode::NoError;
            let text: Vec<String> = reply
                .answers
                .iter()
                .map(|record| record.data.to_string())
                .collect();
            assert_eq!(
                exists.then(|| text.join(" ")).as_deref(),
                answers,
                "{name} {wanted}"
            );
        }
    }
}
