//! A question asked on, as it came, of the resolver that it was for. One attempt: the client has its own patience, and its own
//! list of resolvers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ambit_core::dns::{MOST_DATAGRAM, Query};
use ambit_net::sys::Sockets;
use tokio::net::{TcpStream, UdpSocket};

use super::{Failure, Transport, tcp};

/// A byte more than is ever passed on, to see that there is more.
const RECEIVED: usize = MOST_DATAGRAM as usize + 1;

/// The response of `asked` within `limit`, over the transport that the question came by.
pub(super) async fn ask(
    sockets: &Sockets,
    query: &Query,
    via: Transport,
    asked: &io::Result<SocketAddr>,
    limit: Duration,
) -> Result<Vec<u8>, Failure> {
    let resolver = resolver(asked)?;
    let asking = async {
        match via {
            Transport::Udp => by_udp(sockets, query, resolver).await,
            Transport::Tcp => by_tcp(sockets, query, resolver).await,
        }
    };
    within(resolver, limit, asking).await
}

/// A connection to `asked` in which a zone was asked for, in the client's own words.
pub(super) async fn transfer(
    sockets: &Sockets,
    query: &Query,
    asked: &io::Result<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, Failure> {
    let resolver = resolver(asked)?;
    let asking = async {
        let mut stream = sockets.connect(resolver, None).await?;
        tcp::write(&mut stream, query.message()).await?;
        Ok(stream)
    };
    within(resolver, limit, asking).await
}

fn resolver(asked: &io::Result<SocketAddr>) -> Result<SocketAddr, Failure> {
    let nobody =
        |error: &io::Error| Failure::Nobody(io::Error::new(error.kind(), error.to_string()));
    asked.as_ref().copied().map_err(nobody)
}

async fn within<T>(
    resolver: SocketAddr,
    limit: Duration,
    asking: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, asking).await {
        Ok(response) => response.map_err(|error| Failure::Upstream { resolver, error }),
        Err(_) => Err(Failure::Silent { resolver, limit }),
    }
}

/// From a port and with an id that are drawn for this question alone: whoever wants to answer in the resolver's place has to guess both.
async fn by_udp(sockets: &Sockets, query: &Query, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = sockets.correspond(resolver, None)?;
    let id = rand::random();
    socket.send(&query.forwarded(id)).await?;
    loop {
        tokio::task::consume_budget().await;
        socket.readable().await?;
        match receive(&socket) {
            Ok(response) if query.is_answered_by(&response, id) => return Ok(response),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; RECEIVED];
    let length = socket.try_recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

async fn by_tcp(sockets: &Sockets, query: &Query, resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = sockets.connect(resolver, None).await?;
    let id = rand::random();
    tcp::write(&mut stream, &query.forwarded(id)).await?;
    while let Some(response) = tcp::read(&mut stream).await? {
        if query.is_answered_by(&response, id) {
            return Ok(response);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
