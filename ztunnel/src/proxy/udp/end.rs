//! The two ends of a flow: what was captured, a socket, or a tunnel.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_net::hbone::Datagrams;
use ambit_net::relay;
use ambit_net::sys::Answering;
use socket2::SockRef;
use tokio::net::UdpSocket;

use super::Lost;
use super::table::Incoming;

/// Longer than any datagram.
pub(super) const LONGEST: usize = 1 << 16;

/// One of the two ends of a flow.
pub(super) enum End {
    /// A client that was captured.
    Captured(Client),
    /// A connected socket.
    Socket(UdpSocket),
    /// A tunnel.
    Tunnel(Box<Datagrams>),
}

/// A client that was captured: what it sends comes by the listener, and what it gets comes in the name of whom it dialled.
pub(super) struct Client {
    pub(super) incoming: Incoming,
    pub(super) answering: Arc<Answering>,
    pub(super) address: SocketAddr,
    pub(super) dialled: SocketAddr,
}

impl End {
    /// The next datagram; none when the other side has ended the flow. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// How the flow ends otherwise: nobody listens there (ICMP), or the tunnel broke.
    pub(super) async fn receive(&mut self) -> Result<Option<Vec<u8>>, relay::Error> {
        match self {
            Self::Captured(client) => Ok(client.incoming.next().await),
            Self::Socket(socket) => receive(socket).await.map(Some).map_err(relay::Error::Far),
            Self::Tunnel(tunnel) => tunnel.receive().await,
        }
    }

    /// Passes a datagram on, if there is room for it.
    ///
    /// # Errors
    /// How the flow ends.
    pub(super) fn send(&mut self, payload: &[u8]) -> Result<Result<(), Lost>, relay::Error> {
        match self {
            Self::Captured(client) => {
                let answering = &client.answering;
                let sent = answering.send(client.dialled, client.address, payload);
                // A client that is not there is none of the flow's: it may come back.
                Ok(sent.map_err(|_| Lost::Socket))
            }
            // Whether tokio knows already that there is room does not matter.
            Self::Socket(socket) => match SockRef::from(&*socket).send(payload) {
                Ok(_) => Ok(Ok(())),
                Err(error) if is_over(&error) => Err(relay::Error::Far(error)),
                Err(_) => Ok(Err(Lost::Socket)),
            },
            Self::Tunnel(tunnel) => {
                let sent = tunnel.send(payload)?;
                Ok(if sent { Ok(()) } else { Err(Lost::Window) })
            }
        }
    }

    /// Ends it in order.
    pub(super) fn finish(&mut self) {
        if let Self::Tunnel(tunnel) = self {
            tunnel.finish();
        }
    }
}

async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LONGEST]);
    }
    loop {
        socket.readable().await?;
        let received: io::Result<_> = BUFFER.with_borrow_mut(|buffer| {
            let length = socket.try_recv(buffer)?;
            Ok(buffer[..length].to_vec())
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// Nobody listens there, or there is no way. All else is the matter of one datagram.
fn is_over(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
