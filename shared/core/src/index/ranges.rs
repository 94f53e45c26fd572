//! Virtual IP ranges, found by longest prefix.

use std::sync::Arc;

use ipnet::IpNet;

use super::Map;
use super::holders::{Holders, hold, release};
use crate::addr::NetworkAddr;
use crate::model::{Service, Vip};

/// Services by CIDR. A lookup costs one probe for each prefix length in use.
#[derive(Clone, Default)]
pub(super) struct Ranges {
    by_range: Map<Vip, Holders<Arc<Service>>>,
    v4: Lengths,
    v6: Lengths,
}

/// Prefix lengths in use with their number of claims, the longest first.
type Lengths = Arc<Vec<(u8, usize)>>;

impl Ranges {
    pub(super) fn hold(&mut self, range: Vip, service: Arc<Service>) {
        let lengths = Arc::make_mut(self.lengths(range.net));
        let length = range.net.prefix_len();
        match lengths.binary_search_by(|(known, _)| length.cmp(known)) {
            Ok(at) => lengths[at].1 += 1,
            Err(at) => lengths.insert(at, (length, 1)),
        }
        hold(&mut self.by_range, range, service);
    }

    /// Puts a new version of a service in the place of the one that holds the range.
    pub(super) fn replace(&mut self, range: Vip, service: Arc<Service>) {
        hold(&mut self.by_range, range, service);
    }

    pub(super) fn release(&mut self, range: &Vip, service: &Arc<Service>) {
        let lengths = Arc::make_mut(self.lengths(range.net));
        let length = range.net.prefix_len();
        if let Ok(at) = lengths.binary_search_by(|(known, _)| length.cmp(known)) {
            lengths[at].1 -= 1;
            if lengths[at].1 == 0 {
                lengths.remove(at);
            }
        }
        release(&mut self.by_range, range, service);
    }

    /// What `found` makes of the claimants of a range that holds the address, the longest prefix
    /// first.
    pub(super) fn find<'a, T>(
        &'a self,
        addr: &NetworkAddr,
        mut found: impl FnMut(&'a [Arc<Service>]) -> Option<T>,
    ) -> Option<T> {
        let lengths = if addr.ip.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        lengths.iter().find_map(|(length, _)| {
            let net = IpNet::new(addr.ip, *length).ok()?.trunc();
            let range = Vip {
                network: addr.network.clone(),
                net,
            };
            found(self.by_range.get(&range)?.as_slice())
        })
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_empty(&self) -> bool {
        self.by_range.is_empty() && self.v4.is_empty() && self.v6.is_empty()
    }

    fn lengths(&mut self, net: IpNet) -> &mut Lengths {
        match net {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }
}
