use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::netlink::route::Ip;
use crate::netlink::testing::isolated;
use crate::netlink::{Mark, route};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(self::ip(ip), port)
}

fn output(rules: impl IntoIterator<Item = Rule>) -> Table {
    let chain = Chain::base("out", ChainKind::Nat, Hook::Output, priority::DSTNAT);
    let chain = rules.into_iter().fold(chain, Chain::rule);
    Table::new(Family::Inet, "test").chain(chain)
}

fn tcp() -> Rule {
    Rule::new().protocol(Protocol::Tcp)
}

/// Puts the table in force, twice, and asks the kernel whether it holds it.
fn force(table: &Table) -> Handle {
    let mut nft = Handle::open().expect("netlink opens");
    nft.replace(table).expect("accepted");
    nft.replace(table).expect("accepted again");
    assert_eq!(nft.differences(table), Ok(vec![]), "{table}");
    nft
}

/// Addresses on `lo` that connections can be translated to and from.
fn addresses(all: &[&str]) {
    let mut route = route::Handle::open().expect("netlink opens");
    for one in all {
        let net = ipnet::IpNet::from(ip(one));
        route.add_address("lo", net).expect("an address");
    }
}

fn listen(at: SocketAddr) -> TcpListener {
    TcpListener::bind(at).expect("bound")
}

/// Connects, or says at once why not.
fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(5))
}

fn original(stream: &TcpStream, v6: bool) -> SocketAddr {
    let socket = socket2::SockRef::from(stream);
    let found = if v6 {
        socket.original_dst_v6()
    } else {
        socket.original_dst_v4()
    };
    found
        .expect("the kernel knows")
        .as_socket()
        .expect("an IP address")
}

#[test]
fn redirected_connections_keep_their_original_destination() {
    isolated(|| {
        addresses(&["10.0.0.9", "fd00::9"]);
        let not_loopback = [
            tcp().not_destination(IpAddr::from(Ipv4Addr::LOCALHOST)),
            tcp().not_destination(IpAddr::from(Ipv6Addr::LOCALHOST)),
        ];
        let _nft = force(&output(not_loopback.map(|rule| rule.redirect(15001))));
        for (host, target) in [("0.0.0.0", at("10.0.0.9", 80)), ("::", at("fd00::9", 443))] {
            let proxy = listen(at(host, 15001));
            let client = connect(target).expect("captured");
            let (accepted, from) = proxy.accept().expect("accepted");
            assert_eq!(client.local_addr().expect("bound"), from);
            assert_eq!(original(&accepted, target.is_ipv6()), target);
        }
    });
}

#[test]
fn connections_spread_over_destinations() {
    isolated(|| {
        for (service, hosts, any) in [
            ("10.96.0.1", ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "0.0.0.0"),
            ("fd00:96::1", ["fd00::1", "fd00::2", "fd00::3"], "::"),
        ] {
            addresses(&hosts);
            addresses(&[service]);
            for spread in [Spread::RoundRobin, Spread::Random] {
                let endpoints: Vec<_> = (8001..).zip(hosts).map(|(p, h)| at(h, p)).collect();
                let listeners: Vec<_> = endpoints
                    .iter()
                    .map(|e| listen(at(any, e.port())))
                    .collect();
                for listener in &listeners {
                    listener.set_nonblocking(true).expect("set");
                }
                let rule = tcp().destination(ip(service)).destination_port(80);
                let mut nft = force(&output([rule.dnat_any(endpoints.clone(), spread)]));
                let mut seen = BTreeMap::new();
                let clients: Vec<_> = (0..90)
                    .map(|_| connect(at(service, 80)).expect("connected"))
                    .collect();
                for (listener, endpoint) in listeners.iter().zip(&endpoints) {
                    while let Ok((accepted, _)) = listener.accept() {
                        assert_eq!(accepted.local_addr().expect("bound"), *endpoint);
                        *seen.entry(endpoint.port()).or_insert(0) += 1;
                    }
                }
                assert_eq!(seen.values().sum::<i32>(), 90, "{seen:?}");
                assert!(seen.values().all(|count| *count > 5), "{spread:?} {seen:?}");
                if spread == Spread::RoundRobin {
                    assert!(seen.values().all(|count| *count == 30), "{seen:?}");
                }
                drop(clients);
                nft.remove(Family::Inet, "test").expect("removed");
            }
        }
    });
}

#[test]
fn one_destination_needs_no_map_and_sources_are_translated() {
    isolated(|| {
        addresses(&["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]);
        addresses(&["169.254.7.127", "fd16::7"]);
        for (service, endpoint, source) in [
            ("10.0.0.2", at("10.0.0.1", 81), "169.254.7.127"),
            ("fd00::2", at("fd00::1", 81), "fd16::7"),
        ] {
            let post = Chain::base("post", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT);
            let of_sockets = tcp().destination_port(81).from_socket();
            let table = output([tcp()
                .destination(ip(service))
                .destination_port(80)
                .dnat(endpoint)])
            .chain(post.rule(of_sockets.snat(ip(source))));
            let _nft = force(&table);
            let server = listen(endpoint);
            let mut client = connect(at(service, 80)).expect("connected");
            let (mut accepted, from) = server.accept().expect("accepted");
            assert_eq!(from.ip(), ip(source));
            client.write_all(b"there").expect("sent");
            accepted.write_all(b"back").expect("sent");
            let mut text = [0; 5];
            accepted.read_exact(&mut text).expect("received");
            client.read_exact(&mut text[..4]).expect("received");
            assert_eq!(&text, b"backe");
        }
    });
}

#[test]
fn sets_and_verdict_maps_decide() {
    isolated(|| {
        addresses(&["10.0.0.1", "fd00::1"]);
        let key = [KeyType::Ipv4, KeyType::Protocol, KeyType::Port];
        let fields = [
            Field::Address(route::Ip::V4, Side::Destination),
            Field::Protocol,
            Field::Port(Side::Destination),
        ];
        let of = |port| {
            [
                Key::Ip(ip("10.0.0.1")),
                Key::Protocol(Protocol::Tcp),
                Key::Port(port),
            ]
        };
        let services = Set::verdict_map("services", key)
            .mapping(of(80), Verdict::Jump("web".into()))
            .mapping(of(82), Verdict::Accept);
        let ports = Set::new("ports", [KeyType::Port]).element([Key::Port(90)]);
        let table = output([
            Rule::new().action(Action::VerdictMap(fields.to_vec(), "services".into())),
            tcp()
                .in_set([Field::Port(Side::Destination)], "ports")
                .redirect(8090),
            tcp()
                .destination(ip("fd00::1"))
                .not_in_set([Field::Port(Side::Destination)], "ports")
                .redirect(8091),
        ])
        .chain(Chain::regular("web").rule(tcp().redirect(8080)))
        .set(services)
        .set(ports);
        let mut nft = force(&table);
        let reaches = |to: SocketAddr, port: u16| {
            let server = listen(at("::", port));
            let client = connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
            let (_, from) = server.accept().expect("accepted");
            assert_eq!(from.port(), client.local_addr().expect("bound").port());
        };
        reaches(at("10.0.0.1", 80), 8080);
        reaches(at("10.0.0.1", 82), 82);
        reaches(at("10.0.0.1", 90), 8090);
        reaches(at("fd00::1", 91), 8091);
        let more = |port| Element {
            key: vec![Key::Port(port)],
            verdict: None,
        };
        let many: Vec<_> = (1000..3000).map(more).collect();
        nft.commit(Batch::new().add_elements(Family::Inet, "test", "ports", &many))
            .expect("added");
        reaches(at("10.0.0.1", 2999), 8090);
        nft.commit(Batch::new().delete_elements(Family::Inet, "test", "ports", &many))
            .expect("deleted");
        reaches(at("10.0.0.1", 2999), 2999);
    });
}

#[test]
fn marks_are_masked_and_restored_from_the_connection() {
    isolated(|| {
        addresses(&["10.0.0.1"]);
        let proxy = Mark {
            value: 0x539,
            mask: 0xfff,
        };
        let tracked = Mark {
            value: 0x111,
            mask: 0xfff,
        };
        let counted = |m: Mark| Rule::new().mark(m).counter();
        let table = Table::new(Family::Inet, "test")
            .chain(
                Chain::base("pre", ChainKind::Filter, Hook::Prerouting, priority::MANGLE)
                    .rule(Rule::new().mark(proxy).set_connection_mark(tracked)),
            )
            .chain(
                Chain::base("out", ChainKind::Route, Hook::Output, priority::MANGLE)
                    .rule(Rule::new().connection_mark(tracked).restore_mark())
                    // The reply is refused when, and only when, the mark came back with it.
                    .rule(tcp().source_port(80).mark(tracked).reset())
                    .rule(counted(Mark {
                        value: 0,
                        mask: u32::MAX,
                    })),
            );
        let _nft = force(&table);
        let server = listen(at("10.0.0.1", 80));
        connect(at("10.0.0.1", 80)).expect("unmarked traffic passes");
        drop(server.accept());
        let marked = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        marked
            .set_mark(0xa539)
            .expect("root of the namespace marks");
        marked
            .set_tcp_user_timeout(Some(Duration::from_millis(300)))
            .expect("set");
        marked
            .connect(&at("10.0.0.1", 80).into())
            .expect_err("the reply carried the mark");
    });
}

#[test]
fn filters_reject_and_leave_untracked() {
    isolated(|| {
        let loopback = [
            Ipv4Addr::LOCALHOST.into(),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        let _open = loopback.map(|host| [81, 82, 83].map(|p| listen(SocketAddr::new(host, p))));
        for family in [Family::Inet, Family::Ip, Family::Ip6] {
            let input = Chain::base("in", ChainKind::Filter, Hook::Input, priority::FILTER)
                .rule(tcp().destination_port(81).reset())
                .rule(tcp().destination_port(82).reject())
                .rule(tcp().counter().accept());
            let udp = |port| Rule::new().protocol(Protocol::Udp).destination_port(port);
            let raw = Chain::base("raw", ChainKind::Filter, Hook::Prerouting, priority::RAW)
                .rule(udp(5005).action(Action::NoTrack))
                .rule(udp(53).action(Action::Zone(1)))
                .rule(udp(54).action(Action::OriginalZone(2)));
            let mut nft = force(&Table::new(family, "test").chain(input).chain(raw));
            for host in loopback
                .into_iter()
                .filter(|host| family.sees(Ip::of(*host)))
            {
                for port in [81, 82] {
                    let refused = connect(SocketAddr::new(host, port)).expect_err("refused");
                    let kind = std::io::ErrorKind::ConnectionRefused;
                    assert_eq!(refused.kind(), kind, "{family} {host} {port}");
                }
                connect(SocketAddr::new(host, 83)).expect("accepted");
            }
            nft.remove(family, "test").expect("removed");
        }
    });
}

#[test]
fn a_policy_drops_what_no_rule_lets_in() {
    isolated(|| {
        let udp = Rule::new().input("lo").protocol(Protocol::Udp);
        let input = Chain::base("in", ChainKind::Filter, Hook::Input, priority::FILTER)
            .policy_drop()
            .rule(udp.destination_ports(5000, 5010).accept());
        let _nft = force(&Table::new(Family::Inet, "test").chain(input));
        let sockets = [4999, 5000, 5010, 5011]
            .map(|port| UdpSocket::bind(at("127.0.0.1", port)).expect("bound"));
        for socket in &sockets {
            socket.set_nonblocking(true).expect("set");
            let to = socket.local_addr().expect("bound");
            sockets[0].send_to(b"in", to).expect("sent");
        }
        // Over lo a datagram is received before its sending returns.
        let received = sockets.map(|socket| socket.recv(&mut [0; 8]).is_ok());
        assert_eq!(received, [false, true, true, false]);
    });
}

#[test]
fn differences_are_found() {
    isolated(|| {
        let first = tcp().destination_port(1).redirect(2).comment("one to two");
        let second = tcp().destination_port(3).accept();
        let table = output([first.clone(), second.clone()]);
        let place = "table inet test";
        let mut nft = Handle::open().expect("netlink opens");
        let mut differ = |held: Option<Table>| {
            match held {
                Some(held) => nft.replace(&held),
                None => nft.remove(Family::Inet, "test"),
            }
            .expect("accepted");
            nft.differences(&table).expect("listed")
        };
        assert_eq!(differ(Some(table.clone())), Vec::<String>::new());
        assert_eq!(differ(None), [format!("{place} is missing")]);
        let other = Chain::base("other", ChainKind::Nat, Hook::Output, 0);
        let other = Table::new(Family::Inet, "test").chain(other);
        assert_eq!(
            differ(Some(other)),
            [format!("{place}: chain out is missing")]
        );
        assert_eq!(
            differ(Some(output([first.clone()]))),
            [format!(
                "{place}: rule 2 of chain out is missing: meta l4proto tcp th dport 3 accept"
            )]
        );
        assert_eq!(
            differ(Some(output([
                first.clone(),
                second.clone(),
                second.clone()
            ]))),
            [format!(
                "{place}: chain out has 1 rules that do not belong there"
            )]
        );
        for held in [
            second.clone().comment("something else").counter(),
            tcp().destination_port(4).accept(),
            tcp().destination_port(3).drop(),
        ] {
            assert_eq!(
                differ(Some(output([first.clone(), held]))),
                [format!(
                    "{place}: rule 2 of chain out is not: meta l4proto tcp th dport 3 accept"
                )]
            );
        }
        let mut early = table.clone();
        early.chains[0].base = early.chains[0].base.map(|base| Base {
            priority: -101,
            ..base
        });
        assert_eq!(
            differ(Some(early)),
            [format!("{place}: chain out has another hook")]
        );
    });
}

#[test]
fn refusals_name_the_rule_and_change_nothing() {
    isolated(|| {
        let good = output([tcp().destination_port(1).redirect(2)]);
        let mut nft = force(&good);
        let bad = output([tcp().accept(), tcp().jump("nowhere")]);
        let error = nft.replace(&bad).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "add rule inet test out: meta l4proto tcp jump nowhere: No such file or directory"
        );
        assert!(error.is_absent());
        assert_eq!(nft.differences(&good), Ok(vec![]));
        let cases = [
            (
                Rule::new().dnat_any([], Spread::Random),
                "dnat has no destination",
            ),
            (
                Rule::new().dnat_any([at("10.0.0.1", 1), at("::1", 1)], Spread::Random),
                "the destinations of dnat are of both families",
            ),
            (
                tcp().destination_ports(3, 2),
                "the range of ports 3-2 is empty",
            ),
            (
                Rule::new().output("a-name-of-sixteen").accept(),
                "no device can have the name",
            ),
        ];
        for (rule, reason) in cases {
            let error = nft
                .replace(&output([rule]))
                .expect_err("refused")
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
        nft.remove(Family::Inet, "test").expect("removed");
        nft.remove(Family::Inet, "test").expect("absent is fine");
    });
}

#[test]
fn a_thousand_services_are_one_transaction() {
    isolated(|| {
        let service = |number: u16| {
            let to: Vec<_> = (1..=4).map(|n| at("10.1.0.1", number + n)).collect();
            let [high, low] = number.to_be_bytes();
            let vip = IpAddr::from([10, 96, high, low]);
            tcp()
                .destination(vip)
                .destination_port(80)
                .dnat_any(to, Spread::Random)
        };
        let table = output((0..1000).map(service));
        let nft = force(&table);
        drop(nft);
    });
}

#[test]
fn descriptions_read_like_nft() {
    let mark = Mark {
        value: 0x111,
        mask: 0xfff,
    };
    let pods = Set::new("pods", [KeyType::Ipv4, KeyType::Port])
        .element([Key::Ip(ip("10.0.0.1")), Key::Port(80)]);
    let rules = [
        tcp()
            .not_source("10.0.0.0/8".parse::<ipnet::IpNet>().expect("a network"))
            .not_mark(mark)
            .redirect(15001)
            .comment("why"),
        tcp()
            .destination_ports(1, 9)
            .dnat_any([at("10.0.0.1", 1), at("10.0.0.2", 2)], Spread::RoundRobin),
        Rule::new().connection_mark(mark).restore_mark(),
        Rule::new().set_connection_mark(mark).drop(),
        Rule::new()
            .not_output("lo")
            .in_set(
                [
                    Field::Address(route::Ip::V4, Side::Source),
                    Field::Port(Side::Source),
                ],
                "pods",
            )
            .snat(ip("fd00::1")),
    ];
    assert_eq!(
        output(rules).set(pods).to_string(),
        r#"table inet test {
  set pods {
    type ipv4_addr . inet_service
    10.0.0.1 . 80
  }
  chain out {
    type nat hook output priority -100; policy accept;
    meta l4proto tcp ip saddr != 10.0.0.0/8 meta mark & 0xfff != 0x111 redirect to :15001 comment "why"
    meta l4proto tcp th dport 1-9 dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1 . 1, 1 : 10.0.0.2 . 2 }
    ct mark & 0xfff == 0x111 meta mark set ct mark
    ct mark set ct mark & 0xfffff000 | 0x111 drop
    oifname != "lo" ip saddr . th sport @pods snat ip6 to fd00::1
  }
}
"#
    );
}
