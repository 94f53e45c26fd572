//! DNS of a pod: what it sends to the proxy, and what comes back. More of what is asked on is in the end-to-end tests.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::index::Change;
use ambit_net::netlink::route::Handle;
use ambit_net::netlink::testing::{namespace, within};
use ambit_net::sys::{Netns, PROXY_MARK, Sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{CLIENT, run};
use crate::capture;
use crate::proxy::{Limits, Pod, dns};
use crate::testing::{Served, World, addr, service, workload};

const NAME: &str = "web.ns.svc.cluster.local";
const ANSWER: [u8; 4] = [10, 96, 0, 1];

/// A question for an address.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The id, the code and the last bytes of a reply, which are an address if there is one.
fn read(reply: &[u8]) -> (u16, u8, [u8; 4]) {
    let id = u16::from_be_bytes([reply[0], reply[1]]);
    let last = reply[reply.len() - 4..].try_into().expect("four");
    (id, reply[3] & 0xf, last)
}

/// A pod whose DNS is served on the loopback addresses of this test's namespace, where connections are tracked as in any pod.
async fn served(world: &World, pod: Arc<Pod>) -> Served {
    let here = Netns::current().expect("a namespace");
    let options = capture::Options {
        dns: true,
        ..capture::Options::default()
    };
    capture::apply(&here, &options).expect("captured");
    let listeners = dns::Listeners::open(&pod).expect("free ports");
    let served = world.serve_pod(pod, addr("127.61.0.1:0").ip()).await;
    dns::spawn(&served.proxy, listeners);
    served
}

fn proxy() -> [SocketAddr; 2] {
    [addr("127.0.0.1:15053"), addr("[::1]:15053")]
}

async fn ask(to: SocketAddr, message: &[u8]) -> Vec<u8> {
    let any = if to.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any).await.expect("a port");
    socket.send_to(message, to).await.expect("sent");
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).await.expect("answered");
    reply[..length].to_vec()
}

fn web() -> Change {
    Change::Service(Arc::new(service("web", "10.96.0.1", 8080)))
}

#[test]
fn services_are_answered_over_both_transports_and_families() {
    run(async || {
        let world = World::new();
        world.change([web()]);
        let pod = world.pod(&workload("client", CLIENT));
        let _served = served(&world, pod).await;
        for to in proxy() {
            assert_eq!(read(&ask(to, &question(7, NAME)).await), (7, 0, ANSWER));
            let mut stream = TcpStream::connect(to).await.expect("connected");
            // Two at once.
            for id in [8, 9] {
                let message = question(id, "web");
                let length = u16::try_from(message.len()).expect("short");
                stream.write_u16(length).await.expect("sent");
                stream.write_all(&message).await.expect("sent");
            }
            for id in [8, 9] {
                let length = stream.read_u16().await.expect("answered");
                let mut reply = vec![0; usize::from(length)];
                stream.read_exact(&mut reply).await.expect("answered");
                assert_eq!(read(&reply), (id, 0, ANSWER));
            }
        }
    });
}

#[test]
fn garbage_is_survived_and_the_proxy_is_no_resolver() {
    run(async || {
        let world = World::new();
        world.change([web()]);
        let pod = world.pod(&workload("client", CLIENT));
        let _served = served(&world, pod).await;
        let to = proxy()[0];
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let good = question(7, NAME);
        for end in 0..good.len() {
            socket.send_to(&good[..end], to).await.expect("sent");
            let mut odd = good.clone();
            odd[end] ^= 0xff;
            socket.send_to(&odd, to).await.expect("sent");
        }
        for cut in [&[][..], &[0], &[0, 9, 1], &[255, 255, 0]] {
            let mut stream = TcpStream::connect(to).await.expect("connected");
            stream.write_all(cut).await.expect("sent");
        }
        assert_eq!(read(&ask(to, &good).await), (7, 0, ANSWER));
        let (id, code, _) = read(&ask(to, &question(8, "example.org")).await);
        assert_eq!((id, code), (8, 5), "refused: it was for no resolver");
    });
}

#[test]
fn a_pod_has_so_many_questions_open_and_no_more() {
    run(async || {
        let world = World::new();
        world.change([web()]);
        let pod = world.limited_pod(&workload("client", CLIENT), 2);
        let _served = served(&world, pod).await;
        let to = proxy()[0];
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(to).await.expect("connected");
            let message = question(1, NAME);
            stream
                .write_u16(u16::try_from(message.len()).expect("short"))
                .await
                .expect("sent");
            stream.write_all(&message).await.expect("sent");
            // Answered, so it counts by now.
            stream.read_u16().await.expect("answered");
            held.push(stream);
        }
        let mut third = TcpStream::connect(to).await.expect("connected");
        assert!(third.read_u16().await.is_err(), "it is reset");
        let (_, code, _) = read(&ask(to, &question(8, "example.org")).await);
        assert_eq!(code, 2, "failed");
        assert_eq!(
            read(&ask(to, &question(9, NAME)).await).2,
            ANSWER,
            "what is known takes no place"
        );
        held.clear();
        let again = async {
            while read(&ask(to, &question(8, "example.org")).await).1 != 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .expect("given back");
    });
}

#[test]
fn a_question_waits_until_the_pod_is_described() {
    run(async || {
        let world = World::new();
        world.change([web()]);
        let described = workload("client", CLIENT);
        let pod = world.unidentified_pod(&described, 10);
        let served = served(&world, pod).await;
        let message = question(7, "web");
        let asked = ask(proxy()[0], &message);
        tokio::pin!(asked);
        tokio::select! {
            biased;
            _ = &mut asked => panic!("nobody knows whose web it is"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        world.change([Change::Workload(Arc::new(described.clone()))]);
        served
            .pod
            .identify(world.certificates.want(&described.identity));
        assert_eq!(read(&asked.await), (7, 0, ANSWER));
    });
}

/// A pod whose proxy is not captured itself.
fn marked(world: &World) -> Arc<Pod> {
    let client = workload("client", CLIENT);
    world.change([Change::Workload(Arc::new(client.clone()))]);
    let sockets = Sockets {
        netns: None,
        mark: Some(PROXY_MARK),
    };
    let limits = Limits {
        connections: 10,
        hbone_connections: 10,
        dns_queries: 10,
        udp_flows: 10,
    };
    Arc::new(Pod::new(client.uid, "ns/client".into(), sockets, limits))
}

/// A resolver beside this namespace, and its address. Here is 10.1.0.2.
fn resolver() -> (UdpSocket, SocketAddr) {
    let beside = namespace();
    let up = |device: &str, address: &str| {
        let mut links = Handle::open().expect("netlink opens");
        links.set_up(device).expect("up");
        let address = address.parse().expect("a network");
        links.add_address(device, address).expect("an address");
    };
    let mut links = Handle::open().expect("netlink opens");
    links
        .add_veth("eth0", "eth0", Some(beside.as_fd()))
        .expect("a pair");
    up("eth0", "10.1.0.2/24");
    let at = addr("10.1.0.1:53");
    let socket = within(&beside, || {
        up("eth0", "10.1.0.1/24");
        let socket = std::net::UdpSocket::bind(at).expect("bound");
        socket.set_nonblocking(true).expect("set");
        socket
    });
    (UdpSocket::from_std(socket).expect("a socket"), at)
}

/// Datagrams are shared out among all sockets at an address: one that nobody reads would lose its share.
#[test]
fn a_proxy_that_leaves_reads_until_its_questions_are_answered() {
    run(async || {
        // Its question is open until the resolver is told to answer.
        let world = World::with(|settings| settings.dns.timeout = Duration::from_secs(20));
        world.change([web()]);
        let (resolver, at) = resolver();
        let served = served(&world, marked(&world)).await;
        let app = UdpSocket::bind("10.1.0.2:0").await.expect("bound");
        app.send_to(&question(7, "example.org"), at)
            .await
            .expect("sent");
        let mut asked = [0; 512];
        let (length, asker) = resolver.recv_from(&mut asked).await.expect("asked on");
        let Served {
            drain,
            mut drained,
            proxy: server,
            ..
        } = served;
        let leaving = tokio::spawn(drain.run(Duration::from_secs(20)));
        drained.begun().await;
        drop((drained, server));
        let reply = ask(proxy()[0], &question(8, NAME)).await;
        assert_eq!(read(&reply), (8, 0, ANSWER));
        asked[2] |= 0x80;
        resolver
            .send_to(&asked[..length], asker)
            .await
            .expect("sent");
        let (length, from) = app.recv_from(&mut asked).await.expect("answered");
        assert_eq!((from, read(&asked[..length]).0), (at, 7));
        leaving.await.expect("it has nothing left to do");
        UdpSocket::bind(proxy()[0]).await.expect("it is gone");
    });
}
