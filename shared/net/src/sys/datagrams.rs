//! UDP that was captured: who sent a datagram and where it was going, and answers in the name of that.
//!
//! Where a datagram was going is said by the kernel with the datagram itself (`IP_RECVORIGDSTADDR`). Answers come from raw
//! sockets: an ordinary one cannot have an address and a port that an application of the same namespace listens on, and a
//! pod that listens on all addresses has that port of every address there is.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::ANSWER_MARK;
use super::sockets::{Sockets, no_ipv6, transparent};

/// Receives what a pod's packet filter leads to a port (`tproxy`).
#[derive(Debug)]
pub struct Capturing {
    socket: UdpSocket,
}

/// A datagram that was captured, but for its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Octets of payload.
    pub length: usize,
    /// Who sent it.
    pub client: SocketAddr,
    /// Where it was going.
    pub dialled: SocketAddr,
}

impl Capturing {
    /// Waits until something has come, so that who has nothing to receive needs no buffer.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram, its payload at the beginning of `buffer`. What is longer than that is cut off.
    ///
    /// # Errors
    /// As the kernel says, or when it does not say where a datagram was going.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Captured> {
        let receive = || receive(&self.socket, buffer);
        self.socket.async_io(Interest::READABLE, receive).await
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Captured> {
    let mut space = nix::cmsg_space!(libc::sockaddr_in6, libc::sockaddr_in6);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut space), flags)?;
    let mut dialled = None;
    for said in message.cmsgs()? {
        match said {
            ControlMessageOwned::Ipv4OrigDstAddr(at) => {
                dialled = Some(SocketAddrV4::from(SockaddrIn::from(at)).into());
            }
            ControlMessageOwned::Ipv6OrigDstAddr(at) => {
                dialled = Some(SocketAddrV6::from(SockaddrIn6::from(at)).into());
            }
            _ => {}
        }
    }
    let unsaid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let dialled: SocketAddr = dialled.ok_or_else(|| unsaid("a datagram without a destination"))?;
    let client = message.address.as_ref().and_then(address);
    let client = client.ok_or_else(|| unsaid("a datagram without a sender"))?;
    Ok(Captured {
        length: message.bytes,
        client: canonical(client),
        dialled: canonical(dialled),
    })
}

fn address(at: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = at.as_sockaddr_in().map(|at| SocketAddrV4::from(*at).into());
    v4.or_else(|| {
        at.as_sockaddr_in6()
            .map(|at| SocketAddrV6::from(*at).into())
    })
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Sends datagrams in the name of whomever. Needs `CAP_NET_RAW`.
#[derive(Debug)]
pub struct Answering {
    v4: Socket,
    /// None where the namespace has no IPv6.
    v6: Option<Socket>,
}

impl Answering {
    /// Sends a datagram that comes `from` there.
    ///
    /// # Errors
    /// As the kernel says: that there is no room for it now (`WouldBlock`), among others.
    pub fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let header = header(from, to, payload).ok_or(io::ErrorKind::InvalidInput)?;
        let slices = [IoSlice::new(&header), IoSlice::new(payload)];
        let flags = MsgFlags::MSG_DONTWAIT;
        match (from.ip(), to.ip(), &self.v6) {
            (IpAddr::V4(from), IpAddr::V4(to), _) => {
                let source = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(from.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                let said = [ControlMessage::Ipv4PacketInfo(&source)];
                sendmsg(self.v4.as_raw_fd(), &slices, &said, flags, Some(&to))?;
            }
            (IpAddr::V6(from), IpAddr::V6(to), Some(socket)) => {
                let source = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: from.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                let said = [ControlMessage::Ipv6PacketInfo(&source)];
                sendmsg(socket.as_raw_fd(), &slices, &said, flags, Some(&to))?;
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }
}

/// The header of a datagram (RFC 768), with the checksum that IPv6 asks for (RFC 8200 section 8.1). None for what is too long.
fn header(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<[u8; 8]> {
    let length = u16::try_from(payload.len() + 8).ok()?;
    let mut header = [0; 8];
    header[..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let words = |bytes: &[u8]| -> u64 {
        let pairs = bytes.chunks(2);
        pairs
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    const UDP: u64 = libc::IPPROTO_UDP as u64;
    let pseudo = ip(from.ip()) + ip(to.ip()) + UDP + u64::from(length);
    let mut sum = pseudo + words(&header) + words(payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero would say that there is none.
    let sum = match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    };
    header[6..].copy_from_slice(&sum.to_be_bytes());
    Some(header)
}

impl Sockets {
    /// Receives what is led to `port`, of both families; of IPv4 alone where the namespace has no IPv6. Several sockets may
    /// (`SO_REUSEPORT`), so that an upgrade overlaps.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn capture(&self, port: u16) -> io::Result<Capturing> {
        let at = |ip: IpAddr| {
            let address = SocketAddr::new(ip, port);
            let socket = self.made(address, Type::DGRAM, Protocol::UDP)?;
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
                setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
            }
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
            transparent(&socket, address)?;
            // An upgrade overlaps by this alone, which is for one user. SO_REUSEADDR would let any other take the port.
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            UdpSocket::from_std(socket.into())
        };
        let socket = match at(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if no_ipv6(&error) => at(std::net::Ipv4Addr::UNSPECIFIED.into()),
            result => result,
        }?;
        Ok(Capturing { socket })
    }

    /// Sends in the name of whomever.
    ///
    /// # Errors
    /// As the kernel says; it needs `CAP_NET_RAW`.
    pub fn answer(&self) -> io::Result<Answering> {
        let any = |ip: IpAddr| {
            let address = SocketAddr::new(ip, 0);
            let socket = self.made(address, Type::RAW, Protocol::UDP)?;
            // It would get a copy of every datagram of the namespace: BPF_RET | BPF_K, nothing.
            socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
            transparent(&socket, address)?;
            if self.mark.is_some() {
                socket.set_mark(ANSWER_MARK)?;
            }
            Ok(socket)
        };
        let v4 = any(std::net::Ipv4Addr::UNSPECIFIED.into())?;
        let v6 = match any(Ipv6Addr::UNSPECIFIED.into()) {
            Ok(socket) => Some(socket),
            Err(error) if no_ipv6(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Answering { v4, v6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn headers_are_as_the_wire_has_them() {
        // 10.0.0.1 to 10.0.0.2: the sum is 2 * 0x0a00 + 3 + 17 + 11 + (53 + 40000 + 11) + 0x6162 + 0x6300.
        let header = header(at("10.0.0.1:53"), at("10.0.0.2:40000"), b"abc");
        let expected = [0, 53, 0x9c, 0x40, 0, 11, 0x8a, 0xfd];
        assert_eq!(header, Some(expected));
        let long = super::header(at("10.0.0.1:53"), at("10.0.0.2:1"), &[0; 65_528]);
        assert_eq!(long, None);
    }

    /// What a receiver does: all words, the checksum among them, sum up to ones alone.
    #[test]
    fn checksums_hold() {
        for (from, to) in [
            ("192.0.2.1:65535", "198.51.100.2:1"),
            ("[2001:db8::ffff]:53", "[fd00::2]:40000"),
        ] {
            for length in [0, 1, 2, 1_001, 65_527] {
                let payload = vec![0xa5; length];
                let header = header(at(from), at(to), &payload).expect("short");
                let mut all = header.to_vec();
                all.extend(&payload);
                all.resize(all.len().next_multiple_of(2), 0);
                for ip in [at(from).ip(), at(to).ip()] {
                    match ip {
                        IpAddr::V4(ip) => all.extend(ip.octets()),
                        IpAddr::V6(ip) => all.extend(ip.octets()),
                    }
                }
                all.extend([0, 17, header[4], header[5]]);
                let words = all.chunks(2);
                let sum: u32 = words
                    .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                    .sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{from} {length}");
            }
        }
    }
}
