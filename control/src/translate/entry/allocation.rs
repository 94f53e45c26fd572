//! Addresses for hosts of ServiceEntries that have none of their own, in the ranges that Istio takes them from.
//!
//! An address follows from namespace, entry and host. Whoever has one keeps it: by what the status says, else by age. So it is the same after
//! a restart, and a new entry does not take the address of an older one, unless it names it in its spec.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ambit_core::balance::hash;

use super::{Resolution, age, hosts};
use crate::index::objects::Table;
use crate::source::entry::ServiceEntry;
use crate::translate::labels::label;

/// `false` on an entry whose hosts get no address.
const ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// The numbers that an address of 240.240.0.0/16 or of 2001:2::/48 is made of; not those of the network and of broadcast.
const NUMBERS: std::ops::RangeInclusive<u16> = 1..=u16::MAX - 1;

/// Addresses of each family that hosts of one namespace have: a quarter, so that others have some.
pub(super) const MOST_OF_A_NAMESPACE: usize = 16_384;

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
        claims.sort_by(|a, b| {
            let age = |claim: &Claim<'_>| age(&claim.entry.metadata);
            (age(a), &a.host).cmp(&(age(b), &b.host))
        });
        let mut allocation = Self::default();
        for family in [0, 1] {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            let mut all_taken = false;
            for is_new in [false, true] {
                for claim in &claims {
                    let given = allocation.hosts.entry(claim.host.clone()).or_default();
                    let given = &mut given[family];
                    let count = counts.entry(&claim.host.0).or_default();
                    if given.is_some() || *count == MOST_OF_A_NAMESPACE {
                        continue;
                    }
                    if !is_new {
                        let held = held(claim.entry, &claim.host.2, family);
                        *given = held.filter(|ip| taken.insert(*ip));
                    } else if !all_taken {
                        *given = free(&claim.host, family, &mut taken);
                        all_taken = given.is_none();
                    }
                    *count += usize::from(given.is_some());
                }
            }
        }
        allocation
    }

    /// The addresses of a host, IPv4 first; none when it has its own, or when all are taken or its namespace has too many.
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

    /// Whether an entry that was `old` and is `new` may make a difference to anybody's addresses. A status that says what is so
    /// makes none.
    #[must_use]
    pub fn is_touched(
        &self,
        (namespace, name): (&str, &str),
        old: Option<&ServiceEntry>,
        new: Option<&ServiceEntry>,
    ) -> bool {
        let (Some(old), Some(new)) = (old, new) else {
            return true;
        };
        let read = |entry: &ServiceEntry| {
            let (hosts, addresses) = (entry.spec.hosts.clone(), entry.spec.addresses.clone());
            (wants(entry), age(&entry.metadata), hosts, addresses)
        };
        let says_otherwise = |host: String| {
            let said = [0, 1].map(|family| held(new, &host, family));
            !said
                .into_iter()
                .flatten()
                .eq(self.addresses(namespace, name, &host))
        };
        read(old) != read(new) || (wants(new) && hosts(new).any(says_otherwise))
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

/// Whether hosts of the entry are given addresses.
pub(super) fn wants(entry: &ServiceEntry) -> bool {
    let off = label(&entry.metadata, ALLOCATE).is_some_and(|it| it.eq_ignore_ascii_case("false"));
    let resolution = Resolution::of(&entry.spec);
    entry.spec.addresses.is_empty() && !off && resolution.is_ok_and(|it| it != Resolution::None)
}

/// The address of a host that the status says.
fn held(entry: &ServiceEntry, host: &str, family: usize) -> Option<IpAddr> {
    let status = entry.status.as_ref()?;
    let mut said = status
        .addresses
        .iter()
        .filter(|it| it.host.eq_ignore_ascii_case(host));
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
    let (namespace, name, of) = host;
    let start = hash(format!("{namespace}/{name}/{of}").as_bytes()) % count;
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
