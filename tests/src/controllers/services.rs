//! Service addresses: a virtual IP of each family that a service is for, unless it is headless.

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
        && (spec.cluster_ips.as_ref().is_none_or(Vec::is_empty)
            || spec.ip_families.as_ref() != Some(&families(spec)))
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// What a service has addresses of, as the API server decides it in a cluster of both families, IPv4 first: one family, unless it
/// asks for two, or is headless without a selector (Kubernetes, "IPv4/IPv6 dual-stack").
fn families(spec: &ServiceSpec) -> Vec<String> {
    let asked = spec.ip_families.as_deref().unwrap_or_default();
    let own = spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok());
    let v6 = match (asked.first(), own) {
        (Some(family), _) => family == "IPv6",
        (None, own) => own.is_some_and(|ip: IpAddr| ip.is_ipv6()),
    };
    let has_selector = spec.selector.as_ref().is_some_and(|it| !it.is_empty());
    let is_dual = match spec.ip_family_policy.as_deref() {
        Some(policy) => policy != "SingleStack",
        None => asked.len() > 1 || is_headless(spec) && !has_selector,
    };
    let name = |v6| if v6 { "IPv6" } else { "IPv4" }.to_owned();
    let both = [name(v6), name(!v6)];
    both.into_iter().take(if is_dual { 2 } else { 1 }).collect()
}

fn allocate(spec: &mut ServiceSpec, taken: &mut BTreeSet<IpAddr>) {
    spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
    let families = families(spec);
    let policy = match (families.len(), is_headless(spec)) {
        (1, _) => "SingleStack",
        (_, true) => "RequireDualStack",
        (_, false) => "PreferDualStack",
    };
    spec.ip_family_policy
        .get_or_insert_with(|| policy.to_owned());
    let addresses = if is_headless(spec) {
        vec!["None".to_owned()]
    } else {
        let asked = spec.cluster_ip.iter();
        let asked = asked.chain(spec.cluster_ips.iter().flatten());
        let asked: Vec<IpAddr> = asked.filter_map(|ip| ip.parse().ok()).collect();
        let mut addresses = Vec::new();
        for family in &families {
            let v6 = family == "IPv6";
            let own = asked.iter().find(|asked| asked.is_ipv6() == v6).copied();
            let free = || plan::service_addresses(v6).find(|address| !taken.contains(address));
            if let Some(address) = own.or_else(free) {
                taken.insert(address);
                addresses.push(address.to_string());
            }
        }
        addresses
    };
    spec.ip_families = Some(families);
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = Some(addresses);
}
