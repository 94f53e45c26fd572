//! Where a redirected datagram was going.
//!
//! A connection says so itself (`SO_ORIGINAL_DST`); for UDP only the kernel's table of tracked connections does
//! (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::message::{Message, attributes};
use super::route::Ip;
use super::socket::Socket;
use super::{Error, Failure};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;

const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;

const UDP: u8 = 17;

const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// The table of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

impl Handle {
    /// The table of the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, Error> {
        let opened = Socket::open(SockProtocol::NetlinkNetFilter);
        let socket = opened.map_err(|failure| failure.during("open", "conntrack"))?;
        Ok(Self { socket })
    }

    /// Where UDP from `client` was going that was received at `local`.
    ///
    /// # Errors
    /// When the kernel does not track it, and for what was sent to `local` and nowhere else: that is invalid.
    pub fn original_destination(
        &mut self,
        client: SocketAddr,
        local: SocketAddr,
    ) -> Result<SocketAddr, Error> {
        let found = self.find(client, local);
        found.map_err(|failure| failure.during("track", format!("UDP of {client} at {local}")))
    }

    fn find(&mut self, client: SocketAddr, local: SocketAddr) -> Result<SocketAddr, Failure> {
        let family = Ip::of(client.ip()).number();
        let mut message = Message::new(GET, 0).fixed(&[family, 0, 0, 0]);
        // As its answer goes, for that is how it is seen here.
        message.nest(TUPLE_REPLY, |m| tuple(m, local, client));
        let answer = self.socket.ask(message)?;
        let unreadable = || Failure::new(Errno::EPROTO, "the answer names no address");
        let found = destination(answer.get(4..).unwrap_or_default()).ok_or_else(unreadable)?;
        if found == local {
            return Err(Failure::new(Errno::EINVAL, "it was not redirected"));
        }
        Ok(found)
    }
}

fn tuple(message: &mut Message, source: SocketAddr, destination: SocketAddr) {
    message.nest(TUPLE_IP, |m| {
        for (kinds, ip) in [
            ((IP_V4_SRC, IP_V6_SRC), source.ip()),
            ((IP_V4_DST, IP_V6_DST), destination.ip()),
        ] {
            match ip {
                IpAddr::V4(ip) => m.attr(kinds.0, &ip.octets()),
                IpAddr::V6(ip) => m.attr(kinds.1, &ip.octets()),
            }
        }
    });
    message.nest(TUPLE_PROTO, |m| {
        m.attr(PROTO_NUM, &[UDP]);
        m.attr(PROTO_SRC_PORT, &source.port().to_be_bytes());
        m.attr(PROTO_DST_PORT, &destination.port().to_be_bytes());
    });
}

fn destination(answer: &[u8]) -> Option<SocketAddr> {
    let original = nested(answer, TUPLE_ORIG)?;
    let address = nested(original, TUPLE_IP)?;
    let ip: IpAddr = match nested(address, IP_V4_DST) {
        Some(octets) => <[u8; 4]>::try_from(octets).ok()?.into(),
        None => <[u8; 16]>::try_from(nested(address, IP_V6_DST)?)
            .ok()?
            .into(),
    };
    let port = nested(nested(original, TUPLE_PROTO)?, PROTO_DST_PORT)?;
    Some((ip, u16::from_be_bytes(port.try_into().ok()?)).into())
}

fn nested(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes);
    all.find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}
