use ambit_proto::security as sec;
use ambit_proto::workload as proto;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::fixtures::{by_hostname, identity, key, pod, policy, service, vip};
use crate::index::Change;
use crate::model::policy::Scope;
use crate::model::service::{IpFamilies, Mode, Scope as Near};
use crate::model::{
    Action, AuthorizationPolicy, Match, Service, ServiceAccountMatch, StringMatch, Workload,
};

type Breakage<T> = (&'static str, fn(&mut T));

fn rejected<T, M>(wire: &T, breakages: &[Breakage<T>], convert: impl Fn(&T) -> Result<M, String>)
where
    T: Clone,
{
    assert_eq!(convert(wire).err(), None, "the base is valid");
    for (expected, breakage) in breakages {
        let mut broken = wire.clone();
        breakage(&mut broken);
        match convert(&broken) {
            Ok(_) => panic!("accepted, expected: {expected}"),
            Err(error) => assert_eq!(error, *expected),
        }
    }
}

fn message(error: ConvertError) -> String {
    error.to_string()
}

fn full_match() -> Match {
    let exact = || vec![StringMatch::Exact("a".into())];
    let nets = || vec!["10.0.0.0/8".parse().expect("a net")];
    let accounts = || {
        vec![ServiceAccountMatch {
            namespace: "ns".into(),
            service_account: "sa".into(),
        }]
    };
    Match {
        namespaces: exact(),
        not_namespaces: vec![StringMatch::Presence],
        principals: vec![StringMatch::Prefix("p".into())],
        not_principals: vec![StringMatch::Suffix("s".into())],
        source_ips: nets(),
        not_source_ips: nets(),
        destination_ips: vec!["fd00::/16".parse().expect("a net")],
        not_destination_ips: nets(),
        destination_ports: vec![80],
        not_destination_ports: vec![443],
        service_accounts: accounts(),
        not_service_accounts: accounts(),
    }
}

fn first(wire: &mut sec::Authorization) -> &mut sec::Match {
    &mut wire.rules[0].clauses[0].matches[0]
}

#[test]
fn one_bad_value_rejects_the_whole_policy() {
    const M: &str = "rules[0].clauses[0].matches[0]";
    let wire = sec::Authorization::from(&policy("ns/p", vec![full_match()]));
    let breakages: [Breakage<sec::Authorization>; 16] = [
        ("scope: expected a known scope, found 9", |w| w.scope = 9),
        ("action: expected ALLOW or DENY, found 9", |w| w.action = 9),
        (
            "M.namespaces[0]: expected exact, prefix, suffix or presence, found ()",
            |w| first(w).namespaces[0].match_type = None,
        ),
        (
            "M.not_namespaces[0]: expected exact, prefix, suffix or presence, found ()",
            |w| first(w).not_namespaces[0].match_type = None,
        ),
        (
            "M.principals[1]: expected exact, prefix, suffix or presence, found ()",
            |w| first(w).principals.push(sec::StringMatch::default()),
        ),
        (
            "M.not_principals[0]: expected exact, prefix, suffix or presence, found ()",
            |w| first(w).not_principals[0].match_type = None,
        ),
        (
            "M.source_ips[0].address: expected an IP address of 4 or 16 bytes, found [1, 2, 3]",
            |w| first(w).source_ips[0].address = vec![1, 2, 3].into(),
        ),
        (
            "M.not_source_ips[0].length: expected a prefix length the address allows, found 33",
            |w| first(w).not_source_ips[0].length = 33,
        ),
        (
            "M.destination_ips[0].length: expected a prefix length the address allows, found 129",
            |w| first(w).destination_ips[0].length = 129,
        ),
        (
            "M.not_destination_ips[0].address: expected an IP address of 4 or 16 bytes, found []",
            |w| first(w).not_destination_ips[0].address = Vec::new().into(),
        ),
        (
            "M.destination_ports[0]: expected a port of 1 to 65535, found 70000",
            |w| first(w).destination_ports[0] = 70_000,
        ),
        (
            "M.not_destination_ports[0]: expected a port of 1 to 65535, found 0",
            |w| first(w).not_destination_ports[0] = 0,
        ),
        (
            "M.service_accounts[0]: expected a namespace and a service account, found \"ns/\"",
            |w| first(w).service_accounts[0].service_account.clear(),
        ),
        (
            "M.not_service_accounts[0]: expected a namespace and a service account, found \"/sa\"",
            |w| first(w).not_service_accounts[0].namespace.clear(),
        ),
        (
            "namespace, name: expected a namespace and a name without slashes, found \"ns/a/b\"",
            |w| w.name = "a/b".into(),
        ),
        (
            "namespace, name: expected a namespace and a name without slashes, found \"/p\"",
            |w| w.namespace.clear(),
        ),
    ];
    rejected(&wire, &breakages, |wire| {
        AuthorizationPolicy::try_from(wire).map_err(|error| {
            let shown = error.to_string().replace(M, "M");
            let resource = format!("{}/{}: ", wire.namespace, wire.name);
            shown.strip_prefix(&resource).unwrap_or(&shown).to_owned()
        })
    });
}

#[test]
fn a_bad_workload_is_rejected() {
    let mut model = pod("web", &["10.0.0.1"]).serving("ns/web.ns", &[(80, 8080)]);
    model.waypoint = Some(by_hostname("ns/waypoint"));
    model.authorization_policies = vec![key("ns/p")];
    let wire = proto::Workload::from(&model);
    let breakages: [Breakage<proto::Workload>; 12] = [
        (
            "ns/web: uid: expected cluster/group/kind/namespace/name, found \"ns/web\"",
            |w| w.uid = "ns/web".into(),
        ),
        (
            "U: addresses[1]: expected an IP address of 4 or 16 bytes, found [1]",
            |w| w.addresses.push(vec![1].into()),
        ),
        (
            "U: tunnel_protocol: expected a known tunnel protocol, found 7",
            |w| w.tunnel_protocol = 7,
        ),
        ("U: status: expected HEALTHY or UNHEALTHY, found 7", |w| {
            w.status = 7
        }),
        (
            "U: network_mode: expected a known network mode, found 7",
            |w| w.network_mode = 7,
        ),
        (
            "U: waypoint.destination: expected a hostname or address, found ()",
            |w| w.waypoint = Some(proto::GatewayAddress::default()),
        ),
        (
            "U: waypoint.hbone_mtls_port: expected a port of 1 to 65535, found 0",
            |w| w.waypoint.as_mut().expect("set").hbone_mtls_port = 0,
        ),
        (
            "U: authorization_policies[0]: expected namespace/name, found \"p\"",
            |w| w.authorization_policies[0] = "p".into(),
        ),
        (
            "U: services[\"ns/web.ns\"].ports[0].target_port: expected a port of 1 to 65535, \
             found 65536",
            |w| {
                let ports = w.services.values_mut().next().expect("one");
                ports.ports[0].target_port = 65_536;
            },
        ),
        (
            "U: services: expected namespace/hostname, found \"web\"",
            |w| {
                w.services.insert("web".into(), proto::PortList::default());
            },
        ),
        (
            "U: application_tunnel.protocol: expected NONE or PROXY, found 5",
            |w| {
                w.application_tunnel = Some(proto::ApplicationTunnel {
                    protocol: 5,
                    port: 0,
                });
            },
        ),
        (
            "U: trust_domain, namespace, service_account: expected the parts of a SPIFFE id, \
             found (\"cluster.local\", \"ns\", \"a/b\")",
            |w| w.service_account = "a/b".into(),
        ),
    ];
    rejected(&wire, &breakages, |wire| {
        Workload::try_from(wire).map_err(|error| {
            let shown = error.to_string();
            shown.replace("Kubernetes//Pod/ns/web", "U")
        })
    });
}

#[test]
fn a_bad_service_is_rejected() {
    let mut model = service("ns/web.ns", &["10.1.0.1"]);
    model.load_balancing.mode = Mode::Strict;
    model.load_balancing.preference = vec![Near::Zone];
    let wire = proto::Service::from(&model);
    let breakages: [Breakage<proto::Service>; 8] = [
        (
            "ns/web.ns: addresses[0].address: expected an IP address of 4 or 16 bytes, \
             found [1, 2, 3, 4, 5]",
            |w| w.addresses[0].address = vec![1, 2, 3, 4, 5].into(),
        ),
        (
            "ns/web.ns: addresses[0].length: expected a prefix length the address allows, \
             found 40",
            |w| w.addresses[0].length = Some(40),
        ),
        (
            "ns/web.ns: ports[0].service_port: expected a port of 1 to 65535, found 0",
            |w| w.ports[0].service_port = 0,
        ),
        (
            "ns/web.ns: subject_alt_names[0]: expected a SPIFFE id, found \"web\"",
            |w| w.subject_alt_names.push("web".into()),
        ),
        (
            "ns/web.ns: load_balancing.mode: expected a known mode, found 9",
            |w| w.load_balancing.as_mut().expect("set").mode = 9,
        ),
        (
            "ns/web.ns: load_balancing.routing_preference[0]: expected a known scope, found 0",
            |w| w.load_balancing.as_mut().expect("set").routing_preference[0] = 0,
        ),
        (
            "ns/web.ns: visibility: expected PUBLIC or NAMESPACE, found 4",
            |w| w.visibility = 4,
        ),
        (
            "ns/: namespace, hostname: expected a namespace and a name without slashes, \
             found \"ns/\"",
            |w| w.hostname.clear(),
        ),
    ];
    rejected(&wire, &breakages, |wire| {
        Service::try_from(wire).map_err(message)
    });
}

#[test]
fn elided_values_have_their_defaults() {
    let wire = proto::Workload {
        uid: "c//Pod/ns/a".into(),
        namespace: "ns".into(),
        ..proto::Workload::default()
    };
    let workload = Workload::try_from(&wire).expect("valid");
    assert_eq!(workload.identity, identity("ns", "default"));
    assert_eq!(&*workload.cluster_id, "Kubernetes");
    assert_eq!(workload.capacity, 1);
}

#[test]
fn mapped_prefixes_are_ipv4_ones() {
    let mapped = |length| sec::Address {
        address: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 2, 3].into(),
        length,
    };
    let mut wire = sec::Authorization::from(&policy("ns/p", vec![Match::default()]));
    first(&mut wire).source_ips = vec![mapped(104), mapped(128)];
    let decoded = AuthorizationPolicy::try_from(&wire).expect("valid");
    let nets = &decoded.rules[0].clauses[0].matches[0].source_ips;
    let shown: Vec<String> = nets.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "10.1.2.3/32"]);
    first(&mut wire).source_ips = vec![mapped(64)];
    assert!(AuthorizationPolicy::try_from(&wire).is_err());
}

#[test]
fn the_heaviest_of_weighted_waypoints_binds() {
    let mut wire = proto::Service::from(&service("ns/web", &[]));
    for (name, weight) in [("ns/w1", 1), ("ns/w2", 9), ("ns/w3", 9)] {
        wire.weighted_waypoints.push(proto::WeightedWaypoint {
            destination: Some((&by_hostname(name)).into()),
            weight,
        });
    }
    let decoded = Service::try_from(&wire).expect("valid");
    assert_eq!(decoded.waypoint, Some(by_hostname("ns/w2")));
    assert_eq!(decoded.weighted_waypoints.len(), 3);
    wire.waypoint = Some((&by_hostname("ns/w1")).into());
    let decoded = Service::try_from(&wire).expect("valid");
    assert_eq!(decoded.waypoint, Some(by_hostname("ns/w1")), "it is said");
    let all: Vec<_> = decoded.waypoints().cloned().collect();
    assert_eq!(all, ["ns/w1", "ns/w2", "ns/w3"].map(by_hostname));
    wire.weighted_waypoints[1].destination = None;
    let error = Service::try_from(&wire).map_err(message);
    let error = error.expect_err("weighted nothing");
    assert!(
        error.contains("weighted_waypoints[1].destination"),
        "{error}"
    );
}

#[test]
fn resources_become_changes_under_their_own_name() {
    let web = pod("web", &["10.0.0.1"]);
    let bytes = proto::Address::from(&web).encode_to_vec();
    let change = address_change(&web.uid, &bytes);
    assert_eq!(change, Ok(Change::from(web)));
    let error = address_change("c//Pod/ns/other", &bytes).map_err(message);
    assert_eq!(
        error,
        Err("c//Pod/ns/other: name: expected the name of the resource, \
             found \"Kubernetes//Pod/ns/web\""
            .to_owned())
    );
    let error = address_change("ns/a", &[0xff]).map_err(|error| error.resource);
    assert_eq!(error, Err("ns/a".to_owned()));
    assert!(decode_address(&[]).is_err(), "an empty oneof");
}

#[test]
fn a_broken_policy_is_still_a_change() {
    let mut wire = sec::Authorization::from(&policy("ns/p", vec![full_match()]));
    wire.scope = sec::Scope::WorkloadSelector.into();
    first(&mut wire).destination_ports = vec![0];
    let cases = [
        (
            "bad value",
            "ns/p",
            wire.encode_to_vec(),
            Some(Scope::WorkloadSelector),
            "ns/p",
        ),
        ("garbage", "ns/p", vec![0xff, 0xff], None, "ns/p"),
        (
            "another name",
            "ns/q",
            wire.encode_to_vec(),
            Some(Scope::WorkloadSelector),
            "ns/q",
        ),
        ("no name", "???", vec![0xff], Some(Scope::Global), "/???"),
    ];
    for (case, name, bytes, scope, shown) in cases {
        let (change, error) = authorization_change(name, &bytes);
        let Change::UndecodablePolicy(policy) = change else {
            panic!("{case}: {change:?}");
        };
        assert_eq!(policy.scope, scope, "{case}");
        assert_eq!(policy.key.to_string(), shown, "{case}");
        assert_eq!(policy.key, policy_key(name), "{case}");
        assert_eq!(error.map(|e| e.resource).as_deref(), Some(name), "{case}");
    }
    let good = policy("ns/p", vec![full_match()]);
    let bytes = sec::Authorization::from(&good).encode_to_vec();
    assert_eq!(authorization_change("ns/p", &bytes), (good.into(), None));
}

mod strategies {
    use std::net::IpAddr;
    use std::sync::Arc;

    use ipnet::IpNet;

    use super::*;
    use crate::model::{AppProtocol, LoadBalancing};
    use crate::model::{
        ApplicationTunnel, Clause, Destination, GatewayAddress, Health, Locality, NetworkMode,
        PortMapping, PortName, Rule, TunnelProtocol, WeightedWaypoint, WorkloadType,
    };

    fn name() -> impl Strategy<Value = Arc<str>> {
        "[a-z][a-z0-9.-]{0,8}".prop_map(Into::into)
    }

    fn text() -> impl Strategy<Value = Arc<str>> {
        "[ -~é]{0,6}".prop_map(Into::into)
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        any::<IpAddr>().prop_map(|ip| ip.to_canonical())
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (ip(), 0..=128u8).prop_map(|(ip, length)| {
            let max = if ip.is_ipv4() { 32 } else { 128 };
            let net = IpNet::new(ip, length.min(max)).expect("in range").trunc();
            // What is left of an IPv6 prefix may read as an IPv4-mapped one: not canonical.
            match net.addr().to_canonical() {
                canonical if canonical == net.addr() => net,
                canonical => canonical.into(),
            }
        })
    }

    fn named() -> impl Strategy<Value = crate::addr::NamespacedName> {
        (name(), name())
            .prop_map(|(namespace, name)| crate::addr::NamespacedName::new(namespace, name))
    }

    fn string_match() -> impl Strategy<Value = StringMatch> {
        prop_oneof![
            text().prop_map(StringMatch::Exact),
            text().prop_map(StringMatch::Prefix),
            text().prop_map(StringMatch::Suffix),
            Just(StringMatch::Presence),
        ]
    }

    fn some<S: Strategy>(strategy: S) -> impl Strategy<Value = Vec<S::Value>> {
        proptest::collection::vec(strategy, 0..3)
    }

    fn account() -> impl Strategy<Value = ServiceAccountMatch> {
        (name(), name()).prop_map(|(namespace, service_account)| ServiceAccountMatch {
            namespace,
            service_account,
        })
    }

    fn one_match() -> impl Strategy<Value = Match> {
        let texts = || (some(string_match()), some(string_match()));
        let nets = || (some(net()), some(net()));
        let ports = (some(1..=u16::MAX), some(1..=u16::MAX));
        let accounts = (some(account()), some(account()));
        (texts(), texts(), nets(), nets(), ports, accounts).prop_map(|(n, p, s, d, ports, a)| {
            Match {
                namespaces: n.0,
                not_namespaces: n.1,
                principals: p.0,
                not_principals: p.1,
                source_ips: s.0,
                not_source_ips: s.1,
                destination_ips: d.0,
                not_destination_ips: d.1,
                destination_ports: ports.0,
                not_destination_ports: ports.1,
                service_accounts: a.0,
                not_service_accounts: a.1,
            }
        })
    }

    pub(super) fn any_policy() -> impl Strategy<Value = AuthorizationPolicy> {
        let clause = some(one_match()).prop_map(|matches| Clause { matches });
        let rule = some(clause).prop_map(|clauses| Rule { clauses });
        let scope = prop_oneof![
            Just(Scope::Global),
            Just(Scope::Namespace),
            Just(Scope::WorkloadSelector)
        ];
        let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
        (named(), scope, action, some(rule), any::<bool>()).prop_map(
            |(key, scope, action, rules, dry_run)| AuthorizationPolicy {
                key,
                scope,
                action,
                rules,
                dry_run,
            },
        )
    }

    fn gateway() -> impl Strategy<Value = GatewayAddress> {
        let destination = prop_oneof![
            named().prop_map(Destination::Hostname),
            (text(), ip()).prop_map(|(network, ip)| Destination::Address(
                crate::addr::NetworkAddr::new(network, ip)
            )),
        ];
        (destination, 1..=u16::MAX).prop_map(|(destination, hbone_port)| GatewayAddress {
            destination,
            hbone_port,
        })
    }

    fn mapping() -> impl Strategy<Value = PortMapping> {
        let app = prop_oneof![Just(AppProtocol::Unknown), Just(AppProtocol::Http2)];
        (1..=u16::MAX, any::<u16>(), app).prop_map(|(service_port, target_port, app_protocol)| {
            PortMapping {
                service_port,
                target_port,
                app_protocol,
            }
        })
    }

    fn locality() -> impl Strategy<Value = Locality> {
        (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality {
            region,
            zone,
            subzone,
        })
    }

    pub(super) fn any_workload() -> impl Strategy<Value = Workload> {
        let who = (name(), name(), name(), name(), text(), text());
        let place = (some(ip()), text(), locality(), any::<bool>(), any::<bool>());
        let protocol = prop_oneof![
            Just(TunnelProtocol::None),
            Just(TunnelProtocol::Hbone),
            Just(TunnelProtocol::LegacyIstioMtls)
        ];
        let kind = prop_oneof![Just(WorkloadType::CronJob), Just(WorkloadType::Pod)];
        let gateways = (
            proptest::option::of(gateway()),
            proptest::option::of(gateway()),
        );
        let serves = proptest::collection::btree_map(named(), some(mapping()), 0..3);
        let tunnel = proptest::option::of(proptest::option::of(1..=u16::MAX));
        let more = (serves, some(named()), tunnel, 1..9u32, any::<bool>());
        (who, place, protocol, kind, gateways, more).prop_map(
            |(who, place, tunnel_protocol, workload_type, gateways, more)| Workload {
                uid: format!("c//Pod/{}/{}", who.0, who.1).into(),
                name: who.1,
                namespace: who.0.clone(),
                addresses: place.0,
                hostname: place.1.clone(),
                network: place.1,
                identity: crate::identity::Identity::new(who.2, who.0, who.3).expect("valid"),
                tunnel_protocol,
                native_tunnel: place.3,
                waypoint: gateways.0,
                network_gateway: gateways.1,
                node: who.4.clone(),
                cluster_id: if who.5.is_empty() {
                    "Kubernetes".into()
                } else {
                    who.5.clone()
                },
                canonical_name: who.4.clone(),
                canonical_revision: who.5,
                workload_type,
                workload_name: who.4,
                authorization_policies: more.1,
                health: if place.4 {
                    Health::Healthy
                } else {
                    Health::Unhealthy
                },
                udp_ports: more
                    .0
                    .iter()
                    .map(|(key, ports)| (key.clone(), of_udp(ports)))
                    .filter(|(_, ports)| !ports.is_empty())
                    .collect(),
                takes_udp: more.4,
                services: more.0.into_iter().collect(),
                application_tunnel: more.2.map(|port| ApplicationTunnel { port }),
                locality: place.2,
                network_mode: if more.4 {
                    NetworkMode::HostNetwork
                } else {
                    NetworkMode::Standard
                },
                capacity: more.3,
            },
        )
    }

    /// The same ports of UDP.
    fn of_udp(ports: &[PortMapping]) -> Vec<PortMapping> {
        let undeclared = |port: &PortMapping| PortMapping {
            app_protocol: AppProtocol::Unknown,
            ..*port
        };
        ports.iter().map(undeclared).collect()
    }

    pub(super) fn any_service() -> impl Strategy<Value = Service> {
        let vips =
            some((text(), net()).prop_map(|(network, net)| crate::model::Vip { network, net }));
        let mode = prop_oneof![
            Just(Mode::Unspecified),
            Just(Mode::Strict),
            Just(Mode::Failover),
            Just(Mode::Passthrough)
        ];
        let preference = some(prop_oneof![Just(Near::Region), Just(Near::Network)]);
        let how = (preference, mode, any::<(bool, bool)>()).prop_map(
            |(preference, mode, (allow_unhealthy, client_affinity))| LoadBalancing {
                preference,
                mode,
                allow_unhealthy,
                client_affinity,
            },
        );
        let flags = any::<(bool, bool, bool, bool, bool)>();
        let waypoint = proptest::option::of(gateway());
        let weighted = some((gateway(), any::<u32>()));
        let waypoints = (waypoint, weighted);
        (
            text(),
            named(),
            vips,
            some(mapping()),
            waypoints,
            how,
            flags,
        )
            .prop_map(
                |(name, key, vips, ports, (waypoint, weighted), load_balancing, flags)| {
                    // Those of a service that is bound to none have no share.
                    let bound = u32::from(waypoint.is_some());
                    let weighted = weighted
                        .into_iter()
                        .map(|(waypoint, weight)| WeightedWaypoint {
                            waypoint,
                            weight: weight * bound,
                        })
                        .collect();
                    let named = ports
                        .iter()
                        .filter(|_| flags.3)
                        .map(|it: &PortMapping| PortName {
                            port: it.service_port,
                            name: name.clone(),
                        })
                        .collect();
                    Service {
                        name,
                        key,
                        vips,
                        udp_ports: of_udp(&ports),
                        ports,
                        subject_alt_names: vec![identity("ns", "san")],
                        waypoint,
                        load_balancing,
                        canonical: flags.0,
                        ingress_use_waypoint: flags.1,
                        namespace_private: flags.2,
                        weighted_waypoints: weighted,
                        waypoint_bypass: flags.3,
                        takes_direct: flags.4,
                        ip_families: match (flags.0, flags.1) {
                            (false, false) => IpFamilies::Automatic,
                            (true, false) => IpFamilies::V4,
                            (false, true) => IpFamilies::V6,
                            (true, true) => IpFamilies::Dual,
                        },
                        port_names: named,
                    }
                },
            )
    }
}

proptest! {
    #[test]
    fn policies_survive_the_wire(policy in strategies::any_policy()) {
        let bytes = sec::Authorization::from(&policy).encode_to_vec();
        prop_assert_eq!(decode_authorization(&bytes), Ok(policy));
    }

    #[test]
    fn workloads_survive_the_wire(workload in strategies::any_workload()) {
        let bytes = proto::Address::from(&workload).encode_to_vec();
        prop_assert_eq!(decode_address(&bytes), Ok(Address::Workload(workload.into())));
    }

    #[test]
    fn services_survive_the_wire(service in strategies::any_service()) {
        let bytes = proto::Address::from(&service).encode_to_vec();
        prop_assert_eq!(decode_address(&bytes), Ok(Address::Service(service.into())));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_address(&bytes);
        let _ = authorization_change("ns/p", &bytes);
    }
}

#[test]
fn ranges_keep_their_length() {
    let wire = proto::Service::from(&service("ns/a", &["10.1.0.1", "10.2.0.0/16"]));
    let lengths: Vec<Option<u32>> = wire.addresses.iter().map(|a| a.length).collect();
    assert_eq!(lengths, [None, Some(16)]);
    let decoded = Service::try_from(&wire).expect("valid");
    assert_eq!(decoded.vips, [vip("10.1.0.1"), vip("10.2.0.0/16")]);
}
