//! Services and workloads of entries, and the addresses that hosts are given.

use std::collections::BTreeSet;

use ambit_core::model::service::Mode;
use ambit_core::model::{Service, TunnelProtocol, Workload};
use serde_json::json;

use crate::index::Index;
use crate::source::parse::{documents, parse};
use crate::source::{Event, Key, Kind, Origin};
use crate::translate::testing::{index, notices, problems, status};

fn entry(name: &str, spec: &str) -> String {
    entry_with(name, "", spec)
}

fn entry_with(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: shop{metadata}}}\nspec: {{{spec}}}\n"
    )
}

fn service<'a>(index: &'a Index, host: &str) -> &'a Service {
    let found = index.services().find(|service| *service.key.name == *host);
    found.unwrap_or_else(|| panic!("{host} is no service"))
}

fn hosts(index: &Index) -> Vec<String> {
    index
        .services()
        .map(|service| service.key.to_string())
        .collect()
}

fn vips(index: &Index, host: &str) -> Vec<String> {
    let vips = service(index, host).vips.iter();
    vips.map(|vip| vip.net.to_string()).collect()
}

fn workload<'a>(index: &'a Index, uid: &str) -> &'a Workload {
    let found = index
        .workloads()
        .find(|workload| workload.uid.ends_with(uid));
    found.unwrap_or_else(|| panic!("{uid} is no workload"))
}

/// `NAMESPACE/HOST PORT:TARGET...` of the services of a workload.
fn serves(workload: &Workload) -> Vec<String> {
    let services = workload.services.iter().map(|(key, ports)| {
        let ports = ports
            .iter()
            .map(|port| format!(" {}:{}", port.service_port, port.target_port));
        key.to_string() + &ports.collect::<String>()
    });
    services.collect()
}

const PORTS: &str = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS, targetPort: 8443}]";

#[test]
fn an_entry_is_a_service_a_host() {
    let spec = format!(
        "hosts: [Api.Example.com, '*.wild.example.com'], addresses: [192.0.2.1, 198.51.100.0/24], {PORTS}, \
         resolution: STATIC, location: MESH_EXTERNAL, endpoints: [{{address: 203.0.113.7, ports: {{http: 8080}}}}, \
         {{address: '2001:db8::7', weight: 3, locality: r/z, network: far, serviceAccount: api}}]"
    );
    let index = index(&entry("api", &spec));
    assert_eq!(
        hosts(&index),
        ["shop/*.wild.example.com", "shop/api.example.com"]
    );
    for host in ["api.example.com", "*.wild.example.com"] {
        assert_eq!(
            vips(&index, host),
            ["192.0.2.1/32", "198.51.100.0/24"],
            "its own, and no others"
        );
        assert_eq!(&*service(&index, host).name, "api");
    }
    let near = workload(&index, "ServiceEntry/shop/api/203.0.113.7");
    assert_eq!(
        serves(near),
        [
            "shop/*.wild.example.com 80:8080 443:8443",
            "shop/api.example.com 80:8080 443:8443"
        ]
    );
    assert_eq!(near.tunnel_protocol, TunnelProtocol::None);
    let far = workload(&index, "ServiceEntry/shop/api/2001:db8::7");
    assert_eq!(
        (far.capacity, &*far.network, &*far.locality.zone),
        (3, "far", "z")
    );
    assert_eq!(&**far.identity.service_account(), "api");
    assert!(status(&index, "ServiceEntry shop/api").is_none());
    assert_eq!(problems(&index, "ServiceEntry shop/api"), [""; 0]);
}

#[test]
fn an_address_may_serve_twice_with_other_ports() {
    let index = index(&entry(
        "a",
        "hosts: [a.com], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: \
         [{address: 192.0.2.1, ports: {http: 1}}, {address: 192.0.2.1, ports: {http: 2}}]",
    ));
    for (uid, port) in [("shop/a/192.0.2.1", 1), ("shop/a/192.0.2.1/1", 2)] {
        let served = serves(workload(&index, &format!("ServiceEntry/{uid}")));
        assert_eq!(served, [format!("shop/a.com 80:{port}")]);
    }
}

#[test]
fn resolutions() {
    for (resolution, mode, addresses, workloads) in [
        ("NONE", Mode::Passthrough, 0, 0),
        ("STATIC", Mode::Unspecified, 2, 0),
        ("DNS", Mode::Unspecified, 2, 1),
        ("DNS_ROUND_ROBIN", Mode::Unspecified, 2, 1),
    ] {
        let spec = format!("hosts: [api.example.com], {PORTS}, resolution: {resolution}");
        let index = index(&entry("api", &spec));
        let found = service(&index, "api.example.com");
        assert_eq!(found.load_balancing.mode, mode, "{resolution}");
        assert_eq!(found.vips.len(), addresses, "{resolution}");
        let hostnames: Vec<&str> = index
            .workloads()
            .map(|workload| &*workload.hostname)
            .collect();
        assert_eq!(
            hostnames,
            vec!["api.example.com"; workloads],
            "{resolution}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_and_gives_no_service() {
    for (spec, said) in [
        ("hosts: []", "spec.hosts: a host is missing"),
        (
            "hosts: ['a..b']",
            "spec.hosts[0]: \"a..b\" is not the name of a host",
        ),
        (
            "hosts: ['*']",
            "spec.hosts[0]: \"*\" is not the name of a host",
        ),
        (
            "hosts: [a.com], addresses: [here]",
            "spec.addresses[0]: \"here\" is neither an IP address nor a range",
        ),
        (
            "hosts: [a.com], ports: [{number: 0}]",
            "spec.ports[0].number: a port is from 1 to 65535",
        ),
        (
            "hosts: [a.com], ports: [{number: 1, targetPort: 70000}]",
            "spec.ports[0].targetPort: a port is from 1 to 65535",
        ),
        (
            "hosts: [a.com], resolution: MAGIC",
            "spec.resolution: \"MAGIC\" is not supported; NONE, STATIC, DNS and DNS_ROUND_ROBIN are",
        ),
        (
            "hosts: ['*.a.com'], resolution: DNS",
            "spec.hosts[0]: \"*.a.com\" is no name that DNS can be asked for: resolution DNS needs endpoints",
        ),
        (
            "hosts: [a.com], subjectAltNames: ['spiffe://']",
            "spec.subjectAltNames: \"spiffe://\" is not a SPIFFE id",
        ),
    ] {
        let index = index(&entry("a", spec));
        assert_eq!(problems(&index, "ServiceEntry shop/a"), [said]);
        assert!(hosts(&index).is_empty(), "{spec}");
    }
    for (resolution, endpoint, said) in [
        (
            "STATIC",
            "address: b.com",
            "address: \"b.com\" is not an IP address, as resolution STATIC has it",
        ),
        (
            "DNS",
            "address: '*.b.com'",
            "address: \"*.b.com\" is neither an IP address nor the name of a host",
        ),
        (
            "STATIC",
            "address: 192.0.2.2, ports: {http: 70000}",
            "ports.http: a port is from 1 to 65535",
        ),
    ] {
        let spec = format!(
            "hosts: [a.com], resolution: {resolution}, endpoints: [{{address: 192.0.2.1}}, {{{endpoint}}}]"
        );
        let index = index(&entry("a", &spec));
        let said = format!("spec.endpoints[1].{said}");
        assert_eq!(problems(&index, "ServiceEntry shop/a"), [said]);
        assert_eq!(index.workloads().count(), 0, "all or none");
    }
}

#[test]
fn an_entry_has_so_many_hosts() {
    for (count, found) in [(256, 256), (257, 0)] {
        let hosts: Vec<String> = (0..count).map(|at| format!("{at}.com")).collect();
        let index = index(&entry("a", &format!("hosts: [{}]", hosts.join(", "))));
        assert_eq!(index.services().count(), found);
        let said = problems(&index, "ServiceEntry shop/a");
        assert_eq!(said.is_empty(), found == count, "{said:?}");
    }
}

#[test]
fn an_endpoint_is_no_address_that_means_each_host_its_own() {
    for address in ["127.0.0.1", "'::1'", "169.254.169.254", "0.0.0.0"] {
        let spec =
            format!("hosts: [a.com], resolution: STATIC, endpoints: [{{address: {address}}}]");
        let index = index(&entry("a", &spec));
        let said = problems(&index, "ServiceEntry shop/a").join("; ");
        assert!(said.contains("each host its own"), "{address}: {said}");
        assert_eq!(index.workloads().count(), 0, "{address}");
    }
}

#[test]
fn who_sees_an_entry() {
    for (export_to, private) in [
        ("", Some(false)),
        ("exportTo: ['*'],", Some(false)),
        ("exportTo: ['.'],", Some(true)),
        ("exportTo: [shop],", Some(true)),
        ("exportTo: ['~'],", None),
        ("exportTo: [other, '*'],", Some(false)),
        ("exportTo: [other],", Some(true)),
    ] {
        let index = index(&entry("a", &format!("{export_to} hosts: [a.com]")));
        let seen = index
            .services()
            .next()
            .map(|service| service.namespace_private);
        assert_eq!(seen, private, "{export_to}");
    }
    let index = index(&entry("a", "exportTo: [other], hosts: [a.com]"));
    assert_eq!(notices(&index, "ServiceEntry shop/a").len(), 1);
}

const POD: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n, containers: [{name: c}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop}
spec: {address: 192.0.2.9, labels: {app: web}, ports: {http: 7000}, serviceAccount: vm}
";

#[test]
fn pods_and_workload_entries_serve_what_selects_them() {
    let spec = format!(
        "hosts: [web.internal], {PORTS}, resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}"
    );
    let index = index(&(entry("web", &spec) + POD));
    assert_eq!(
        serves(workload(&index, "Pod/shop/web")),
        [
            "shop/web.internal 80:80 443:8443",
            "shop/web.shop.svc.cluster.local 80:8080"
        ]
    );
    let vm = workload(&index, "WorkloadEntry/shop/vm");
    assert_eq!(
        serves(vm),
        [
            "shop/web.internal 80:7000 443:8443",
            "shop/web.shop.svc.cluster.local 80:7000"
        ]
    );
    assert_eq!(&**vm.identity.service_account(), "vm");
}

#[test]
fn a_label_or_an_annotation_says_that_a_proxy_is_at_an_entry() {
    for (metadata, account, tunnelled) in [
        ("", "''", false),
        (", labels: {networking.istio.io/tunnel: http}", "''", true),
        (", labels: {networking.istio.io/tunnel: none}", "''", false),
        (
            ", annotations: {ambient.istio.io/redirection: enabled}",
            "vm",
            true,
        ),
        (
            ", annotations: {ambient.istio.io/redirection: disabled}",
            "vm",
            false,
        ),
    ] {
        let entry = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: vm, namespace: shop{metadata}}}\n\
             spec: {{address: 192.0.2.9, serviceAccount: {account}}}\n"
        );
        let index = index(&entry);
        let vm = workload(&index, "WorkloadEntry/shop/vm");
        let is_tunnelled = vm.tunnel_protocol == ambit_core::model::TunnelProtocol::Hbone;
        assert_eq!(is_tunnelled, tunnelled, "{metadata}");
        let expected = if account == "vm" { "vm" } else { "default" };
        assert_eq!(&**vm.identity.service_account(), expected);
    }
}

#[test]
fn a_host_belongs_to_one_object() {
    let service = entry(
        "a",
        "hosts: [web.shop.svc.cluster.local, own.com], resolution: STATIC",
    );
    let index_ = index(&(service + POD));
    assert_eq!(
        hosts(&index_),
        ["shop/own.com", "shop/web.shop.svc.cluster.local"]
    );
    assert_eq!(
        &*super::super::testing::index(POD)
            .services()
            .next()
            .expect("one")
            .name,
        "web"
    );
    assert_eq!(
        notices(&index_, "ServiceEntry shop/a"),
        ["web.shop.svc.cluster.local is the host of Service shop/web already"]
    );
    let younger = entry_with(
        "a",
        ", creationTimestamp: '2026-01-02T00:00:00Z'",
        "hosts: [x.com], resolution: STATIC",
    );
    let older = entry_with(
        "b",
        ", creationTimestamp: '2026-01-01T00:00:00Z'",
        "hosts: [x.com], resolution: STATIC",
    );
    let index_ = index(&(younger + &older));
    assert_eq!(&*service_name(&index_, "x.com"), "b");
    assert_eq!(
        notices(&index_, "ServiceEntry shop/a"),
        ["x.com is the host of ServiceEntry shop/b already"]
    );
}

fn service_name(index: &Index, host: &str) -> String {
    service(index, host).name.to_string()
}

#[test]
fn changes_lead_to_the_same_as_all_at_once() {
    let texts = [
        entry(
            "a",
            "hosts: [x.com, web.shop.svc.cluster.local], resolution: STATIC, endpoints: [{address: 192.0.2.1}]",
        ),
        entry(
            "b",
            "hosts: [x.com, y.com], resolution: STATIC, workloadSelector: {labels: {app: web}}",
        ),
        entry("a", "hosts: [y.com], resolution: DNS"),
        POD.to_owned(),
        entry(
            "b",
            "hosts: [z.com], resolution: STATIC, workloadSelector: {labels: {app: other}}",
        ),
        POD.replace("app: web", "app: other"),
        entry("b", "hosts: [x.com, y.com], exportTo: ['~']"),
        entry("a", "hosts: [z.com], resolution: DNS"),
    ];
    let mut index = Index::new(Default::default());
    let mut kept: std::collections::BTreeMap<Key, crate::source::Object> = Default::default();
    let mut check = |events: Vec<Event>| {
        for event in &events {
            match event {
                Event::Apply(object, _) => {
                    kept.insert(object.key(), object.clone());
                }
                Event::Delete(key) => {
                    kept.remove(key);
                }
            }
        }
        index.apply(events);
        let mut fresh = Index::new(Default::default());
        fresh.apply(
            kept.values()
                .map(|object| Event::Apply(object.clone(), Origin::default())),
        );
        assert!(index.services().eq(fresh.services()));
        assert!(index.workloads().eq(fresh.workloads()));
        assert!(index.statuses().eq(fresh.statuses()));
        assert_eq!(index.notices().len(), fresh.notices().len());
    };
    for text in &texts {
        for document in documents(text) {
            let objects = parse(&document).objects.into_iter();
            check(
                objects
                    .map(|object| Event::Apply(object, Origin::default()))
                    .collect(),
            );
        }
    }
    for (kind, name) in [
        (Kind::ServiceEntry, "b"),
        (Kind::Service, "web"),
        (Kind::WorkloadEntry, "vm"),
        (Kind::ServiceEntry, "a"),
    ] {
        let key = Key {
            kind,
            namespace: "shop".into(),
            name: name.into(),
        };
        check(vec![Event::Delete(key)]);
    }
}

#[test]
fn addresses_are_given_and_told() {
    let index = index(&entry(
        "api",
        "hosts: [api.example.com, '*.b.com'], resolution: STATIC",
    ));
    let mut given = BTreeSet::new();
    for host in ["api.example.com", "*.b.com"] {
        let [v4, v6] = &vips(&index, host)[..] else {
            panic!("an address of each family")
        };
        assert!(v4.starts_with("240.240.") && v4.ends_with("/32"), "{v4}");
        assert!(v6.starts_with("2001:2::") && v6.ends_with("/128"), "{v6}");
        given.extend([v4.clone(), v6.clone()]);
    }
    assert_eq!(given.len(), 4);
    let said = status(&index, "ServiceEntry shop/api").expect("a status");
    let values = said["addresses"].as_array().expect("a list").iter();
    let said: BTreeSet<String> = values
        .map(|it| {
            let ip: std::net::IpAddr = it["value"]
                .as_str()
                .expect("text")
                .parse()
                .expect("an address");
            ipnet::IpNet::from(ip).to_string()
        })
        .collect();
    assert_eq!(said, given);
}

#[test]
fn who_is_given_no_address() {
    for (case, metadata, spec) in [
        (
            "it has its own",
            "",
            "hosts: [a.com], resolution: STATIC, addresses: [192.0.2.1]",
        ),
        (
            "the client's address counts",
            "",
            "hosts: [a.com], resolution: NONE",
        ),
        (
            "it wants none",
            ", labels: {networking.istio.io/enable-autoallocate-ip: 'false'}",
            "hosts: [a.com], resolution: STATIC",
        ),
    ] {
        let index = index(&entry_with("a", metadata, spec));
        assert!(status(&index, "ServiceEntry shop/a").is_none(), "{case}");
        assert!(
            !vips(&index, "a.com")
                .iter()
                .any(|vip| vip.starts_with("240.")),
            "{case}"
        );
    }
}

#[test]
fn who_has_an_address_keeps_it() {
    let of = |index: &Index, host: &str| vips(index, host);
    let a = entry("a", "hosts: [a.com], resolution: STATIC");
    let alone = index(&a);
    let first = of(&alone, "a.com");
    assert_eq!(of(&index(&a), "a.com"), first, "after a restart");
    let [v4, v6] = [0, 1].map(|at| first[at].split('/').next().expect("an address").to_owned());

    // Another has said that it has this address: in its spec, or in its status for as long.
    let own = entry(
        "b",
        &format!("hosts: [b.com], resolution: STATIC, addresses: ['{v4}']"),
    );
    let both = index(&(a.clone() + &own));
    assert_ne!(of(&both, "a.com")[0], first[0]);
    assert_eq!(of(&both, "a.com")[1], first[1]);
    let status = json!({"addresses": [
        {"value": v4, "host": "b.com"}, {"value": v6, "host": "b.com"},
        {"value": "10.0.0.1", "host": "b.com"}, {"value": "?", "host": "b.com"},
    ]});
    let said = entry("b", "hosts: [b.com], resolution: STATIC") + &format!("status: {status}\n");
    let both = index(&(a.clone() + &said));
    assert_eq!(of(&both, "b.com"), first);
    assert_ne!(of(&both, "a.com")[0], first[0]);
    assert_ne!(of(&both, "a.com")[1], first[1]);
}

#[test]
fn a_host_that_is_named_twice_has_one_address() {
    let twice = entry("a", "hosts: [a.com, A.com], resolution: STATIC");
    let first = index(&twice);
    let said = status(&first, "ServiceEntry shop/a").expect("a status");
    assert_eq!(
        said["addresses"].as_array().map(Vec::len),
        Some(2),
        "{said}"
    );
    let again = index(&(twice + &format!("status: {said}\n")));
    assert_eq!(vips(&again, "a.com"), vips(&first, "a.com"));
    assert_eq!(status(&again, "ServiceEntry shop/a"), Some(said));
}

#[test]
fn a_namespace_leaves_addresses_to_others() {
    let spec = |from: usize| {
        let hosts: Vec<String> = (from..from + 256).map(|n| format!("h{n}.com")).collect();
        format!("hosts: [{}], resolution: STATIC", hosts.join(", "))
    };
    let many = (0..65).map(|n| entry(&format!("e{n:02}"), &spec(n * 256)));
    let index = index(&many.collect::<String>());
    let with = index.services().filter(|service| !service.vips.is_empty());
    assert_eq!(with.count(), 16_384);
    let said = notices(&index, "ServiceEntry shop/e64");
    assert_eq!(said.len(), 1);
    assert!(
        said[0].contains("without an address: 256 (h16384.com ...)"),
        "{said:?}"
    );
}

#[test]
fn hundreds_of_hosts_have_addresses_of_their_own() {
    let hosts: Vec<String> = (0..300).map(|n| format!("h{n}.example.com")).collect();
    let spec = |hosts: &[String]| format!("hosts: [{}], resolution: STATIC", hosts.join(", "));
    let (some, others) = hosts.split_at(150);
    let index = index(&(entry("some", &spec(some)) + &entry("others", &spec(others))));
    let all: BTreeSet<String> = index
        .services()
        .flat_map(|service| service.vips.iter().map(|vip| vip.net.to_string()))
        .collect();
    assert_eq!(all.len(), 600);
}
