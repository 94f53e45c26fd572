//! Addresses and names that are keys of the mesh.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// An IP address on a named network. Networks are routable islands; `""` is the default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddr {
    /// The network's name.
    pub network: Arc<str>,
    /// The address in it.
    pub ip: IpAddr,
}

impl NetworkAddr {
    /// An address on `network`. IPv4-mapped IPv6 addresses become IPv4, as the kernel treats them.
    #[must_use]
    pub fn new(network: impl Into<Arc<str>>, ip: IpAddr) -> Self {
        Self {
            network: network.into(),
            ip: ip.to_canonical(),
        }
    }
}

/// Whether something else than the asking host can be at an address: loopback, unspecified, link-local and multicast ones
/// mean each host its own, so nobody may name them for others (as with EndpointSlices of Kubernetes).
#[must_use]
pub fn is_elsewhere(ip: IpAddr) -> bool {
    let link_local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Whether this is a name of DNS (RFC 1123, section 2.1; underscores as resolvers have them).
#[must_use]
pub fn is_dns_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for NetworkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

impl Serialize for NetworkAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name in a namespace: `namespace/name` of a policy, `namespace/hostname` of a service.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The name or the hostname.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// `namespace/name`.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.namespace)?;
        f.write_str("/")?;
        f.write_str(&self.name)
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for NamespacedName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for NamespacedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((ns, name)) if !ns.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(ns, name))
            }
            _ => Err(NameError(text.into())),
        }
    }
}

/// A text that is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected namespace/name, found {0:?}")]
pub struct NameError(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = NetworkAddr::new("", "::ffff:10.0.0.1".parse().expect("an address"));
        assert_eq!(
            mapped,
            NetworkAddr::new("", "10.0.0.1".parse().expect("an address"))
        );
    }

    #[test]
    fn addresses_that_mean_each_host_its_own_are_nowhere_else() {
        for (text, elsewhere) in [
            ("192.0.2.1", true),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("127.8.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(
                is_elsewhere(text.parse().expect("an address")),
                elsewhere,
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_dns() {
        let (long, longer) = (["a"; 127].join("."), ["a"; 128].join("."));
        for (name, is_one) in [
            ("a", true),
            ("A-1.example_2.com", true),
            (&long, true),
            (&longer, false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
            ("", false),
            ("a..b", false),
            ("a.", false),
            ("*.a", false),
            ("a b", false),
        ] {
            assert_eq!(is_dns_name(name), is_one, "{name:?}");
        }
    }

    #[test]
    fn names_have_two_parts() {
        assert_eq!("a/b".parse(), Ok(NamespacedName::new("a", "b")));
        for bad in ["", "a", "a/", "/b", "a/b/c"] {
            assert!(bad.parse::<NamespacedName>().is_err(), "{bad:?}");
        }
    }
}
