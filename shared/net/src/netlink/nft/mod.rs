//! Packet filter rules (nf_tables, `NETLINK_NETFILTER`).
//!
//! Tables, chains and rules are plain data that shows itself in the words of `nft`. A [`Batch`] changes the kernel's
//! tables in one transaction: all of it happens or nothing.

mod batch;
mod constants;
mod encode;
mod rule;
mod show;
mod table;
mod verify;

use nix::sys::socket::SockProtocol;

use super::Error;
use super::socket::Socket;

pub use batch::Batch;
pub use rule::{Action, Field, MarkOf, Rule, Side, Spread, Test, Verdict, Way};
pub use table::{
    Base, Chain, ChainKind, Element, Family, Hook, Key, KeyType, Set, Table, priority,
};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn number(self) -> u8 {
        let number = match self {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        number as u8
    }
}

/// The packet filter of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

impl Handle {
    /// A handle on the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)
            .map_err(|failure| failure.during("open netlink socket for", "packet filter rules"))?;
        Ok(Self { socket })
    }

    /// Makes the changes of `batch`, all or none.
    pub fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        batch.send(&mut self.socket)
    }

    /// Puts `table` in the place of the one of its name, if there is one. Traffic never meets half of it.
    pub fn replace(&mut self, table: &Table) -> Result<(), Error> {
        self.commit(Batch::new().replace_table(table))
    }

    /// Removes the table of this name, if there is one.
    pub fn remove(&mut self, family: Family, name: &str) -> Result<(), Error> {
        self.commit(Batch::new().remove_table(family, name))
    }

    /// How the kernel's chains and rules differ from `table`, one line each; nothing means that it is in force.
    /// The elements of its sets are not compared.
    pub fn differences(&mut self, table: &Table) -> Result<Vec<String>, Error> {
        verify::differences(&mut self.socket, table)
    }
}

#[cfg(test)]
mod tests;
