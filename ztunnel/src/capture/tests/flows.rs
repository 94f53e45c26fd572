//! UDP, with packets: what is captured, what is told of it, how it is answered, and what does not pass.

use std::net::UdpSocket;

use ambit_net::sys::{Answering, Capturing};
use tokio::runtime::Runtime;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);
const NOTHING: Duration = Duration::from_millis(300);

fn options() -> Options {
    Options {
        udp: true,
        ..Options::default()
    }
}

/// What the proxy has in a pod.
struct Proxy {
    runtime: Runtime,
    sockets: Sockets,
    outbound: Capturing,
    inbound: Capturing,
    answering: Answering,
}

impl Proxy {
    fn in_pod(pod: &OwnedFd) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let sockets = Sockets {
            netns: Some(Netns::from_fd(pod.try_clone().expect("a copy")).expect("a namespace")),
            mark: Some(PROXY_MARK),
        };
        let inside = runtime.enter();
        let proxy = [OUTBOUND_PORT, INBOUND_PORT].map(|port| sockets.capture(port));
        let [outbound, inbound] = proxy.map(|it| it.expect("bound"));
        let answering = sockets.answer().expect("raw sockets");
        drop(inside);
        Self {
            runtime,
            sockets,
            outbound,
            inbound,
            answering,
        }
    }

    /// What comes next: its payload, who sent it, and where to.
    fn next(&self, of: &Capturing) -> (Vec<u8>, SocketAddr, SocketAddr) {
        self.within(PATIENCE, of).expect("captured")
    }

    /// What comes although nothing is to come.
    fn hears(&self, of: &Capturing) -> Option<(Vec<u8>, SocketAddr, SocketAddr)> {
        self.within(NOTHING, of)
    }

    fn within(&self, time: Duration, of: &Capturing) -> Option<(Vec<u8>, SocketAddr, SocketAddr)> {
        let mut buffer = vec![0; 1 << 16];
        let received = self
            .runtime
            .block_on(async { tokio::time::timeout(time, of.receive(&mut buffer)).await });
        let captured = received.ok()?.expect("received");
        buffer.truncate(captured.length);
        Some((buffer, captured.client, captured.dialled))
    }
}

fn bound(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (length, from) = socket.recv_from(&mut buffer).expect("received");
    buffer.truncate(length);
    (buffer, SocketAddr::new(peer(from), from.port()))
}

fn silent(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(NOTHING)).expect("set");
    let nothing = socket.recv_from(&mut [0; 16]).is_err();
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    nothing
}

fn any(port: u16) -> SocketAddr {
    at("::", port)
}

#[test]
fn what_the_pod_sends_comes_to_the_proxy_with_where_it_was_going() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, &options()).expect("applied");
        assert_eq!(verify(&netns, &options()).expect("listed"), [""; 0]);
        let proxy = Proxy::in_pod(&pod);
        // It listens itself on the port that it sends to: whoever answers in that name must not need the port.
        let app = within(&pod, || bound(any(7000)));
        let server = bound(any(7000));
        for (host, own) in NODE.into_iter().zip(POD) {
            for payload in [&b"one"[..], b"", &[7; 60_000]] {
                app.send_to(payload, at(host, 7000)).expect("sent");
                let (found, client, dialled) = proxy.next(&proxy.outbound);
                assert_eq!((client, dialled), (at(own, 7000), at(host, 7000)));
                assert!(found == payload);
                let answered = proxy.answering.send(dialled, client, payload);
                answered.expect("answered");
                let (found, from) = received(&app);
                assert_eq!(from, dialled);
                assert!(found == payload);
            }
            // What the proxy sends on is not captured, and its answers are its own.
            let inside = proxy.runtime.enter();
            let on = proxy.sockets.correspond(at(host, 7000), None);
            let on = on.expect("connected");
            drop(inside);
            proxy.runtime.block_on(async {
                on.send(b"on").await.expect("sent");
                let (found, from) = received(&server);
                assert_eq!((&found[..], peer(from)), (&b"on"[..], ip(own)));
                server.send_to(b"back", from).expect("sent");
                let mut buffer = [0; 16];
                let length = on.recv(&mut buffer).await.expect("an answer");
                assert_eq!(&buffer[..length], b"back");
            });
            // Who answers past the proxy is not heard: what comes after it is the next thing that is.
            server.send_to(b"forged", at(own, 7000)).expect("sent");
            let last = proxy.answering.send(at(host, 7000), at(own, 7000), b"last");
            last.expect("answered");
            assert_eq!(received(&app), (b"last".to_vec(), at(host, 7000)));
        }
        assert_eq!(proxy.hears(&proxy.inbound), None);
    });
}

#[test]
fn plaintext_comes_to_the_proxy_and_the_app_sees_the_caller() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, &options()).expect("applied");
        let proxy = Proxy::in_pod(&pod);
        let app = within(&pod, || bound(any(7000)));
        for (host, caller) in POD.into_iter().zip(NODE) {
            let client = bound(any(7001));
            for payload in [&b"one"[..], &[7; 8_000]] {
                client.send_to(payload, at(host, 7000)).expect("sent");
                let (found, from, dialled) = proxy.next(&proxy.inbound);
                assert_eq!((from, dialled), (at(caller, 7001), at(host, 7000)));
                assert!(found == payload);
                let inside = proxy.runtime.enter();
                let on = proxy.sockets.correspond(dialled, Some(from.ip()));
                let on = on.expect("connected");
                drop(inside);
                proxy.runtime.block_on(async {
                    let mut seen = Vec::new();
                    for _ in 0..3 {
                        on.send(&found).await.expect("sent");
                        let (found, from) = received(&app);
                        assert_eq!(peer(from), ip(caller), "the caller's address");
                        app.send_to(&found, from).expect("sent");
                        let mut buffer = vec![0; 1 << 16];
                        let answer = tokio::time::timeout(PATIENCE, on.recv(&mut buffer)).await;
                        let length = answer.expect("in time").expect("an answer");
                        assert!(buffer[..length] == *payload);
                        seen.push(from);
                    }
                    assert!(seen.iter().all(|it| *it == seen[0]), "one flow: {seen:?}");
                });
                let answered = proxy.answering.send(dialled, from, payload);
                answered.expect("answered");
                let (found, seen) = received(&client);
                assert_eq!(seen, dialled);
                assert!(found == payload);
            }
            reaches_itself(&pod, &app);
        }
        assert_eq!(proxy.hears(&proxy.outbound), None);
    });
}

/// Sends from the pod to the pod, and asserts that this is the next thing the application hears: what was sent before did not come.
fn reaches_itself(pod: &OwnedFd, app: &UdpSocket) {
    let port = app.local_addr().expect("bound").port();
    let client = within(pod, || bound(any(0)));
    client.send_to(b"itself", at(POD[0], port)).expect("sent");
    assert_eq!(received(app).0, b"itself");
}

#[test]
fn without_a_proxy_nothing_passes() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, &options()).expect("applied");
        let app = within(&pod, || bound(any(7000)));
        let server = bound(any(7000));
        for (host, own) in NODE.into_iter().zip(POD) {
            server.send_to(b"in", at(own, 7000)).expect("sent");
            // What the pod sends elsewhere must not come to who listens on the same port in it.
            let client = within(&pod, || bound(any(0)));
            let sent = client.send_to(b"out", at(host, 7000));
            assert!(sent.is_ok(), "it is dropped on the way: {sent:?}");
            reaches_itself(&pod, &app);
        }
        assert!(silent(&server));
    });
}

#[test]
fn what_comes_from_a_peer_opens_no_way_out_to_it() {
    opens_no_way_out(&options());
}

#[test]
fn what_comes_from_a_peer_opens_no_way_out_to_it_with_dns() {
    let with_dns = Options {
        dns: true,
        ..options()
    };
    opens_no_way_out(&with_dns);
}

fn opens_no_way_out(options: &Options) {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        apply(&netns, options).expect("applied");
        let proxy = Proxy::in_pod(&pod);
        let app = within(&pod, || bound(any(7000)));
        let peers = [7000, 53].map(|port| bound(any(port)));
        for ((host, own), peer) in NODE.into_iter().zip(POD).zip([&peers[0]; 2]) {
            peer.send_to(b"forged", at(own, 7000)).expect("sent");
            let (_, _, dialled) = proxy.next(&proxy.inbound);
            let leads_to_the_proxy = |payload: &[u8]| {
                app.send_to(payload, at(host, 7000)).expect("sent");
                let expected = (payload.to_vec(), at(own, 7000), at(host, 7000));
                assert_eq!(proxy.next(&proxy.outbound), expected);
            };
            leads_to_the_proxy(b"after plaintext");
            // Nor do answers, to what was captured or to what came.
            let tunnelled = proxy
                .answering
                .send(at(host, 7000), at(own, 7000), b"there");
            tunnelled.expect("answered");
            assert_eq!(received(&app), (b"there".to_vec(), at(host, 7000)));
            leads_to_the_proxy(b"after an answer");
            let plain = proxy.answering.send(dialled, at(host, 7000), b"back");
            plain.expect("answered");
            assert_eq!(received(peer), (b"back".to_vec(), at(own, 7000)));
            leads_to_the_proxy(b"after an answer to plaintext");
            // Late ones neither, to a flow that the kernel does not know (any longer).
            let late = proxy.answering.send(at(host, 9), at(own, 7000), b"late");
            late.expect("answered");
            assert_eq!(received(&app), (b"late".to_vec(), at(host, 9)));
            app.send_to(b"after a late one", at(host, 9)).expect("sent");
            let (_, _, dialled) = proxy.next(&proxy.outbound);
            assert_eq!(dialled, at(host, 9));
        }
        // A client whose port is that of DNS, answered late: it comes to the proxy, as ever.
        for (host, own) in NODE.into_iter().zip(POD) {
            let peer = &peers[1];
            let late = proxy.answering.send(at(own, 7000), at(host, 53), b"late");
            late.expect("answered");
            assert_eq!(
                received(peer),
                (b"late".to_vec(), at(own, 7000)),
                "{options:?}"
            );
            for _ in 0..2 {
                peer.send_to(b"again", at(own, 7000)).expect("sent");
                let expected = (b"again".to_vec(), at(host, 53), at(own, 7000));
                assert_eq!(proxy.next(&proxy.inbound), expected);
                let answer = proxy.answering.send(at(own, 7000), at(host, 53), b"yes");
                answer.expect("answered");
                assert_eq!(received(peer), (b"yes".to_vec(), at(own, 7000)));
            }
            // What the application sends there is no answer.
            app.send_to(b"asks", at(host, 53)).expect("sent");
            let last = proxy.answering.send(at(own, 7000), at(host, 53), b"last");
            last.expect("answered");
            assert_eq!(received(peer).0, b"last");
            match options.dns {
                true => assert_eq!(proxy.hears(&proxy.outbound), None),
                false => drop(proxy.next(&proxy.outbound)),
            }
        }
        reaches_itself(&pod, &app);
    });
}

#[test]
fn what_an_app_pushes_after_its_flow_was_closed_goes_nowhere() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let with_dns = Options {
            dns: true,
            ..options()
        };
        apply(&netns, &with_dns).expect("applied");
        let proxy = Proxy::in_pod(&pod);
        // 53 too: what is for the pod's own is no question of the proxy.
        for port in [7000, 53] {
            let app = within(&pod, || bound(any(port)));
            for (host, own) in NODE.into_iter().zip(POD) {
                let inside = proxy.runtime.enter();
                let flow = proxy.sockets.correspond(at(own, port), Some(ip(host)));
                let flow = flow.expect("connected");
                drop(inside);
                let caller = proxy.runtime.block_on(async {
                    flow.send(b"in").await.expect("sent");
                    let (_, from) = received(&app);
                    app.send_to(b"out", from).expect("sent");
                    let mut buffer = [0; 16];
                    let answer = tokio::time::timeout(PATIENCE, flow.recv(&mut buffer)).await;
                    let length = answer.expect("in time").expect("an answer");
                    assert_eq!(&buffer[..length], b"out");
                    from
                });
                assert_eq!(peer(caller), ip(host));
                drop(flow);
                app.send_to(b"pushed", caller).expect("sent");
                app.send_to(b"of its own", at(host, 7001)).expect("sent");
                let (found, _, _) = proxy.next(&proxy.outbound);
                assert_eq!(found, b"of its own");
                assert_eq!(proxy.hears(&proxy.outbound), None);
            }
        }
    });
}

/// As the proxy answered before answers had a mark of their own.
fn answer_as_before(pod: &OwnedFd, from: SocketAddr, to: SocketAddr) {
    within(pod, || {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).expect("a socket");
        socket.set_mark(PROXY_MARK).expect("marked");
        match to {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).expect("set"),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).expect("set"),
        }
        socket.bind(&from.into()).expect("bound");
        socket.send_to(b"before", &to.into()).expect("sent");
    });
}

#[test]
fn a_flow_that_runs_when_its_pod_is_captured_no_more_goes_on_without() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let server = bound(any(7000));
        let released: [&dyn Fn(); 2] = [
            &|| apply(&netns, &Options::default()).expect("applied"),
            &|| yield_traffic(&netns).expect("yielded"),
        ];
        for (number, release) in (7001..).zip(released) {
            apply(&netns, &options()).expect("applied");
            let proxy = Proxy::in_pod(&pod);
            let app = within(&pod, || bound(any(number)));
            for host in NODE {
                app.send_to(b"one", at(host, 7000)).expect("sent");
                proxy.next(&proxy.outbound);
            }
            release();
            for (host, own) in NODE.into_iter().zip(POD) {
                let answer = proxy
                    .answering
                    .send(at(host, 7000), at(own, number), b"late");
                answer.expect("answered");
                answer_as_before(&pod, at(host, 7000), at(own, number));
                for expected in [&b"late"[..], b"before"] {
                    assert_eq!(received(&app), (expected.to_vec(), at(host, 7000)));
                }
                for _ in 0..2 {
                    app.send_to(b"on", at(host, 7000)).expect("sent");
                    assert_eq!(received(&server), (b"on".to_vec(), at(own, number)));
                }
            }
        }
    });
}

#[test]
fn nobody_else_takes_the_ports_of_the_proxy() {
    isolated(|| {
        let pod = pod();
        let _netns = captured(&pod);
        let _proxy = Proxy::in_pod(&pod);
        // A successor of the same user does.
        let _successor = Proxy::in_pod(&pod);
        within(&pod, || {
            for address in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
                for port in [OUTBOUND_PORT, INBOUND_PORT] {
                    let to = at(address, port);
                    let domain = Domain::for_address(to);
                    let socket = Socket::new(domain, Type::DGRAM, None).expect("a socket");
                    socket.set_reuse_address(true).expect("set");
                    let taken = socket.bind(&to.into()).expect_err("it is taken");
                    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "{to}");
                }
            }
        });
    });
}

#[test]
fn the_pod_reaches_itself_and_what_is_left_alone() {
    isolated(|| {
        let pod = pod();
        let netns = captured(&pod);
        let alone = Options {
            udp: true,
            ..excluding()
        };
        apply(&netns, &alone).expect("applied");
        assert_eq!(verify(&netns, &alone).expect("listed"), [""; 0]);
        let proxy = Proxy::in_pod(&pod);
        let (app, open) = within(&pod, || (bound(any(7000)), bound(any(9090))));
        for host in POD.into_iter().chain(["127.0.0.1", "::1"]) {
            let client = within(&pod, || bound(any(0)));
            client.send_to(b"self", at(host, 7000)).expect("sent");
            let (_, from) = received(&app);
            app.send_to(b"me", from).expect("sent");
            assert_eq!(received(&client), (b"me".to_vec(), at(host, 7000)));
        }
        let server = bound(any(443));
        for (host, own) in NODE.into_iter().zip(POD) {
            // A port elsewhere, both ways.
            app.send_to(b"out", at(host, 443)).expect("sent");
            let (_, from) = received(&server);
            assert_eq!(from, at(own, 7000));
            server.send_to(b"back", from).expect("sent");
            assert_eq!(received(&app), (b"back".to_vec(), at(host, 443)));
            // A port of the pod, both ways.
            let client = bound(any(0));
            client.send_to(b"in", at(own, 9090)).expect("sent");
            let (_, from) = received(&open);
            open.send_to(b"back", from).expect("sent");
            assert_eq!(received(&client), (b"back".to_vec(), at(own, 9090)));
        }
        assert_eq!(proxy.hears(&proxy.outbound), None);
        assert_eq!(proxy.hears(&proxy.inbound), None);
        // Without the annotation all is as it was.
        apply(&netns, &Options::default()).expect("applied");
        let client = bound(any(0));
        client.send_to(b"in", at(POD[0], 7000)).expect("sent");
        assert_eq!(received(&app).0, b"in");
        remove(&netns).expect("removed");
        let left = within(&pod, || {
            Handle::open()
                .expect("netlink")
                .policy_rules()
                .expect("listed")
        });
        assert!(left.iter().all(|it| it.mark.is_none()), "{left:?}");
    });
}
