//! Which address is whose. Nodes sit on one bridge; each has a range for its pods; services have a
//! range that no interface carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most nodes of a lab.
pub const MOST_NODES: u8 = 64;
/// The most machines beside them.
pub const MOST_MACHINES: u8 = 16;
/// Before it are nodes.
const FIRST_MACHINE: u8 = 200;
/// The most pods a node can have at a time, as in most clusters.
pub const MOST_PODS: u8 = 250;
/// The cluster's DNS domain.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// An address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// Both, IPv4 first.
    #[must_use]
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The machine's end of the bridge, where control listens.
#[must_use]
pub fn bridge() -> Pair {
    node_network(1)
}

/// Node `number`, from 1.
#[must_use]
pub fn node(number: u8) -> Pair {
    node_network(u16::from(number) + 1)
}

/// Machine `number`, from 1, which is no node.
#[must_use]
pub fn machine(number: u8) -> Pair {
    node_network(u16::from(number) + u16::from(FIRST_MACHINE))
}

fn node_network(host: u16) -> Pair {
    let [_, low] = host.to_be_bytes();
    Pair {
        v4: Ipv4Addr::new(172, 30, 0, low),
        v6: Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, host),
    }
}

/// The length of the bridge network's prefixes, IPv4 and IPv6.
pub const BRIDGE_PREFIX: (u8, u8) = (24, 64);

/// The first address of the range of node `number`'s pods.
#[must_use]
pub fn pod_range(number: u8) -> Pair {
    pod(number, 0)
}

/// The length of a pod range's prefixes, IPv4 and IPv6.
pub const POD_PREFIX: (u8, u8) = (24, 64);

/// Where node `number` receives what its pods send: the pods' default route.
#[must_use]
pub fn gateway(number: u8) -> Pair {
    pod(number, 1)
}

/// Pod `index` of node `number`, from 2.
#[must_use]
pub fn pod(number: u8, index: u8) -> Pair {
    Pair {
        v4: Ipv4Addr::new(10, 244, number, index),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, number.into(), 0, 0, 0, index.into()),
    }
}

/// The cluster's DNS service.
#[must_use]
pub fn dns() -> Pair {
    service(10)
}

/// The addresses services are given, in order.
pub fn service_addresses(v6: bool) -> impl Iterator<Item = IpAddr> {
    (20..u16::MAX).map(move |index| {
        if v6 {
            service(index).v6.into()
        } else {
            service(index).v4.into()
        }
    })
}

fn service(index: u16) -> Pair {
    let [high, low] = index.to_be_bytes();
    Pair {
        v4: Ipv4Addr::new(10, 96, high, low),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, index),
    }
}

/// The ranges that services get addresses of.
pub const SERVICE_RANGES: (&str, &str) = ("10.96.0.0/16", "fd00:10:96::/112");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_documentation() {
        assert_eq!(bridge().v4.to_string(), "172.30.0.1");
        assert_eq!(node(2).v6.to_string(), "fd00:172:30::3");
        assert_eq!(machine(1).v4.to_string(), "172.30.0.201");
        assert_eq!(pod(2, 7).v4.to_string(), "10.244.2.7");
        assert_eq!(pod(2, 7).v6.to_string(), "fd00:10:244:2::7");
        assert_eq!(dns().v4.to_string(), "10.96.0.10");
        assert_eq!(dns().v6.to_string(), "fd00:10:96::a");
        let first: Vec<IpAddr> = service_addresses(false).take(1).collect();
        assert_eq!(first[0].to_string(), "10.96.0.20");
    }
}
