//! Addresses of devices.

use ipnet::IpNet;

use super::{Handle, Ip, octets, parse_ip};
use crate::netlink::Error;
use crate::netlink::message::{Message, attributes, u32_at};

const IFA_F_NODAD: u8 = 0x02;

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the device.
    pub link: u32,
    /// The address and the length of its network's prefix.
    pub net: IpNet,
}

impl Handle {
    /// Gives `name` an address, usable at once (no duplicate address detection). One it has already is fine.
    pub fn add_address(&mut self, name: &str, net: IpNet) -> Result<(), Error> {
        let how = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.address("add address", libc::RTM_NEWADDR, how, name, net)
    }

    /// Takes an address from `name`.
    pub fn delete_address(&mut self, name: &str, net: IpNet) -> Result<(), Error> {
        self.address("delete address", libc::RTM_DELADDR, 0, name, net)
    }

    /// The addresses of `name`, or of all devices.
    pub fn addresses(&mut self, name: Option<&str>) -> Result<Vec<Address>, Error> {
        let only = match name {
            Some(name) => Some(self.link(name)?.index),
            None => None,
        };
        let request = Message::new(libc::RTM_GETADDR, 0).fixed(&[0; 8]);
        let found = self
            .socket
            .dump(&request)
            .map_err(|failure| failure.during("list", "addresses"))?;
        Ok(found
            .iter()
            .filter_map(|body| parse(body))
            .filter(|address| only.is_none_or(|index| index == address.link))
            .collect())
    }

    fn address(
        &mut self,
        operation: &'static str,
        kind: u16,
        how: i32,
        name: &str,
        net: IpNet,
    ) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let (family, nodad) = match net {
            IpNet::V4(_) => (Ip::V4, 0),
            IpNet::V6(_) => (Ip::V6, IFA_F_NODAD),
        };
        let mut header = [family.number(), net.prefix_len(), nodad, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Message::new(kind, how).fixed(&header);
        request.attr(libc::IFA_LOCAL, &octets(net.addr()));
        request.attr(libc::IFA_ADDRESS, &octets(net.addr()));
        self.socket
            .request(request)
            .map_err(|failure| failure.during(operation, format!("{net} of {name}")))
    }
}

/// IPv4 has the device's own address in `IFA_LOCAL`, IPv6 in `IFA_ADDRESS`.
fn parse(body: &[u8]) -> Option<Address> {
    let prefix = *body.get(1)?;
    let link = u32_at(body, 4)?;
    let find = |wanted| {
        attributes(body.get(8..)?)
            .find(|(kind, _)| *kind == wanted)
            .and_then(|(_, value)| parse_ip(value))
    };
    let ip = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    let net = IpNet::new(ip, prefix).ok()?;
    Some(Address { link, net })
}
