//! Rules as data: tests, then what is done with the packets that pass them all.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Family, Protocol};
use crate::netlink::Mark;
use crate::netlink::route::Ip;

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where the packet comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// In or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The device it came by.
    In,
    /// The device it leaves by.
    Out,
}

/// Whose mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MarkOf {
    /// The packet's.
    Packet,
    /// Its connection's.
    Connection,
}

/// A part of a packet that is looked up in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// An address, of this family.
    Address(Ip, Side),
    /// A port.
    Port(Side),
    /// The transport protocol.
    Protocol,
    /// The packet's mark.
    Mark,
}

/// A test that a packet passes or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Its family, in tables that see both.
    Family(Ip),
    /// Its transport protocol.
    Protocol(Protocol),
    /// An address inside a network (or outside, when `not`). Packets of the other family never pass.
    Address {
        /// Which address.
        side: Side,
        /// The network.
        net: IpNet,
        /// Outside instead of inside.
        not: bool,
    },
    /// A port in an inclusive range (or not). Needs a protocol test before it.
    Port {
        /// Which port.
        side: Side,
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
        /// Outside instead of inside.
        not: bool,
    },
    /// A mark (or any other).
    Mark {
        /// Whose.
        of: MarkOf,
        /// Which.
        mark: Mark,
        /// Any but this.
        not: bool,
    },
    /// The device.
    Device {
        /// Which of the two.
        way: Way,
        /// Its name.
        name: String,
        /// Any but this.
        not: bool,
    },
    /// It opens a TCP connection. Needs a protocol test before it.
    Opening,
    /// Its connection is one that the kernel tracks already.
    Tracked,
    /// It goes the way back of the connection that it is of.
    Reply,
    /// A transparent socket (`IP_TRANSPARENT`) receives what it is for. Needs a chain of
    /// [`Hook::Prerouting`](super::Hook::Prerouting).
    ToTransparentSocket,
    /// It was sent by a socket of this host.
    FromSocket,
    /// Its destination is an address of this host.
    ToThisHost,
    /// A socket of this host that has this mark takes it. In hooks before the routing decision and at the input.
    ToSocket(Mark),
    /// Fields that are a member of a set (or not).
    InSet {
        /// The fields, in the order of the set's key.
        fields: Vec<Field>,
        /// The set's name.
        set: String,
        /// Members fail instead of passing.
        not: bool,
    },
}

/// The end of a packet's way through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let through this hook.
    Accept,
    /// Drop without a word.
    Drop,
    /// Back to the chain it came from, or the chain's policy.
    Return,
    /// On in this chain, and back.
    Jump(String),
}

/// How connections are spread over several destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spread {
    /// At random.
    Random,
    /// One after the other.
    RoundRobin,
}

/// What is done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Count it.
    Counter,
    /// Set the mask's bits of a mark.
    SetMark(MarkOf, Mark),
    /// Give the packet its connection's mark.
    RestoreMark,
    /// Track its connection apart from those of other zones.
    Zone(u16),
    /// Track its connection apart by what opens it alone: the ways back share the default zone.
    OriginalZone(u16),
    /// Do not track it.
    NoTrack,
    /// Translate its destination to this host, another port.
    Redirect(u16),
    /// Give it to the transparent socket (`IP_TRANSPARENT`) that its connection has, else to the one that receives at this
    /// port, and change nothing of it. Without such a socket the rule ends. Needs a protocol test before it, and a chain
    /// of [`Hook::Prerouting`](super::Hook::Prerouting).
    Tproxy(u16),
    /// Translate its destination to one of these, all of one family.
    Dnat(Vec<SocketAddr>, Spread),
    /// Translate its source.
    Snat(IpAddr),
    /// Translate its source to the address of the device it leaves by.
    Masquerade,
    /// Refuse it: by a reset, or by ICMP.
    Reject {
        /// A TCP reset; needs a protocol test before it.
        reset: bool,
    },
    /// Decide.
    Verdict(Verdict),
    /// Decide as a map says about these fields; go on when it says nothing.
    VerdictMap(Vec<Field>, String),
}

/// Tests and actions. A packet that fails a test goes on to the next rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// All of these must pass.
    pub tests: Vec<Test>,
    /// All of these are done, in order.
    pub actions: Vec<Action>,
    /// A word for whoever reads the kernel's tables: up to 127 octets are kept.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule that every packet passes and that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more test.
    #[must_use]
    pub fn test(mut self, test: Test) -> Self {
        self.tests.push(test);
        self
    }

    /// With one more action.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// For whoever reads the kernel's tables.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Packets of this family.
    #[must_use]
    pub fn family(self, family: Ip) -> Self {
        self.test(Test::Family(family))
    }

    /// Packets of this transport protocol.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.test(Test::Protocol(protocol))
    }

    /// Packets from this network.
    #[must_use]
    pub fn source(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Source, net.into(), false)
    }

    /// Packets of the same family from elsewhere.
    #[must_use]
    pub fn not_source(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Source, net.into(), true)
    }

    /// Packets to this network.
    #[must_use]
    pub fn destination(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Destination, net.into(), false)
    }

    /// Packets of the same family to elsewhere.
    #[must_use]
    pub fn not_destination(self, net: impl Into<IpNet>) -> Self {
        self.address(Side::Destination, net.into(), true)
    }

    /// Packets from this port; name the protocol first.
    #[must_use]
    pub fn source_port(self, port: u16) -> Self {
        self.port(Side::Source, port, port, false)
    }

    /// Packets to this port; name the protocol first.
    #[must_use]
    pub fn destination_port(self, port: u16) -> Self {
        self.port(Side::Destination, port, port, false)
    }

    /// Packets to any other port; name the protocol first.
    #[must_use]
    pub fn not_destination_port(self, port: u16) -> Self {
        self.port(Side::Destination, port, port, true)
    }

    /// Packets to a port of this inclusive range; name the protocol first.
    #[must_use]
    pub fn destination_ports(self, first: u16, last: u16) -> Self {
        self.port(Side::Destination, first, last, false)
    }

    /// Packets that open a connection; name TCP first.
    #[must_use]
    pub fn opening(self) -> Self {
        self.test(Test::Opening)
    }

    /// Packets of connections that the kernel tracks already.
    #[must_use]
    pub fn tracked(self) -> Self {
        self.test(Test::Tracked)
    }

    /// Packets that go the way back of a connection.
    #[must_use]
    pub fn reply(self) -> Self {
        self.test(Test::Reply)
    }

    /// Packets with this mark.
    #[must_use]
    pub fn mark(self, mark: Mark) -> Self {
        let (of, not) = (MarkOf::Packet, false);
        self.test(Test::Mark { of, mark, not })
    }

    /// Packets with any other mark or none.
    #[must_use]
    pub fn not_mark(self, mark: Mark) -> Self {
        let (of, not) = (MarkOf::Packet, true);
        self.test(Test::Mark { of, mark, not })
    }

    /// Packets of connections with this mark.
    #[must_use]
    pub fn connection_mark(self, mark: Mark) -> Self {
        let (of, not) = (MarkOf::Connection, false);
        self.test(Test::Mark { of, mark, not })
    }

    /// Packets that came by this device.
    #[must_use]
    pub fn input(self, name: impl Into<String>) -> Self {
        self.device(Way::In, name.into(), false)
    }

    /// Packets that leave by this device.
    #[must_use]
    pub fn output(self, name: impl Into<String>) -> Self {
        self.device(Way::Out, name.into(), false)
    }

    /// Packets that leave by any other device.
    #[must_use]
    pub fn not_output(self, name: impl Into<String>) -> Self {
        self.device(Way::Out, name.into(), true)
    }

    /// Packets whose fields are a member of the set.
    #[must_use]
    pub fn in_set(self, fields: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        self.test(Test::InSet {
            fields: fields.into(),
            set: set.into(),
            not: false,
        })
    }

    /// Packets whose fields are no member of the set.
    #[must_use]
    pub fn not_in_set(self, fields: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        self.test(Test::InSet {
            fields: fields.into(),
            set: set.into(),
            not: true,
        })
    }

    /// Packets that a transparent socket of this host receives.
    #[must_use]
    pub fn to_transparent_socket(self) -> Self {
        self.test(Test::ToTransparentSocket)
    }

    /// Packets that a socket of this host sent.
    #[must_use]
    pub fn from_socket(self) -> Self {
        self.test(Test::FromSocket)
    }

    /// Packets to an address of this host.
    #[must_use]
    pub fn to_this_host(self) -> Self {
        self.test(Test::ToThisHost)
    }

    /// Packets that a socket with this mark takes, on this host.
    #[must_use]
    pub fn to_socket(self, mark: Mark) -> Self {
        self.test(Test::ToSocket(mark))
    }

    /// Counts them.
    #[must_use]
    pub fn counter(self) -> Self {
        self.action(Action::Counter)
    }

    /// Marks them.
    #[must_use]
    pub fn set_mark(self, mark: Mark) -> Self {
        self.action(Action::SetMark(MarkOf::Packet, mark))
    }

    /// Marks their connection.
    #[must_use]
    pub fn set_connection_mark(self, mark: Mark) -> Self {
        self.action(Action::SetMark(MarkOf::Connection, mark))
    }

    /// Gives them their connection's mark.
    #[must_use]
    pub fn restore_mark(self) -> Self {
        self.action(Action::RestoreMark)
    }

    /// Sends them to a port of this host.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        self.action(Action::Redirect(port))
    }

    /// Gives them as they are to a transparent socket at a port of this host; name the protocol first.
    #[must_use]
    pub fn tproxy(self, port: u16) -> Self {
        self.action(Action::Tproxy(port))
    }

    /// Sends them elsewhere.
    #[must_use]
    pub fn dnat(self, to: SocketAddr) -> Self {
        self.dnat_any([to], Spread::Random)
    }

    /// Sends each connection to one of these, which are of one family.
    #[must_use]
    pub fn dnat_any(self, to: impl Into<Vec<SocketAddr>>, spread: Spread) -> Self {
        self.action(Action::Dnat(to.into(), spread))
    }

    /// Makes them come from this address.
    #[must_use]
    pub fn snat(self, source: IpAddr) -> Self {
        self.action(Action::Snat(source))
    }

    /// Makes them come from the address of the device they leave by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.action(Action::Masquerade)
    }

    /// Lets them through.
    #[must_use]
    pub fn accept(self) -> Self {
        self.action(Action::Verdict(Verdict::Accept))
    }

    /// Drops them.
    #[must_use]
    pub fn drop(self) -> Self {
        self.action(Action::Verdict(Verdict::Drop))
    }

    /// Goes on in another chain.
    #[must_use]
    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.action(Action::Verdict(Verdict::Jump(chain.into())))
    }

    /// Refuses them by a reset; name TCP first.
    #[must_use]
    pub fn reset(self) -> Self {
        self.action(Action::Reject { reset: true })
    }

    /// Refuses them by ICMP.
    #[must_use]
    pub fn reject(self) -> Self {
        self.action(Action::Reject { reset: false })
    }

    fn address(self, side: Side, net: IpNet, not: bool) -> Self {
        self.test(Test::Address { side, net, not })
    }

    fn port(self, side: Side, first: u16, last: u16, not: bool) -> Self {
        self.test(Test::Port {
            side,
            first,
            last,
            not,
        })
    }

    fn device(self, way: Way, name: String, not: bool) -> Self {
        self.test(Test::Device { way, name, not })
    }
}

impl Family {
    /// Whether its tables see packets of `ip`.
    #[must_use]
    pub fn sees(self, ip: Ip) -> bool {
        !matches!((self, ip), (Family::Ip, Ip::V6) | (Family::Ip6, Ip::V4))
    }
}
