//! A `SOCK_SEQPACKET` socket in tokio: whole messages, each with at most one descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use prost::Message;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Error, PACKET};
use crate::sys::{Packet, receive_packet, send_packet, watch};

#[derive(Debug)]
pub(super) struct Packets {
    socket: AsyncFd<Socket>,
}

/// A message and the descriptor that came with it, or what is wrong with the packet they came in.
pub(super) type Received<M> = Result<(M, Option<OwnedFd>), Error>;

impl Packets {
    /// Unix sockets connect at once, or fail with `WouldBlock` when the listener's queue is full.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::from_socket(socket)
    }

    pub(super) fn from_socket(socket: Socket) -> io::Result<Self> {
        Ok(Self {
            socket: watch(socket)?,
        })
    }

    pub(super) async fn send<M: Message>(
        &self,
        message: &M,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let bytes = message.encode_to_vec();
        if bytes.len() > PACKET {
            let length = bytes.len();
            let reason = format!("{length} octets are more than the {PACKET} of a packet");
            return Err(Error::Malformed(reason));
        }
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                send_packet(socket.as_fd(), &bytes, descriptor)
            })
            .await?;
        Ok(())
    }

    /// The next message, or `None` at the end. The outer error ends the connection, the inner one is about this packet.
    pub(super) async fn receive<M: Message + Default>(&self) -> Result<Option<Received<M>>, Error> {
        let mut buffer = [0; PACKET];
        let packet = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                receive_packet(socket.as_fd(), &mut buffer)
            })
            .await?;
        if packet.length == 0 && packet.descriptors.is_empty() && !packet.truncated {
            return Ok(None);
        }
        Ok(Some(parse(&buffer, packet)))
    }
}

fn parse<M: Message + Default>(buffer: &[u8], mut packet: Packet) -> Received<M> {
    if packet.truncated {
        return Err(Error::Malformed("the packet is too long".into()));
    }
    if packet.descriptors.len() > 1 {
        let reason = format!("{} descriptors in one packet", packet.descriptors.len());
        return Err(Error::Malformed(reason));
    }
    let message =
        M::decode(&buffer[..packet.length]).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok((message, packet.descriptors.pop()))
}
