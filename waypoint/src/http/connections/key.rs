//! What connections are told apart by.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ambit_core::identity::Identity;
use hashbrown::Equivalent;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The workload's uid: another pod at the same address is somebody else.
    pub(super) workload: Arc<str>,
    pub(super) address: SocketAddr,
    /// `None`: the waypoint itself.
    pub(super) caller: Option<(Identity, IpAddr)>,
    /// The number of the TLS client it was opened with: what was checked by another policy is not good enough.
    pub(super) tls: Option<u64>,
}

/// The same, to look it up.
#[derive(Debug, Clone, Copy, Hash)]
pub(in super::super) struct Sought<'a> {
    pub(in super::super) workload: &'a Arc<str>,
    pub(in super::super) address: SocketAddr,
    pub(in super::super) caller: Option<(&'a Identity, IpAddr)>,
    pub(in super::super) tls: Option<u64>,
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let caller = key.caller.as_ref();
        *self.workload == key.workload
            && self.address == key.address
            && self.caller == caller.map(|(identity, ip)| (identity, *ip))
            && self.tls == key.tls
    }
}

impl Sought<'_> {
    /// Kept for longer than it is looked for.
    pub(super) fn key(&self) -> Key {
        Key {
            workload: self.workload.clone(),
            address: self.address,
            caller: self.caller.map(|(identity, ip)| (identity.clone(), ip)),
            tls: self.tls,
        }
    }
}
