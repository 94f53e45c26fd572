//! An application that unwraps tunnels itself: before the first byte of each it is told who called and what for, in a
//! header of the PROXY protocol.

use ambit_core::model::ApplicationTunnel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{CLIENT, SERVER, dial, exchange, line, run};
use crate::testing::{World, addr, workload};

/// The header of a tunnel of the client to `port` of the server, as it is on the wire (PROXY protocol 2.2), in two
/// parts: between them is the port that the client's proxy called from. It has no network of its own here, so it
/// called from the loopback address.
fn header(port: u16) -> [Vec<u8>; 2] {
    let identity = b"spiffe://cluster.local/ns/ns/sa/client";
    // Two addresses, two ports, and a TLV of a type and a length.
    let length = 2 * 4 + 2 * 2 + 3 + identity.len();
    let mut front = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    // Version 2 and PROXY, TCP over IPv4.
    front.extend([0x21, 0x11, 0, length as u8]);
    front.extend([127, 0, 0, 1]);
    front.extend([127, 61, 0, 2]);
    let mut back = port.to_be_bytes().to_vec();
    back.extend([0xd0, 0, identity.len() as u8]);
    back.extend(identity);
    [front, back]
}

#[test]
fn every_tunnel_begins_with_who_called_and_what_for() {
    run(async || {
        let world = World::new();
        let app = TcpListener::bind((SERVER, 0)).await.expect("a port");
        let port = Some(app.local_addr().expect("bound").port());
        let mut server = workload("server", SERVER);
        server.application_tunnel = Some(ApplicationTunnel { port });
        let client = world.serve(&workload("client", CLIENT)).await;
        let _server = world.serve(&server).await;
        // The second is in the connection of the first.
        for (number, asked) in [80, 8443].into_iter().enumerate() {
            let dialled = addr(&format!("{SERVER}:{asked}"));
            let application = async {
                let (mut stream, _) = app.accept().await.expect("a connection");
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.expect("all of it");
                stream.write_all(b"back").await.expect("answered");
                received
            };
            let (received, back) =
                tokio::join!(application, exchange(dial(&client, dialled).await, "hello"));
            assert_eq!(back.expect("carried"), "back");
            let [front, back] = header(asked);
            let rest = received.strip_prefix(&front[..]).expect("the client");
            let (calling, rest) = rest.split_at_checked(2).expect("its port");
            assert_ne!(calling, [0, 0]);
            let rest = rest.strip_prefix(&back[..]).expect("what it asked for");
            assert_eq!(rest, b"hello");
            // What the proxies count is the application's.
            let log = world.logged(2 * number + 2).await;
            let inbound = line(&log[2 * number..], "inbound");
            assert_eq!(inbound["bytes_recv"], 5, "{inbound}");
            assert_eq!(inbound["dst.hbone_addr"], dialled.to_string());
        }
        assert_eq!(world.shared.peers(), 1, "one connection");
    });
}
