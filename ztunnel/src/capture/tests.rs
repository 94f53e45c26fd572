use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_core::exclusions::Exclusions;
use ambit_net::netlink::conntrack;
use ambit_net::netlink::route::{Handle, Ip, Route};
use ambit_net::netlink::testing::{isolated, namespace, within};
use ambit_net::sys::{Netns, PROXY_MARK, Sockets};
use socket2::{Domain, Protocol, Socket, Type};

use super::*;

mod exclusions;
mod flows;
mod machine;

fn with_dns() -> Options {
    Options {
        dns: true,
        ..Options::default()
    }
}

/// Ports 80 and 9090 of the pod, port 443 elsewhere, and two ranges of addresses.
fn excluding() -> Options {
    let ranges = ["192.0.2.0/24", "2001:db8::/32"];
    Options {
        machine: false,
        dns: true,
        udp: false,
        exclusions: Exclusions {
            inbound_ports: [80, 9090].into(),
            outbound_ports: [443].into(),
            outbound_ranges: ranges.map(net).into(),
        },
    }
}

/// With its ssh left alone.
fn of_a_machine() -> Options {
    Options {
        machine: true,
        dns: true,
        udp: false,
        exclusions: Exclusions {
            inbound_ports: [22].into(),
            ..Exclusions::default()
        },
    }
}

#[test]
fn the_redirection_reads_as_documented() {
    assert_eq!(
        redirection(&Options::default()).to_string(),
        include_str!("golden/pod.txt")
    );
    assert_eq!(
        redirection(&with_dns()).to_string(),
        include_str!("golden/pod-dns.txt")
    );
    assert_eq!(
        redirection(&excluding()).to_string(),
        include_str!("golden/pod-excluding.txt")
    );
    assert_eq!(
        redirection(&of_a_machine()).to_string(),
        include_str!("golden/machine.txt")
    );
    let with_udp = Options {
        udp: true,
        ..excluding()
    };
    assert_eq!(
        redirection(&with_udp).to_string(),
        include_str!("golden/pod-udp.txt")
    );
    let pods = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(ip);
    assert_eq!(host(pods).to_string(), include_str!("golden/host.txt"));
    assert_eq!(
        yielding().to_string(),
        include_str!("golden/pod-yielding.txt")
    );
}

/// A pod beside this namespace, which is its node: 10.1.0.2 and fd00:1::2 behind the device `pod`; 10.1.0.1 and fd00:1::1 here.
fn pod() -> OwnedFd {
    let pod = namespace();
    let mut node = Handle::open().expect("netlink opens");
    node.add_veth("pod", "eth0", Some(pod.as_fd()))
        .expect("a pair");
    node.set_up("pod").expect("up");
    for (own, peer) in [
        ("10.1.0.1/32", "10.1.0.2/32"),
        ("fd00:1::1/128", "fd00:1::2/128"),
    ] {
        node.add_address("pod", net(own)).expect("an address");
        node.add_route(&Route::to(net(peer)).dev("pod"))
            .expect("a route");
    }
    within(&pod, || {
        let mut inside = Handle::open().expect("netlink opens");
        for device in ["lo", "eth0"] {
            inside.set_up(device).expect("up");
        }
        for (own, gateway, family) in [
            ("10.1.0.2/32", "10.1.0.1", Ip::V4),
            ("fd00:1::2/128", "fd00:1::1", Ip::V6),
        ] {
            inside.add_address("eth0", net(own)).expect("an address");
            let default = Route::default(family).via(ip(gateway)).dev("eth0").onlink();
            inside.add_route(&default).expect("a route");
        }
    });
    pod
}

fn captured(pod: &OwnedFd) -> Netns {
    let netns = Netns::from_fd(pod.try_clone().expect("a copy")).expect("a namespace");
    apply(&netns, &Options::default()).expect("applied");
    netns
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const NODE: [&str; 2] = ["10.1.0.1", "fd00:1::1"];
const POD: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host), port)
}

/// Listens on every address of both families.
fn listen(port: u16) -> TcpListener {
    TcpListener::bind(at("::", port)).expect("bound")
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(5))
}

fn original(stream: &TcpStream) -> SocketAddr {
    let socket = socket2::SockRef::from(stream);
    let mapped = stream.local_addr().expect("bound").ip().to_canonical();
    let found = if mapped.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    found
        .expect("a tracked connection")
        .as_socket()
        .expect("an address")
}

fn peer(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

/// Connects as the proxy does: marked, and from an address that is not the pod's own if there is one.
fn proxy_connect(to: SocketAddr, from: Option<IpAddr>) -> TcpStream {
    let sockets = Sockets {
        netns: None,
        mark: Some(PROXY_MARK),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let connected = tokio::time::timeout(Duration::from_secs(5), sockets.connect(to, from));
        let stream = connected.await.expect("in time").expect("connected");
        let stream = stream.into_std().expect("out of the runtime");
        stream.set_nonblocking(false).expect("set");
        stream
    })
}

#[test]
fn what_the_pod_sends_meets_the_proxy_once() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        let servers = listen(80);
        within(&pod, || {
            let proxy = listen(OUTBOUND_PORT);
            for host in NODE {
                let _client = connect(at(host, 80)).expect("captured");
                let (accepted, _) = proxy.accept().expect("accepted");
                assert_eq!(original(&accepted), at(host, 80));
                // And on to where it was going, unless the rules caught the proxy's own.
                drop(proxy_connect(original(&accepted), None));
            }
        });
        for host in POD {
            let (_, from) = servers.accept().expect("the proxy came");
            assert_eq!(peer(from), ip(host));
        }
    });
}

#[test]
fn what_others_send_meets_the_proxy_unless_it_is_hbone_or_a_probe() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        let (plain, hbone, app) = within(&pod, || {
            (listen(INBOUND_PORT), listen(HBONE_PORT), listen(80))
        });
        for host in POD {
            let _client = connect(at(host, 80)).expect("captured");
            let (accepted, _) = plain.accept().expect("accepted");
            assert_eq!(original(&accepted), at(host, 80));
            let _client = connect(at(host, HBONE_PORT)).expect("connected");
            hbone.accept().expect("not captured");
            // The proxy's own ports are captured too, so that it sees who knocks there.
            let _client = connect(at(host, INBOUND_PORT)).expect("captured");
            let (accepted, _) = plain.accept().expect("accepted");
            assert_eq!(original(&accepted), at(host, INBOUND_PORT));
        }
        apply_host(POD.map(ip)).expect("applied");
        for (host, probe) in POD
            .into_iter()
            .zip([IpAddr::from(PROBE_V4), PROBE_V6.into()])
        {
            let mut client = connect(at(host, 80)).expect("not captured");
            let (mut accepted, from) = app.accept().expect("straight to the app");
            assert_eq!(peer(from), probe);
            accepted.write_all(b"fine").expect("sent");
            let mut answer = [0; 4];
            client.read_exact(&mut answer).expect("the way back works");
        }
        remove_host().expect("removed");
        let _client = connect(at(POD[0], 80)).expect("captured again");
        plain.accept().expect("accepted");
    });
}

/// A packet as of an established connection, with a signature (RFC 2385) that nobody agreed to: the receiver answers
/// nothing, and takes what follows for the same connection.
fn stray(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    const ACK: u8 = 0x10;
    let mut segment = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 10 << 4, ACK, 4, 0, 0, 0, 0, 0]);
    segment.extend([1, 1, 19, 18]);
    segment.extend([0; 16]);
    let length = u16::try_from(segment.len()).expect("short").to_be_bytes();
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let pseudo = [&source[..], &destination, &[0, 6], &length, &segment].concat();
    let words = pseudo.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

#[test]
fn a_stray_packet_opens_no_way_around_the_proxy() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        let (plain, app) = within(&pod, || (listen(INBOUND_PORT), listen(80)));
        let own = SocketAddrV4::new([10, 1, 0, 1].into(), 40_000);
        let to = SocketAddrV4::new([10, 1, 0, 2].into(), 80);
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("a raw socket");
        raw.send_to(&stray(own, to), &SocketAddr::V4(to).into())
            .expect("sent");
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.bind(&SocketAddr::V4(own).into()).expect("bound");
        let connected = client.connect_timeout(&SocketAddr::V4(to).into(), Duration::from_secs(2));
        app.set_nonblocking(true).expect("set");
        app.accept().expect_err("past the proxy");
        // Nobody, or the proxy where the stray packet left nothing behind.
        plain.set_nonblocking(true).expect("set");
        assert_eq!(connected.is_ok(), plain.accept().is_ok());
    });
}

#[test]
fn the_pod_reaches_itself_without_the_proxy() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        within(&pod, || {
            let _proxy = [OUTBOUND_PORT, INBOUND_PORT].map(listen);
            let app = listen(80);
            for host in POD.into_iter().chain(["127.0.0.1", "::1"]) {
                let client = connect(at(host, 80)).expect("connected");
                let (_, from) = app.accept().expect("straight to the app");
                assert_eq!(from.port(), client.local_addr().expect("bound").port());
                assert_eq!(peer(from), ip(host));
            }
        });
    });
}

#[test]
fn the_app_sees_the_caller_and_its_replies_return_to_the_proxy() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        within(&pod, || {
            let app = listen(80);
            // The node's own addresses: without the rules the replies would go there; and one that nobody has.
            for (host, caller) in [
                (POD[0], NODE[0]),
                (POD[1], NODE[1]),
                (POD[0], "192.0.2.7"),
                (POD[1], "2001:db8::7"),
            ] {
                let mut proxy = proxy_connect(at(host, 80), Some(ip(caller)));
                let (mut accepted, from) = app.accept().expect("accepted");
                assert_eq!(peer(from), ip(caller));
                let mut text = [0; 5];
                proxy.write_all(b"there").expect("sent");
                accepted.read_exact(&mut text).expect("received");
                accepted.write_all(b"again").expect("sent");
                proxy.read_exact(&mut text).expect("the reply returned");
                assert_eq!(&text, b"again");
            }
        });
    });
}

/// Sends some octets each way.
fn talk(mut one: &TcpStream, mut other: &TcpStream) {
    for stream in [one, other] {
        let patience = Some(Duration::from_secs(5));
        stream.set_read_timeout(patience).expect("set");
    }
    let mut text = [0; 5];
    one.write_all(b"there").expect("sent");
    other.read_exact(&mut text).expect("received");
    other.write_all(b"again").expect("sent");
    one.read_exact(&mut text).expect("received");
    assert_eq!(&text, b"again");
}

#[test]
fn connections_go_on_when_the_pod_joins_and_when_it_leaves() {
    isolated(|| {
        let pod = pod();
        let netns = Netns::from_fd(pod.try_clone().expect("a copy")).expect("a namespace");
        let servers = listen(80);
        let app = within(&pod, || listen(80));
        let into = |host| {
            let client = connect(at(host, 80)).expect("connected");
            (client, app.accept().expect("accepted").0)
        };
        let out_of = |host| {
            let client = within(&pod, || connect(at(host, 80)).expect("connected"));
            (client, servers.accept().expect("accepted").0)
        };
        let before: Vec<_> = POD.map(into).into_iter().chain(NODE.map(out_of)).collect();
        apply(&netns, &Options::default()).expect("applied");
        let from_before = || {
            for (client, server) in &before {
                talk(server, client);
                talk(client, server);
            }
        };
        from_before();

        let (plain, outbound) = within(&pod, || (listen(INBOUND_PORT), listen(OUTBOUND_PORT)));
        let mut captured = Vec::new();
        for (host, far) in POD.into_iter().zip(NODE) {
            let client = connect(at(host, 80)).expect("captured");
            captured.push((client, plain.accept().expect("accepted").0));
            let client = within(&pod, || connect(at(far, 80)).expect("captured"));
            captured.push((client, outbound.accept().expect("accepted").0));
            let proxy = within(&pod, || proxy_connect(at(host, 80), Some(ip(far))));
            captured.push((proxy, app.accept().expect("accepted").0));
        }
        let carried = || captured.iter().for_each(|(one, other)| talk(one, other));
        carried();
        for _ in 0..2 {
            yield_traffic(&netns).expect("yielded");
            carried();
            from_before();
            for (client, server) in POD.map(into).into_iter().chain(NODE.map(out_of)) {
                talk(&client, &server);
            }
        }
        remove(&netns).expect("removed");
        from_before();
        assert_eq!(missing_all(&netns), 5);
    });
}

/// Connects from a port that is given, as the proxy does or not.
fn connect_from(from: SocketAddr, to: SocketAddr, mark: Option<u32>) -> TcpStream {
    let domain = Domain::for_address(from);
    let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
    if let Some(mark) = mark {
        socket.set_mark(mark).expect("marked");
        match domain {
            Domain::IPV4 => socket.set_ip_transparent_v4(true).expect("set"),
            _ => socket.set_ip_transparent_v6(true).expect("set"),
        }
    }
    socket.set_reuse_address(true).expect("set");
    socket.bind(&from.into()).expect("bound");
    let patience = Duration::from_secs(2);
    socket
        .connect_timeout(&to.into(), patience)
        .expect("connected");
    socket.into()
}

#[test]
fn a_callers_port_may_be_one_that_the_proxy_has_too() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        let (plain, app) = within(&pod, || (listen(INBOUND_PORT), listen(80)));
        let mut port = 40_000;
        for (host, caller) in POD.into_iter().zip(NODE) {
            let callers = |port| {
                let client = connect_from(at(caller, port), at(host, 80), None);
                (client, plain.accept().expect("accepted").0)
            };
            let proxys = |port| {
                let connect = || connect_from(at(caller, port), at(host, 80), Some(PROXY_MARK));
                (within(&pod, connect), app.accept().expect("accepted").0)
            };
            for callers_first in [true, false] {
                port += 1;
                let both = if callers_first {
                    let first = callers(port);
                    [first, proxys(port)]
                } else {
                    let first = proxys(port);
                    [callers(port), first]
                };
                assert_eq!(original(&both[0].1), at(host, 80));
                for (one, other) in &both {
                    talk(one, other);
                    talk(other, one);
                }
            }
        }
    });
}

#[test]
fn the_proxy_leaves_alone_what_callers_had_with_the_pod_before() {
    isolated(|| {
        let pod = pod();
        let app = within(&pod, || listen(80));
        let before: Vec<_> = (0..8)
            .map(|n| {
                let client = connect_from(at(NODE[0], 40_000 + n), at(POD[0], 80), None);
                (client, app.accept().expect("accepted").0)
            })
            .collect();
        let _netns = captured(&pod);
        within(&pod, || {
            // The kernel gives the very ports of the callers.
            let range = "/proc/sys/net/ipv4/ip_local_port_range";
            std::fs::write(range, "40000 40007").expect("set");
            for _ in 0..16 {
                let proxy = proxy_connect(at(POD[0], 80), Some(ip(NODE[0])));
                talk(&proxy, &app.accept().expect("accepted").0);
            }
        });
        for (client, server) in &before {
            talk(client, server);
            talk(server, client);
        }
    });
}

#[test]
fn talks_go_on_while_the_redirection_comes_and_goes() {
    isolated(|| {
        let pod = pod();
        let netns = Netns::from_fd(pod.try_clone().expect("a copy")).expect("a namespace");
        let app = within(&pod, || listen(80));
        let before: Vec<_> = (0..8)
            .map(|n| {
                let client = connect(at(POD[n % 2], 80)).expect("connected");
                (client, app.accept().expect("accepted").0)
            })
            .collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (client, server) in &before {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        talk(client, server);
                        talk(server, client);
                    }
                });
            }
            for _ in 0..10 {
                apply(&netns, &Options::default()).expect("applied");
                yield_traffic(&netns).expect("yielded");
                remove(&netns).expect("removed");
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

/// How many parts of a redirection are not there.
fn missing_all(netns: &Netns) -> usize {
    verify(netns, &Options::default()).expect("listed").len()
}

#[test]
fn applied_twice_verified_and_removed() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let options = Options::default();
        let missing = || verify(&netns, &options).expect("listed");
        assert_eq!(missing(), Vec::<String>::new());
        apply(&netns, &options).expect("again");
        assert_eq!(missing(), Vec::<String>::new());

        within(&pod, || {
            let mut routes = Handle::open().expect("netlink opens");
            let wanted = redirection(&options);
            routes.delete_rule(&wanted.policies[0]).expect("deleted");
            routes.delete_route(&wanted.routes[1]).expect("deleted");
        });
        assert_eq!(
            missing(),
            [
                "rule priority 32764 fwmark 0x111/0xfff lookup 100 is missing",
                "route local ::/0 dev lo table 100 is missing"
            ]
        );
        apply(&netns, &options).expect("repaired");
        assert_eq!(missing(), Vec::<String>::new());

        apply(&netns, &with_dns()).expect("with DNS");
        assert_eq!(
            verify(&netns, &with_dns()).expect("listed"),
            Vec::<String>::new()
        );
        assert!(!missing().is_empty());

        for _ in 0..2 {
            remove(&netns).expect("removed");
            let lines = missing();
            assert_eq!(lines[0], "table inet ambit is missing");
            assert_eq!(lines.len(), 5, "{lines:?}");
        }
        let app = within(&pod, || listen(80));
        let _client = connect(at(POD[0], 80)).expect("connected");
        app.accept().expect("straight to the app");
    });
}

#[test]
fn dns_of_the_pod_meets_the_proxy_and_the_proxys_does_not() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, &with_dns()).expect("applied");
        let resolver = std::net::UdpSocket::bind(at(NODE[0], 53)).expect("bound");
        resolver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("set");
        let (app, proxy, proxy_port) = within(&pod, || {
            let app = std::net::UdpSocket::bind(at("0.0.0.0", 4000)).expect("bound");
            // At the address that redirected packets go to: answers have to come from there.
            let proxy = std::net::UdpSocket::bind(at("127.0.0.1", DNS_PORT)).expect("bound");
            let upstream = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            upstream.set_mark(PROXY_MARK).expect("marked");
            upstream.bind(&at(POD[0], 0).into()).expect("bound");
            for socket in [&app, &proxy] {
                socket
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .expect("set");
            }
            (app, proxy, std::net::UdpSocket::from(upstream))
        });
        proxy_port
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("set");
        let mut text = [0; 8];
        app.send_to(b"name?", at(NODE[0], 53)).expect("sent");
        let (length, from) = proxy.recv_from(&mut text).expect("captured");
        assert_eq!(&text[..length], b"name?");
        proxy_port.send_to(b"and?", at(NODE[0], 53)).expect("sent");
        let (length, asker) = resolver.recv_from(&mut text).expect("not captured");
        assert_eq!(&text[..length], b"and?");
        resolver.send_to(b"this", asker).expect("sent");
        let (_, answerer) = proxy_port.recv_from(&mut text).expect("answered");
        assert_eq!(answerer, at(NODE[0], 53));
        proxy.send_to(b"this", from).expect("sent");
        let (_, answerer) = app.recv_from(&mut text).expect("answered");
        assert_eq!(answerer, at(NODE[0], 53), "as if the resolver had answered");
    });
}

/// An address of the proxy's DNS and one that is nobody's, of a family.
fn dns_of(family: usize) -> (SocketAddr, SocketAddr) {
    let (proxy, nobody) = [("127.0.0.1", "192.0.2.53"), ("::1", "2001:db8::53")][family];
    (at(proxy, DNS_PORT), at(nobody, 53))
}

#[test]
fn the_resolver_that_was_asked_is_known() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, &with_dns()).expect("applied");
        within(&pod, || {
            let mut table = conntrack::Handle::open().expect("netlink opens");
            for family in [0, 1] {
                let (proxy_at, nobody) = dns_of(family);
                let proxy = std::net::UdpSocket::bind(proxy_at).expect("bound");
                let app = std::net::UdpSocket::bind(at(POD[family], 4000)).expect("bound");
                let tcp = TcpListener::bind(proxy_at).expect("bound");
                for socket in [&proxy, &app] {
                    let limit = Some(Duration::from_secs(5));
                    socket.set_read_timeout(limit).expect("set");
                }
                // One port of the client towards two resolvers.
                for resolver in [at(NODE[family], 53), nobody] {
                    app.send_to(b"name?", resolver).expect("sent");
                    let mut text = [0; 8];
                    let (_, client) = proxy.recv_from(&mut text).expect("captured");
                    let asked = table.original_destination(client, proxy_at);
                    assert_eq!(asked.expect("it is tracked"), resolver);
                    proxy.send_to(b"this", client).expect("sent");
                    let (_, answerer) = app.recv_from(&mut text).expect("answered");
                    assert_eq!(answerer, resolver);
                    let _client = connect(resolver).expect("captured");
                    let (accepted, _) = tcp.accept().expect("accepted");
                    assert_eq!(original(&accepted), resolver);
                }
                // What was sent to the proxy itself was for nobody.
                let near =
                    std::net::UdpSocket::bind(at(&proxy_at.ip().to_string(), 0)).expect("bound");
                near.send_to(b"name?", proxy_at).expect("sent");
                let (_, client) = proxy.recv_from(&mut [0; 8]).expect("received");
                let error = table
                    .original_destination(client, proxy_at)
                    .expect_err("it is ours");
                let error = std::io::Error::from(error);
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
                let error = table.original_destination(nobody, proxy_at);
                assert!(error.expect_err("nothing is tracked").is_absent());
            }
        });
    });
}

#[test]
fn dns_goes_its_own_way_when_it_is_not_captured_or_no_longer() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let resolver = std::net::UdpSocket::bind(at("::", 53)).expect("bound");
        resolver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("set");
        let ask = |family: usize| {
            within(&pod, || {
                let app = std::net::UdpSocket::bind(at(POD[family], 0)).expect("bound");
                app.send_to(b"name?", at(NODE[family], 53)).expect("sent");
            });
            let (_, from) = resolver.recv_from(&mut [0; 8]).expect("not captured");
            assert_eq!(peer(from), ip(POD[family]));
        };
        ask(0);
        ask(1);
        apply(&netns, &with_dns()).expect("applied");
        remove(&netns).expect("removed");
        ask(0);
        ask(1);
    });
}

#[test]
fn a_port_that_is_left_alone_takes_dns_along() {
    let mut options = with_dns();
    options.exclusions.outbound_ports = [53].into();
    let text = redirection(&options).to_string();
    assert!(!text.contains("DNS"), "{text}");
    let accepted = "th dport 53 accept comment \"a port elsewhere that is left alone\"";
    assert!(text.contains(accepted), "{text}");
    // A resolver in a range is asked by the proxy all the same.
    options.exclusions = Exclusions {
        outbound_ranges: ["0.0.0.0/0", "::/0"].map(net).into(),
        ..Exclusions::default()
    };
    let text = redirection(&options).to_string();
    let rules = |comment: &str| text.find(comment).expect("a rule");
    assert!(
        rules("DNS over TCP") < rules("addresses that are left alone"),
        "{text}"
    );
    assert!(text.contains("DNS over UDP"), "{text}");
}
