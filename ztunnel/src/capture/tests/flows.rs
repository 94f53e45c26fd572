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
    fn next(&self, of: &Capturing) -> Option<(Vec<u8>, SocketAddr, SocketAddr)> {
        let mut buffer = vec![0; 1 << 16];
        let received = self
            .runtime
            .block_on(async { tokio::time::timeout(NOTHING, of.receive(&mut buffer)).await });
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
                let (found, client, dialled) = proxy.next(&proxy.outbound).expect("captured");
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
            let on = proxy.sockets.correspond_from(at(host, 7000), None);
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
            // Who answers past the proxy is not heard.
            server.send_to(b"forged", at(own, 7000)).expect("sent");
            assert!(silent(&app), "{host}");
        }
        assert_eq!(proxy.next(&proxy.inbound), None);
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
                let (found, from, dialled) = proxy.next(&proxy.inbound).expect("captured");
                assert_eq!((from, dialled), (at(caller, 7001), at(host, 7000)));
                assert!(found == payload);
                let inside = proxy.runtime.enter();
                let on = proxy.sockets.correspond_from(dialled, Some(from.ip()));
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
            assert!(silent(&app), "nothing came past the proxy");
        }
        assert_eq!(proxy.next(&proxy.outbound), None);
        // Without a proxy nothing passes.
        drop(proxy);
        let client = bound(any(7002));
        client.send_to(b"alone", at(POD[0], 7000)).expect("sent");
        assert!(silent(&app));
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
        assert_eq!(proxy.next(&proxy.outbound), None);
        assert_eq!(proxy.next(&proxy.inbound), None);
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
