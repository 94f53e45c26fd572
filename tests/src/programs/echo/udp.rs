//! Datagrams: each is answered with a line of JSON about it, and itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::socket::{Ends, canonical};
use super::{Process, received};

/// Receives at an address, of IPv4 as well when it is the unspecified one of IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers for ever. What does not fit with the line into one datagram is answered with the line alone.
pub(super) async fn serve(process: Arc<Process>, socket: UdpSocket) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let answered = answer(&process, &socket, &mut buffer).await;
        if let Err(error) = answered {
            // What a client that is gone has caused, mostly.
            tracing::debug!("a datagram is not answered: {error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn answer(process: &Process, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
    let (length, client) = socket.recv_from(buffer).await?;
    let ends = Ends {
        remote: canonical(client),
        local: socket.local_addr()?,
    };
    let mut about = received::about_connection(process, ends);
    about["protocol"] = "udp".into();
    about["bytes"] = length.into();
    let mut reply = format!("{about}\n").into_bytes();
    if reply.len() + length <= 65_507 {
        reply.extend_from_slice(&buffer[..length]);
    }
    socket.send_to(&reply, client).await.map(drop)
}
