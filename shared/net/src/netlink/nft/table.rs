//! Tables, chains and sets as data.

use std::net::IpAddr;

use super::rule::{Rule, Verdict};
use super::{Protocol, constants};

/// Priorities of base chains: lower runs first.
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Where packets are marked.
    pub const MANGLE: i32 = -150;
    /// Where destinations are translated.
    pub const DSTNAT: i32 = -100;
    /// Where packets are let through or not.
    pub const FILTER: i32 = 0;
    /// Where sources are translated.
    pub const SRCNAT: i32 = 100;
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Ip6 => 10,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }
}

/// A table with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its named sets and maps.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
            sets: Vec::new(),
            chains: Vec::new(),
        }
    }

    /// With this set.
    #[must_use]
    pub fn set(mut self, set: Set) -> Self {
        self.sets.push(set);
        self
    }

    /// With this chain.
    #[must_use]
    pub fn chain(mut self, chain: Chain) -> Self {
        self.chains.push(chain);
        self
    }
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Look, mark, drop.
    Filter,
    /// Translate; sees the first packet of a connection only.
    Nat,
    /// Mark outgoing packets, which are then routed again.
    Route,
}

impl ChainKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        }
    }
}

/// Where packets meet a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// On arrival, before routing.
    Prerouting,
    /// On delivery to this host.
    Input,
    /// In transit.
    Forward,
    /// When sent by this host.
    Output,
    /// On leaving, after routing.
    Postrouting,
}

impl Hook {
    pub(super) fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        }
    }
}

/// How a base chain is hung into the packets' way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// When, see [`priority`].
    pub priority: i32,
    /// Whether packets that no rule decided about are dropped.
    pub drop: bool,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets meet it; without, they come by `jump` only.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that packets meet at a hook; what no rule decides about is accepted.
    #[must_use]
    pub fn base(name: impl Into<String>, kind: ChainKind, hook: Hook, priority: i32) -> Self {
        Self {
            name: name.into(),
            base: Some(Base {
                kind,
                hook,
                priority,
                drop: false,
            }),
            rules: Vec::new(),
        }
    }

    /// A chain that rules jump to.
    #[must_use]
    pub fn regular(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base: None,
            rules: Vec::new(),
        }
    }

    /// Drops what no rule decides about (base chains only).
    #[must_use]
    pub fn policy_drop(mut self) -> Self {
        if let Some(base) = &mut self.base {
            base.drop = true;
        }
        self
    }

    /// With this rule at its end.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }
}

/// A part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
    /// A firewall mark.
    Mark,
}

impl KeyType {
    /// The number that `nft` knows the type by.
    pub(super) fn number(self) -> u32 {
        match self {
            KeyType::Ipv4 => 7,
            KeyType::Ipv6 => 8,
            KeyType::Protocol => 12,
            KeyType::Port => 13,
            KeyType::Mark => 19,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            KeyType::Ipv4 => "ipv4_addr",
            KeyType::Ipv6 => "ipv6_addr",
            KeyType::Protocol => "inet_proto",
            KeyType::Port => "inet_service",
            KeyType::Mark => "mark",
        }
    }

    pub(super) fn length(self) -> usize {
        match self {
            KeyType::Ipv4 | KeyType::Mark => 4,
            KeyType::Ipv6 => 16,
            KeyType::Protocol => 1,
            KeyType::Port => 2,
        }
    }
}

/// A value of a part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// An address of either family.
    Ip(IpAddr),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// A firewall mark.
    Mark(u32),
}

impl Key {
    pub(super) fn octets(self) -> Vec<u8> {
        match self {
            Key::Ip(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Key::Ip(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Key::Protocol(protocol) => vec![protocol.number()],
            Key::Port(port) => port.to_be_bytes().to_vec(),
            Key::Mark(mark) => mark.to_ne_bytes().to_vec(),
        }
    }
}

/// A member of a set, with its verdict when the set is a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The parts of its key, of the set's types and in their order.
    pub key: Vec<Key>,
    /// What a verdict map says.
    pub verdict: Option<Verdict>,
}

/// A named set, or a map from keys to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The types of the parts of its key.
    pub key: Vec<KeyType>,
    /// Whether its elements have verdicts.
    pub verdicts: bool,
    /// Its elements.
    pub elements: Vec<Element>,
}

impl Set {
    /// An empty set.
    #[must_use]
    pub fn new(name: impl Into<String>, key: impl Into<Vec<KeyType>>) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            verdicts: false,
            elements: Vec::new(),
        }
    }

    /// An empty map to verdicts.
    #[must_use]
    pub fn verdict_map(name: impl Into<String>, key: impl Into<Vec<KeyType>>) -> Self {
        Self {
            verdicts: true,
            ..Self::new(name, key)
        }
    }

    /// With this member.
    #[must_use]
    pub fn element(mut self, key: impl Into<Vec<Key>>) -> Self {
        self.elements.push(Element {
            key: key.into(),
            verdict: None,
        });
        self
    }

    /// With this member of a map.
    #[must_use]
    pub fn mapping(mut self, key: impl Into<Vec<Key>>, verdict: Verdict) -> Self {
        self.elements.push(Element {
            key: key.into(),
            verdict: Some(verdict),
        });
        self
    }

    pub(super) fn key_length(&self) -> usize {
        match self.key.as_slice() {
            [one] => one.length(),
            many => many.iter().map(|k| k.length().next_multiple_of(4)).sum(),
        }
    }

    pub(super) fn key_number(&self) -> u32 {
        self.key.iter().fold(0, |sum, k| sum << 6 | k.number())
    }

    pub(super) fn flags(&self) -> u32 {
        if self.verdicts { constants::SET_MAP } else { 0 }
    }
}

impl Element {
    /// The key as registers hold it: parts aligned to four octets, unless there is only one.
    pub(super) fn octets(&self) -> Vec<u8> {
        if let [one] = self.key.as_slice() {
            return one.octets();
        }
        let mut all = Vec::new();
        for part in &self.key {
            all.extend(part.octets());
            all.resize(all.len().next_multiple_of(4), 0);
        }
        all
    }
}
