//! Service addresses: a virtual IP of each family, unless the service is headless.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use crate::api::{Key, Store};
use crate::net::plan;

pub(super) fn reconcile(store: &mut Store) {
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    for (_, service) in store.services.iter() {
        let spec = service.spec.as_ref();
        let addresses = spec
            .and_then(|spec| spec.cluster_ips.as_ref())
            .into_iter()
            .flatten();
        let single = spec.and_then(|spec| spec.cluster_ip.as_ref());
        taken.extend(
            addresses
                .chain(single)
                .filter_map(|ip| ip.parse::<IpAddr>().ok()),
        );
    }
    let waiting: Vec<Service> = store
        .services
        .iter()
        .map(|(_, service)| service)
        .filter(|service| service.spec.as_ref().is_some_and(needs_addresses))
        .cloned()
        .collect();
    for service in waiting {
        let key = Key::of(&service.metadata);
        store.services.update(&key, |service| {
            let spec = service.spec.get_or_insert_default();
            allocate(spec, &mut taken);
        });
    }
}

fn needs_addresses(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName")
        && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
}

fn allocate(spec: &mut ServiceSpec, taken: &mut BTreeSet<IpAddr>) {
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    let single = spec.ip_family_policy.as_deref() == Some("SingleStack");
    let families = spec.ip_families.get_or_insert_with(|| {
        let both = ["IPv4".to_owned(), "IPv6".to_owned()];
        both.into_iter().take(if single { 1 } else { 2 }).collect()
    });
    let policy = if families.len() == 1 {
        "SingleStack"
    } else {
        "PreferDualStack"
    };
    spec.ip_family_policy
        .get_or_insert_with(|| policy.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        spec.cluster_ips = Some(vec!["None".to_owned()]);
        return;
    }
    let asked: Option<IpAddr> = spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok());
    let mut addresses = Vec::new();
    for family in families {
        let v6 = family == "IPv6";
        let address = match asked {
            Some(asked) if asked.is_ipv6() == v6 => Some(asked),
            _ => plan::service_addresses(v6).find(|address| !taken.contains(address)),
        };
        if let Some(address) = address {
            taken.insert(address);
            addresses.push(address.to_string());
        }
    }
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = Some(addresses);
}
