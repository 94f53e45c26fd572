//! Links, addresses, routes, packet filter rules and tracked connections, over netlink.
//!
//! Everything here is synchronous: the kernel answers a request before `send` returns. A handle belongs to the network
//! namespace of the thread that opened it and keeps to it, whichever thread uses it later. No program is ever run.

#![allow(unsafe_code)]

pub mod conntrack;
mod message;
pub mod nft;
pub mod route;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::fmt;
use std::io;

use nix::errno::Errno;

/// A request the kernel refused, or that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was tried, as words: `add veth`.
    pub operation: &'static str,
    /// What it was tried on: the name of a link, a route, a table.
    pub object: String,
    /// The kernel's error number.
    pub errno: Errno,
    /// The kernel's own words, when it has any (extended ACK).
    pub detail: Option<String>,
}

impl Error {
    /// The thing is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno == Errno::EEXIST
    }

    /// The thing, or what it refers to, is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno,
            Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.operation,
            self.object,
            self.errno.desc()
        )?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(io::Error::from(error.errno).kind(), error)
    }
}

/// What [`Error`] says, before the caller adds what it was doing.
#[derive(Debug)]
pub(crate) struct Failure {
    errno: Errno,
    detail: Option<String>,
}

impl Failure {
    fn new(errno: Errno, detail: impl Into<String>) -> Self {
        Self {
            errno,
            detail: Some(detail.into()),
        }
    }

    fn during(self, operation: &'static str, object: impl fmt::Display) -> Error {
        Error {
            operation,
            object: object.to_string(),
            errno: self.errno,
            detail: self.detail,
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            detail: None,
        }
    }
}

/// A firewall mark and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The bits' values.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}
