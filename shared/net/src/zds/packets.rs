//! A `SOCK_SEQPACKET` socket in tokio: whole messages, each with at most one descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ambit_core::zds::{LONGEST, Malformed};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Error;
use crate::sys::{Packet, receive_packet, send_packet, watch};

#[derive(Debug)]
pub(super) struct Packets {
    socket: AsyncFd<Socket>,
}

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

    pub(super) async fn send(
        &self,
        message: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        if message.len() > LONGEST {
            let length = message.len();
            let reason = format!("{length} octets are more than the {LONGEST} of a packet");
            return Err(Malformed::new(reason).into());
        }
        self.socket
            .async_io(Interest::WRITABLE, |socket| {
                send_packet(socket.as_fd(), message, descriptor)
            })
            .await?;
        Ok(())
    }

    /// The next message, as `decode` reads it and the descriptor that came with it, or `None` at the end. The outer error
    /// ends the connection, the inner one is about this packet.
    pub(super) async fn receive<T>(
        &self,
        decode: impl FnOnce(&[u8], Option<OwnedFd>) -> Result<T, Malformed>,
    ) -> Result<Option<Result<T, Malformed>>, Error> {
        let mut buffer = [0; LONGEST];
        let packet = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                receive_packet(socket.as_fd(), &mut buffer)
            })
            .await?;
        if packet.length == 0 && packet.descriptors.is_empty() && !packet.truncated {
            return Ok(None);
        }
        let length = packet.length;
        let descriptor = one_descriptor(packet);
        Ok(Some(descriptor.and_then(|descriptor| {
            decode(&buffer[..length], descriptor)
        })))
    }
}

fn one_descriptor(mut packet: Packet) -> Result<Option<OwnedFd>, Malformed> {
    if packet.truncated {
        return Err(Malformed::new("the packet is too long"));
    }
    if packet.descriptors.len() > 1 {
        let reason = format!("{} descriptors in one packet", packet.descriptors.len());
        return Err(Malformed::new(reason));
    }
    Ok(packet.descriptors.pop())
}
