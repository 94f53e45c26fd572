//! Network devices.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Handle;
use crate::netlink::message::{Message, attributes, text, u32_at};
use crate::netlink::{Error, Failure};

const VETH_INFO_PEER: u16 = 1;
/// Longest name of a device, without the zero that ends it.
const NAME_LIMIT: usize = libc::IFNAMSIZ - 1;

/// A network device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it was set up by an administrator.
    pub up: bool,
    /// Largest packet.
    pub mtu: u32,
    /// Hardware address, for devices that have one of six octets.
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge it belongs to.
    pub master: Option<u32>,
    /// Its driver's word: `veth`, `bridge`.
    pub kind: Option<String>,
}

impl Handle {
    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let request = message(libc::RTM_GETLINK, 0, 0, 0, 0);
        let found = self
            .socket
            .dump(&request)
            .map_err(|failure| failure.during("list", "links"))?;
        Ok(found.iter().filter_map(|body| parse(body)).collect())
    }

    /// The device of this name.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        let all = self.links()?;
        all.into_iter()
            .find(|link| link.name == name)
            .ok_or_else(|| Failure::from(nix::errno::Errno::ENODEV).during("find link", name))
    }

    /// A veth pair: `name` here, `peer` in `peer_netns` or here. Both start down.
    pub fn add_veth(
        &mut self,
        name: &str,
        peer: &str,
        peer_netns: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let object = format!("{name} with peer {peer}");
        check_name(name)
            .and_then(|()| check_name(peer))
            .and_then(|()| {
                let mut request = create(name);
                request.nest(libc::IFLA_LINKINFO, |m| {
                    m.attr_str(libc::IFLA_INFO_KIND, "veth");
                    m.nest(libc::IFLA_INFO_DATA, |m| {
                        m.nest(VETH_INFO_PEER, |m| {
                            m.raw(&header(0, 0, 0));
                            m.attr_str(libc::IFLA_IFNAME, peer);
                            if let Some(netns) = peer_netns {
                                m.attr_u32(libc::IFLA_NET_NS_FD, fd_number(netns));
                            }
                        });
                    });
                });
                self.socket.request(request)
            })
            .map_err(|failure| failure.during("add veth", object))
    }

    /// A bridge. It starts down.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), Error> {
        check_name(name)
            .and_then(|()| {
                let mut request = create(name);
                request.nest(libc::IFLA_LINKINFO, |m| {
                    m.attr_str(libc::IFLA_INFO_KIND, "bridge");
                });
                self.socket.request(request)
            })
            .map_err(|failure| failure.during("add bridge", name))
    }

    /// Removes a device; a veth's peer goes with it.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        self.change("delete link", name, libc::RTM_DELLINK, 0, 0, |_| {})
    }

    /// Gives the device another name; it must be down.
    pub fn rename(&mut self, name: &str, new: &str) -> Result<(), Error> {
        check_name(new).map_err(|failure| failure.during("rename link", name))?;
        self.set("rename link", name, |m| {
            m.attr_str(libc::IFLA_IFNAME, new);
        })
    }

    /// Takes the device into use.
    pub fn set_up(&mut self, name: &str) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        self.change("set up link", name, libc::RTM_NEWLINK, up, up, |_| {})
    }

    /// Makes the device a port of the bridge `master`, or of none.
    pub fn set_master(&mut self, name: &str, master: Option<&str>) -> Result<(), Error> {
        let index = match master {
            Some(master) => self.link(master)?.index,
            None => 0,
        };
        self.set("set master of link", name, |m| {
            m.attr_u32(libc::IFLA_MASTER, index);
        })
    }

    /// Sets the hardware address.
    pub fn set_hardware_address(&mut self, name: &str, mac: [u8; 6]) -> Result<(), Error> {
        self.set("set hardware address of link", name, |m| {
            m.attr(libc::IFLA_ADDRESS, &mac);
        })
    }

    /// Sets the largest packet.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), Error> {
        self.set("set MTU of link", name, |m| {
            m.attr_u32(libc::IFLA_MTU, mtu);
        })
    }

    fn set(
        &mut self,
        operation: &'static str,
        name: &str,
        fill: impl FnOnce(&mut Message),
    ) -> Result<(), Error> {
        self.change(operation, name, libc::RTM_NEWLINK, 0, 0, fill)
    }

    fn change(
        &mut self,
        operation: &'static str,
        name: &str,
        kind: u16,
        flags: u32,
        flags_changed: u32,
        fill: impl FnOnce(&mut Message),
    ) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let mut request = message(kind, 0, index, flags, flags_changed);
        fill(&mut request);
        self.socket
            .request(request)
            .map_err(|failure| failure.during(operation, name))
    }
}

/// `struct ifinfomsg`.
fn header(index: u32, flags: u32, flags_changed: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags_changed.to_ne_bytes());
    header
}

fn message(kind: u16, how: i32, index: u32, flags: u32, flags_changed: u32) -> Message {
    Message::new(kind, how).fixed(&header(index, flags, flags_changed))
}

fn create(name: &str) -> Message {
    let how = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = message(libc::RTM_NEWLINK, how, 0, 0, 0);
    request.attr_str(libc::IFLA_IFNAME, name);
    request
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        let detail = format!("the name of a link has 1 to {NAME_LIMIT} octets: {name:?}");
        return Err(Failure::new(nix::errno::Errno::EINVAL, detail));
    }
    Ok(())
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn parse(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(body, 4)?,
        name: String::new(),
        up: u32_at(body, 8)? & libc::IFF_UP as u32 != 0,
        mtu: 0,
        mac: None,
        master: None,
        kind: None,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MASTER => link.master = u32_at(value, 0),
            libc::IFLA_LINKINFO => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map(|(_, value)| text(value));
            }
            _ => {}
        }
    }
    Some(link)
}
