//! Links, addresses, routes and policy rules (`NETLINK_ROUTE`).

mod address;
mod link;
mod policy;
mod table;

use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::Error;
use super::socket::Socket;

pub use address::Address;
pub use link::Link;
pub use policy::PolicyRule;
pub use table::Route;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Ip {
    /// Both, for what is done twice.
    pub const BOTH: [Ip; 2] = [Ip::V4, Ip::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(crate) fn number(self) -> u8 {
        let number = match self {
            Ip::V4 => libc::AF_INET,
            Ip::V6 => libc::AF_INET6,
        };
        number as u8
    }
}

/// Links, addresses, routes and rules of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

impl Handle {
    /// A handle on the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(SockProtocol::NetlinkRoute)
            .map_err(|failure| failure.during("open netlink socket for", "routes and links"))?;
        Ok(Self { socket })
    }
}

/// An address as the kernel has it.
fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address in the octets of an attribute.
fn parse_ip(octets: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(Into::into)
}

#[cfg(test)]
mod tests;
