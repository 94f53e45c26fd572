//! What the mesh answers to whom.

use std::net::IpAddr;

use crate::dns::{Answer, Client, Data, RecordType, answer};
use crate::fixtures::{index, ip, key, pod_in, service};
use crate::index::Index;
use crate::model::service::IpFamilies;
use crate::model::{Health, PortName, Service, Workload, WorkloadType};

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;
const SRV: RecordType = RecordType::SRV;

/// The service `name` of a namespace, as the cluster names it.
fn of_cluster(namespace: &str, name: &str, vips: &[&str]) -> Service {
    let key = format!("{namespace}/{name}.{namespace}.svc.cluster.local");
    Service {
        port_names: vec![PortName {
            port: 80,
            name: "http".into(),
        }],
        ..service(&key, vips)
    }
}

/// The pod `set-number` of a StatefulSet with the headless service `db`.
fn member(number: u8, health: Health) -> Workload {
    let v4 = format!("10.0.0.{number}");
    let v6 = format!("fd00::{number}");
    let pod = pod_in("shop", &format!("db-{number}"), &[&v4, &v6]);
    Workload {
        workload_type: WorkloadType::Pod,
        workload_name: "db".into(),
        health,
        ..pod.serving("shop/db.shop.svc.cluster.local", &[(80, 8080)])
    }
}

fn world() -> Index {
    let mut far = of_cluster("shop", "far", &["10.1.0.4"]);
    far.vips[0].network = "far".into();
    let private = Service {
        namespace_private: true,
        ..service("pay/secret.example.com", &["240.240.0.9"])
    };
    let v4_only = Service {
        ip_families: IpFamilies::V4,
        ..of_cluster("shop", "v4", &[])
    };
    let mut all = of_cluster("shop", "all", &[]);
    all.load_balancing.allow_unhealthy = true;
    let deployed = pod_in("shop", "web-5f7-x2", &["10.0.0.9"]);
    let deployed = deployed.serving("shop/db.shop.svc.cluster.local", &[(80, 8080)]);
    let mut sleepy = member(7, Health::Unhealthy);
    sleepy.services = vec![(key("shop/all.shop.svc.cluster.local"), Vec::new())];
    let mut single = member(4, Health::Healthy);
    single.services = vec![(key("shop/v4.shop.svc.cluster.local"), Vec::new())];
    let ports = Service {
        port_names: of_cluster("shop", "any", &[]).port_names,
        ..service("shop/*.ports.example.com", &["240.240.0.5"])
    };
    let mut elsewhere = member(8, Health::Healthy);
    elsewhere.network = "far".into();
    index([
        of_cluster("shop", "web", &["10.1.0.1", "fd00:1::1"]).into(),
        of_cluster("pay", "web", &["10.1.0.2"]).into(),
        of_cluster("shop", "db", &[]).into(),
        of_cluster("shop", "none", &[]).into(),
        all.into(),
        v4_only.into(),
        far.into(),
        private.into(),
        ports.into(),
        service("shop/api.example.com", &["240.240.0.1", "2001:2::1"]).into(),
        service("shop/*.wild.example.com", &["240.240.0.2"]).into(),
        service("shop/*.deep.wild.example.com", &["240.240.0.3"]).into(),
        service("shop/exact.wild.example.com", &["240.240.0.4"]).into(),
        service("shop/no-address.example.com", &[]).into(),
        service("evil/*.evil.svc.cluster.local", &["240.240.0.20"]).into(),
        service("evil/*.shop.svc.cluster.local", &["240.240.0.21"]).into(),
        service("evil/db-0.db.shop.svc.cluster.local", &["240.240.0.22"]).into(),
        service("evil/*.svc.cluster.local", &["240.240.0.23"]).into(),
        service("evil/*.cluster.local", &["240.240.0.24"]).into(),
        service("evil/*.local", &["240.240.0.25"]).into(),
        service("shop/range.example.com", &["10.9.0.0/16"]).into(),
        member(0, Health::Healthy).into(),
        member(1, Health::Healthy).into(),
        member(2, Health::Unhealthy).into(),
        deployed.into(),
        sleepy.into(),
        single.into(),
        elsewhere.into(),
    ])
}

/// `elsewhere`, `known` when the mesh has the name, or the records with their alias before them.
fn asked(index: &Index, namespace: &str, name: &str, kind: RecordType) -> String {
    asked_from(index, (namespace, &[]), name, kind)
}

fn asked_from(
    index: &Index,
    (namespace, addresses): (&str, &[IpAddr]),
    name: &str,
    kind: RecordType,
) -> String {
    let client = Client {
        namespace,
        network: "",
        addresses,
        cluster_id: "Kubernetes",
        domain: "cluster.local",
    };
    match answer(index, &client, name, kind) {
        Answer::Elsewhere { known: false } => "elsewhere".to_owned(),
        Answer::Elsewhere { known: true } => "known".to_owned(),
        Answer::Here(records) => {
            let alias = records.alias.map(|alias| format!("{alias}:"));
            let data = records.data.iter().map(|data| match data {
                Data::Address(ip) => ip.to_string(),
                Data::Server { port, target } => format!("{port} {target}"),
            });
            alias.into_iter().chain(data).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn names_and_their_answers() {
    let index = world();
    let long = ".svc.cluster.local";
    for (case, namespace, name, kind, expected) in [
        (
            "a service",
            "shop",
            "web.shop.svc.cluster.local",
            A,
            "10.1.0.1",
        ),
        (
            "its IPv6 address",
            "shop",
            "web.shop.svc.cluster.local",
            AAAA,
            "fd00:1::1",
        ),
        (
            "both",
            "shop",
            "web.shop",
            RecordType::ANY,
            "10.1.0.1 fd00:1::1",
        ),
        (
            "no IPv6 address is no data",
            "pay",
            "web.pay.svc.cluster.local",
            AAAA,
            "",
        ),
        (
            "another type",
            "shop",
            "web.shop.svc.cluster.local",
            RecordType(16),
            "known",
        ),
        ("one label", "shop", "web", A, "10.1.0.1"),
        ("one label, from elsewhere", "pay", "web", A, "10.1.0.2"),
        (
            "one label that is no service there",
            "other",
            "web",
            A,
            "elsewhere",
        ),
        (
            "a namespace's own wildcard",
            "shop",
            "any.evil.svc.cluster.local",
            A,
            "240.240.0.20",
        ),
        (
            "nobody speaks for another namespace",
            "shop",
            "api.example.org.shop.svc.cluster.local",
            A,
            "elsewhere",
        ),
        (
            "nor for its pods",
            "shop",
            "db-0.db.shop.svc.cluster.local",
            A,
            "10.0.0.0",
        ),
        (
            "nor for all names of the cluster",
            "shop",
            "any.cluster.local",
            A,
            "elsewhere",
        ),
        ("a namespace", "pay", "web.shop", A, "10.1.0.1"),
        ("svc", "pay", "web.shop.svc", A, "10.1.0.1"),
        (
            "a search domain: the namespace's",
            "shop",
            "web.pay.shop.svc.cluster.local",
            A,
            "web.pay: 10.1.0.2",
        ),
        (
            "a search domain: svc",
            "shop",
            "web.pay.svc.svc.cluster.local",
            A,
            "web.pay.svc: 10.1.0.2",
        ),
        (
            "a search domain: the cluster's",
            "shop",
            "web.pay.svc.cluster.local",
            A,
            "10.1.0.2",
        ),
        (
            "not the search domain of another",
            "pay",
            "web.pay.shop.svc.cluster.local",
            A,
            "elsewhere",
        ),
        (
            "headless: ready endpoints, on this network",
            "shop",
            "db",
            A,
            "10.0.0.0 10.0.0.1 10.0.0.9",
        ),
        ("headless: IPv6", "shop", "db", AAAA, "fd00:: fd00::1"),
        ("headless, of nobody", "shop", "none", A, ""),
        (
            "headless, of those who are not ready too",
            "shop",
            "all",
            A,
            "10.0.0.7",
        ),
        ("headless, of one family", "shop", "v4", A, "10.0.0.4"),
        ("headless, of the other family", "shop", "v4", AAAA, ""),
        (
            "a pod of a StatefulSet",
            "pay",
            "db-1.db.shop.svc.cluster.local",
            A,
            "10.0.0.1",
        ),
        ("the same, short", "shop", "db-1.db", A, "10.0.0.1"),
        (
            "the same, with its namespace",
            "pay",
            "db-1.db.shop",
            A,
            "10.0.0.1",
        ),
        (
            "the same, with svc",
            "pay",
            "db-1.db.shop.svc",
            AAAA,
            "fd00::1",
        ),
        ("one that is not ready", "shop", "db-2.db", A, "elsewhere"),
        (
            "one of a service that takes those",
            "shop",
            "db-7.all",
            A,
            "10.0.0.7",
        ),
        ("one that there is not", "shop", "db-3.db", A, "elsewhere"),
        (
            "a pod of a Deployment has no name",
            "shop",
            "web-5f7-x2.db",
            A,
            "elsewhere",
        ),
        ("but its address", "shop", "10-0-0-9.db", A, "10.0.0.9"),
        (
            "which a pod with a name does not need",
            "shop",
            "10-0-0-1.db",
            A,
            "elsewhere",
        ),
        (
            "an address that nobody has",
            "shop",
            "10-0-0-99.db",
            A,
            "elsewhere",
        ),
        (
            "a port",
            "shop",
            "_http._tcp.web.shop.svc.cluster.local",
            SRV,
            "80 web.shop.svc.cluster.local",
        ),
        (
            "a port, short",
            "shop",
            "_http._tcp.web",
            SRV,
            "80 web.shop.svc.cluster.local",
        ),
        (
            "ports of endpoints",
            "pay",
            "_http._tcp.db.shop",
            SRV,
            "8080 10-0-0-9.db.shop.svc.cluster.local 8080 db-0.db.shop.svc.cluster.local \
             8080 db-1.db.shop.svc.cluster.local",
        ),
        ("a port of nobody", "shop", "_http._tcp.none", SRV, ""),
        (
            "a port without such a name",
            "shop",
            "_admin._tcp.web",
            SRV,
            "elsewhere",
        ),
        (
            "another protocol",
            "shop",
            "_http._udp.web",
            SRV,
            "elsewhere",
        ),
        ("a service alone", "shop", "web", SRV, "known"),
        (
            "a name that nobody has",
            "shop",
            "nothing",
            SRV,
            "elsewhere",
        ),
        (
            "a port below a wildcard",
            "pay",
            "_http._tcp.a.ports.example.com.pay.svc.cluster.local",
            SRV,
            "80 a.ports.example.com",
        ),
        (
            "names of ports that nobody has said",
            "shop",
            "_http._tcp.api.example.com",
            SRV,
            "elsewhere",
        ),
        (
            "nor has an endpoint of a service with an address",
            "shop",
            "db-1.web",
            A,
            "elsewhere",
        ),
        (
            "an address on another network is no data",
            "shop",
            "far",
            A,
            "",
        ),
        ("an entry", "pay", "api.example.com", A, "240.240.0.1"),
        (
            "its IPv6 address",
            "pay",
            "api.example.com",
            AAAA,
            "2001:2::1",
        ),
        (
            "another type",
            "pay",
            "api.example.com",
            RecordType(16),
            "known",
        ),
        (
            "an entry, searched for",
            "pay",
            "api.example.com.pay.svc.cluster.local",
            A,
            "api.example.com: 240.240.0.1",
        ),
        ("a wildcard", "pay", "a.wild.example.com", A, "240.240.0.2"),
        ("below it", "pay", "a.b.wild.example.com", A, "240.240.0.2"),
        (
            "the longest of them",
            "pay",
            "a.deep.wild.example.com",
            A,
            "240.240.0.3",
        ),
        (
            "an exact name before it",
            "pay",
            "exact.wild.example.com",
            A,
            "240.240.0.4",
        ),
        (
            "a wildcard is not its own parent",
            "pay",
            "wild.example.com",
            A,
            "elsewhere",
        ),
        (
            "a wildcard asked for as it is",
            "pay",
            "*.wild.example.com",
            A,
            "240.240.0.2",
        ),
        (
            "an entry without an address",
            "shop",
            "no-address.example.com",
            A,
            "elsewhere",
        ),
        (
            "an entry that has a range",
            "shop",
            "range.example.com",
            A,
            "elsewhere",
        ),
        (
            "an entry for its own namespace",
            "pay",
            "secret.example.com",
            A,
            "240.240.0.9",
        ),
        (
            "and nobody else",
            "shop",
            "secret.example.com",
            A,
            "elsewhere",
        ),
        ("a name of the world", "shop", "example.org", A, "elsewhere"),
        (
            "a service that there is not",
            "shop",
            "nothing.shop.svc.cluster.local",
            A,
            "elsewhere",
        ),
        ("the root", "shop", "", A, "elsewhere"),
        ("only a suffix", "shop", long, A, "elsewhere"),
        ("dots", "shop", "..", A, "elsewhere"),
    ] {
        assert_eq!(
            asked(&index, namespace, name, kind),
            expected,
            "{case}: {name}"
        );
    }
}

#[test]
fn a_service_of_the_clients_namespace_comes_first() {
    let index = index([
        service("a/api.example.com", &["240.240.0.1"]).into(),
        service("b/api.example.com", &["240.240.0.2"]).into(),
    ]);
    for (namespace, address) in [
        ("a", "240.240.0.1"),
        ("b", "240.240.0.2"),
        ("c", "240.240.0.1"),
    ] {
        assert_eq!(
            asked(&index, namespace, "api.example.com", A),
            address,
            "{namespace}"
        );
    }
}

#[test]
fn addresses_are_of_the_clients_families() {
    let index = world();
    let (v4, v6) = (ip("10.0.0.50"), ip("fd00::50"));
    for (case, own, name, kind, expected) in [
        ("no IPv6", &[v4][..], "web", AAAA, ""),
        ("an entry's", &[v4], "api.example.com", AAAA, ""),
        ("IPv4", &[v4], "web", A, "10.1.0.1"),
        ("IPv6 alone", &[v6], "web", A, ""),
        ("endpoints", &[v6], "db", AAAA, "fd00:: fd00::1"),
        ("both", &[v4, v6], "web", AAAA, "fd00:1::1"),
        ("all of it", &[v4], "web", RecordType::ANY, "10.1.0.1"),
    ] {
        let found = asked_from(&index, ("shop", own), name, kind);
        assert_eq!(found, expected, "{case}");
    }
}
