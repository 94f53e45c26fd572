//! Addresses for hosts of ServiceEntries that have none of their own, in the ranges that Istio takes them from.
//!
//! An address follows from namespace, entry and host. Whoever has one keeps it: by what the status says, else by age. So it is the same after
//! a restart, and a new entry never takes the address of an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Resolution, hosts};
use crate::index::objects::Table;
use crate::source::entry::ServiceEntry;
use crate::translate::labels::label;

/// `false` on an entry whose hosts get no address.
const ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// The numbers that an address of 240.240.0.0/16 or of 2001:2::/48 is made of; not those of the network and of broadcast.
const NUMBERS: std::ops::RangeInclusive<u16> = 1..=u16::MAX - 1;

/// A host of an entry: namespace, entry, host.
type Host = (Arc<str>, Arc<str>, String);

/// The addresses of all hosts that need one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    hosts: BTreeMap<Host, [Option<IpAddr>; 2]>,
}

/// What an entry is given an address by.
struct Claim<'a> {
    host: Host,
    entry: &'a ServiceEntry,
}

impl Allocation {
    /// What follows from these entries.
    #[must_use]
    pub fn of(entries: &Table<ServiceEntry>) -> Self {
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        let mut claims = Vec::new();
        for (namespace, name, entry) in entries.all() {
            taken.extend(
                entry
                    .spec
                    .addresses
                    .iter()
                    .filter_map(|it| it.parse::<IpAddr>().ok()),
            );
            if wants(entry) {
                claims.extend(hosts(entry).map(|host| Claim {
                    host: (namespace.clone(), name.clone(), host),
                    entry,
                }));
            }
        }
        claims.sort_by_key(|claim| (age(&claim.entry.metadata), claim.host.clone()));
        let mut allocation = Self::default();
        for family in [0, 1] {
            for claim in &claims {
                let kept = held(claim, family).filter(|ip| taken.insert(*ip));
                allocation.hosts.entry(claim.host.clone()).or_default()[family] = kept;
            }
            let mut left = true;
            for claim in &claims {
                let given = &mut allocation.hosts.entry(claim.host.clone()).or_default()[family];
                if given.is_none() && left {
                    *given = free(&claim.host, family, &mut taken);
                    left = given.is_some();
                }
            }
        }
        allocation
    }

    /// The addresses of a host, IPv4 first; none when it has its own, or when all are taken.
    pub fn addresses(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
    ) -> impl Iterator<Item = IpAddr> + use<> {
        let host = (namespace.into(), name.into(), host.to_owned());
        let found = self.hosts.get(&host).copied().unwrap_or_default();
        found.into_iter().flatten()
    }

    /// Entries, as namespace and name, whose addresses are others in `new`.
    #[must_use]
    pub fn differs(&self, new: &Self) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let both = self.hosts.keys().chain(new.hosts.keys());
        both.filter(|host| self.hosts.get(*host) != new.hosts.get(*host))
            .map(|(namespace, name, _)| (namespace.clone(), name.clone()))
            .collect()
    }
}

fn wants(entry: &ServiceEntry) -> bool {
    let off = label(&entry.metadata, ALLOCATE).is_some_and(|it| it.eq_ignore_ascii_case("false"));
    let resolution = Resolution::of(&entry.spec);
    entry.spec.addresses.is_empty() && !off && resolution.is_ok_and(|it| it != Resolution::None)
}

/// Those without a time of creation are as old as can be.
fn age(metadata: &ObjectMeta) -> String {
    let created = metadata.creation_timestamp.as_ref();
    created.map(|time| time.0.to_string()).unwrap_or_default()
}

/// The address that the status says.
fn held(claim: &Claim<'_>, family: usize) -> Option<IpAddr> {
    let status = claim.entry.status.as_ref()?;
    let mut said = status
        .addresses
        .iter()
        .filter(|it| it.host.eq_ignore_ascii_case(&claim.host.2));
    said.find_map(|it| it.value.parse().ok().filter(|ip| is_in_range(*ip, family)))
}

fn is_in_range(ip: IpAddr, family: usize) -> bool {
    match ip {
        IpAddr::V4(ip) => family == 0 && ip.octets()[..2] == [240, 240],
        IpAddr::V6(ip) => family == 1 && ip.segments()[..3] == [0x2001, 2, 0],
    }
}

/// The first free address from the one that follows from the host's name.
fn free(host: &Host, family: usize, taken: &mut BTreeSet<IpAddr>) -> Option<IpAddr> {
    let (first, count) = (*NUMBERS.start(), NUMBERS.len() as u64);
    let start = digest(host) % count;
    let numbers = (0..count).map(|step| {
        let number = (start + step) % count;
        first + u16::try_from(number).expect("there are fewer than 65,536 of them")
    });
    let mut addresses = numbers.map(|number| address(number, family));
    addresses.find(|ip| taken.insert(*ip))
}

fn address(number: u16, family: usize) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        0 => Ipv4Addr::new(240, 240, high, low).into(),
        _ => Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, number).into(),
    }
}

/// FNV-1a, which is the same in every version of every program.
fn digest((namespace, name, host): &Host) -> u64 {
    let parts = [
        namespace.as_bytes(),
        b"/",
        name.as_bytes(),
        b"/",
        host.as_bytes(),
    ];
    let bytes = parts.into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
