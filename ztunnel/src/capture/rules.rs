//! What the redirection is, as data.
//!
//! Istio's ambient mode fixes ports and marks: `iptables-save` in a pod of either mesh means the same.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ambit_core::exclusions::Exclusions;
use ambit_net::netlink::Mark;
use ambit_net::netlink::nft::{
    Action, Chain, ChainKind, Family, Field, Hook, Key, KeyType, Protocol, Rule, Set, Side, Table,
    priority,
};
use ambit_net::netlink::route::{Ip, PolicyRule, Route};
use ambit_net::sys::{ANSWER_MARK, PROXY_MARK};
use ipnet::IpNet;

use super::{exclusions, flows};

/// Where captured outbound connections go.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound plaintext goes.
pub const INBOUND_PORT: u16 = 15006;
/// Where other proxies connect to; never redirected.
pub const HBONE_PORT: u16 = 15008;
/// Where captured DNS goes.
pub const DNS_PORT: u16 = 15053;

/// What the node's own probes come from. Nothing else has these addresses.
pub const PROBE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 127);
/// The same, for IPv6.
pub const PROBE_V6: Ipv6Addr = Ipv6Addr::new(
    0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff,
);

/// On every packet of the proxy's sockets.
pub(super) const PROXY: Mark = Mark {
    value: PROXY_MARK,
    mask: 0xfff,
};
/// On what the proxy answers in the name of others.
pub(super) const ANSWERS: Mark = Mark {
    value: ANSWER_MARK,
    mask: 0xfff,
};
/// On connections of the proxy to the pod, and on their replies.
pub(super) const REPLIES: Mark = Mark {
    value: 0x111,
    mask: 0xfff,
};
/// The routing table in which every address is the pod's own.
const TABLE: u32 = 100;
/// Before the main table (32766).
const PRIORITY: u32 = 32764;
/// Connection tracking zone of DNS between the proxy and the resolvers.
const DNS_ZONE: u16 = 1;
/// Of what the proxy opens in a caller's name: the caller may have the same ports.
const PROXY_ZONE: u16 = 2;
const NAME: &str = "ambit";
const HOST_NAME: &str = "ambit-host";

/// Whose traffic is captured, what besides TCP, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Of a machine of its own instead of a pod: no node probes it, and nothing but its node keeps others from the probes'
    /// address; and what it forwards for others (containers, say) is not its own.
    pub machine: bool,
    /// DNS too, unless port 53 is left alone.
    pub dns: bool,
    /// All other UDP too.
    pub udp: bool,
    /// What of the pod's traffic is left alone.
    pub exclusions: Exclusions,
}

impl Options {
    pub(super) fn captures_dns(&self) -> bool {
        self.dns && !self.exclusions.outbound_ports.contains(&53)
    }
}

/// All that is set in a pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// The packet filter.
    pub table: Table,
    /// Which traffic goes by the routes below.
    pub policies: Vec<PolicyRule>,
    /// Routes of a table of their own.
    pub routes: Vec<Route>,
}

impl fmt::Display for Redirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table)?;
        for policy in &self.policies {
            writeln!(f, "rule {policy}")?;
        }
        for route in &self.routes {
            writeln!(f, "route {route}")?;
        }
        Ok(())
    }
}

/// The redirection of a pod.
#[must_use]
pub fn redirection(options: &Options) -> Redirection {
    let mut table = Table::new(Family::Inet, NAME).chain(zones_out(options));
    if options.captures_dns() {
        table = table.chain(dns_zone_in(options));
    }
    let table = table.chain(mark_in()).chain(mark_out());
    let table = table
        .chain(inbound(options))
        .chain(outbound(options))
        .chain(guard(options));
    if !options.udp {
        return led_back(table, &[REPLIES]);
    }
    let table = table
        .chain(flows::outbound(options))
        .chain(flows::inbound(&options.exclusions));
    led_back(table, &[REPLIES, flows::CAPTURED])
}

/// What is left of it while a pod leaves: connections that are translated stay so for as long as there are chains that
/// could translate, and replies return to the proxy.
#[must_use]
pub fn yielding() -> Redirection {
    let table = Table::new(Family::Inet, NAME).chain(zones_out(&Options::default()));
    let table = table.chain(mark_in()).chain(mark_out());
    led_back(
        table.chain(inbound_hook()).chain(outbound_hook()),
        &[REPLIES],
    )
}

/// With the routes by which packets with these marks come to the proxy, wherever they are going.
fn led_back(table: Table, marks: &[Mark]) -> Redirection {
    let policies = marks.iter().flat_map(|mark| {
        Ip::BOTH.map(|family| PolicyRule {
            family,
            mark: Some(*mark),
            table: TABLE,
            priority: Some(PRIORITY),
        })
    });
    let local = |family| Route::default(family).dev("lo").local().table(TABLE);
    Redirection {
        table,
        policies: policies.collect(),
        routes: Ip::BOTH.map(local).to_vec(),
    }
}

/// The node's own table: what its processes send to `pods` is a probe, and comes from the probe address, so that the pod's
/// rules tell it from traffic that is only routed here. The kubelet probes pods that refuse plaintext by this.
#[must_use]
pub fn host(pods: impl IntoIterator<Item = IpAddr>) -> Table {
    let mut v4 = Set::new("pods-v4", [KeyType::Ipv4]);
    let mut v6 = Set::new("pods-v6", [KeyType::Ipv6]);
    for ip in pods {
        let set = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
        *set = std::mem::replace(set, Set::new("", [])).element([Key::Ip(ip)]);
    }
    let probe = |family, set: &str, source: IpAddr| {
        tcp()
            .in_set([Field::Address(family, Side::Destination)], set)
            .from_socket()
            .snat(source)
            .comment("probes have an address of their own")
    };
    // Before kube-proxy masquerades: the first translation counts.
    let probes = Chain::base(
        "probes",
        ChainKind::Nat,
        Hook::Postrouting,
        priority::SRCNAT - 1,
    )
    .rule(probe(Ip::V4, "pods-v4", PROBE_V4.into()))
    .rule(probe(Ip::V6, "pods-v6", PROBE_V6.into()));
    Table::new(Family::Inet, HOST_NAME)
        .set(v4)
        .set(v6)
        .chain(probes)
}

/// What the proxy sends to the pod arrives over `lo`, possibly from a caller's address. The reply is routed by its mark.
///
/// What it answers to the pod by UDP is of the pod's own flow, and not one that it has opened. It still answers flows of a pod whose UDP is
/// captured no more.
fn mark_in() -> Chain {
    Chain::base(
        "mark-in",
        ChainKind::Filter,
        Hook::Prerouting,
        priority::MANGLE,
    )
    .rule(udp().reply().accept().comment("answers of the proxy"))
    .rule(
        Rule::new()
            .mark(PROXY)
            .set_connection_mark(REPLIES)
            .comment("remember connections of the proxy"),
    )
}

/// A reply to a caller's address would leave by the pod's device: the mark keeps it here.
fn mark_out() -> Chain {
    Chain::base("mark-out", ChainKind::Route, Hook::Output, priority::MANGLE).rule(
        Rule::new()
            .connection_mark(REPLIES)
            .restore_mark()
            .comment("replies return to the proxy"),
    )
}

/// What opens a connection comes to the proxy or not at all. A packet that looks like one of an older connection is not
/// translated, and nor is then an opening one between the same ports: its answer makes the kernel forget what it took it for.
fn guard(options: &Options) -> Chain {
    let chain = Chain::base("guard", ChainKind::Filter, Hook::Input, priority::FILTER).rule(
        Rule::new()
            .input("lo")
            .accept()
            .comment("connections of the proxy, and the pod's to itself"),
    );
    let mut chain = probes(chain, options);
    for port in [INBOUND_PORT, HBONE_PORT] {
        chain = chain.rule(
            tcp()
                .destination_port(port)
                .accept()
                .comment("to the proxy"),
        );
    }
    exclusions::inbound(chain, Protocol::Tcp, &options.exclusions)
        .rule(
            opening()
                .tracked()
                .reset()
                .comment("past the proxy, in another connection's place"),
        )
        .rule(opening().drop().comment("past the proxy"))
}

fn inbound_hook() -> Chain {
    Chain::base(
        "inbound",
        ChainKind::Nat,
        Hook::Prerouting,
        priority::DSTNAT,
    )
}

fn outbound_hook() -> Chain {
    Chain::base("outbound", ChainKind::Nat, Hook::Output, priority::DSTNAT)
}

/// What comes from the address of probes is left alone, where there is a node that keeps it for them.
fn probes(chain: Chain, options: &Options) -> Chain {
    if options.machine {
        return chain;
    }
    let sources = [IpAddr::from(PROBE_V4), PROBE_V6.into()];
    sources.into_iter().fold(chain, |chain, source| {
        chain.rule(tcp().source(source).accept().comment("probes of the node"))
    })
}

fn inbound(options: &Options) -> Chain {
    let chain = probes(inbound_hook(), options);
    let chain = exclusions::inbound(chain, Protocol::Tcp, &options.exclusions);
    let own = |rule: Rule| match options.machine {
        true => rule.to_this_host(),
        false => rule,
    };
    loopbacks().into_iter().fold(chain, |chain, loopback| {
        chain.rule(
            own(opening())
                .not_destination(loopback)
                .not_destination_port(HBONE_PORT)
                .not_mark(PROXY)
                .redirect(INBOUND_PORT)
                .comment("plaintext to the pod"),
        )
    })
}

/// DNS is asked wherever the resolver is: a range of addresses does not leave it alone, its port does.
fn outbound(options: &Options) -> Chain {
    let mut chain = outbound_hook();
    if options.captures_dns() && options.udp {
        let rule = udp().mark(ANSWERS).accept();
        chain = chain.rule(rule.comment("answers of the proxy, to whomever"));
    }
    if options.captures_dns() {
        chain = chain.rule(
            udp()
                .not_output("lo")
                .destination_port(53)
                .not_mark(PROXY)
                .redirect(DNS_PORT)
                .comment("DNS over UDP"),
        );
        for loopback in loopbacks() {
            chain = chain.rule(
                opening()
                    .not_destination(loopback)
                    .destination_port(53)
                    .not_mark(PROXY)
                    .redirect(DNS_PORT)
                    .comment("DNS over TCP"),
            );
        }
    }
    chain = chain.rule(
        tcp()
            .mark(REPLIES)
            .accept()
            .comment("what belongs to the proxy's connections"),
    );
    chain = exclusions::outbound(chain, Protocol::Tcp, &options.exclusions);
    for loopback in loopbacks() {
        chain = chain.rule(
            Rule::new()
                .output("lo")
                .not_destination(loopback)
                .accept()
                .comment("the pod to its own address"),
        );
    }
    loopbacks().into_iter().fold(chain, |chain, loopback| {
        chain.rule(
            opening()
                .not_destination(loopback)
                .not_mark(PROXY)
                .redirect(OUTBOUND_PORT)
                .comment("connections of the pod"),
        )
    })
}

/// The proxy may use the same ports as the pod towards a resolver, and the same as a caller towards the pod: apart, they do not
/// collide. Ways back from the pod are in the default zone, where nothing tells them from others.
fn zones_out(options: &Options) -> Chain {
    let mut chain = Chain::base("zones-out", ChainKind::Filter, Hook::Output, priority::RAW);
    // The first zone counts: what is for the pod's own port 53 is no question of the proxy.
    if options.udp {
        chain = chain.rule(
            udp()
                .mark(PROXY)
                .output("lo")
                .action(Action::OriginalZone(PROXY_ZONE))
                .comment("flows of the proxy to the pod, in a zone of their own"),
        );
    }
    if options.udp && options.captures_dns() {
        chain = chain.rule(
            udp()
                .not_output("lo")
                .destination_port(53)
                .mark(ANSWERS)
                .action(Action::Zone(DNS_ZONE))
                .comment("answers of the proxy, where what they answer is"),
        );
    }
    if options.captures_dns() {
        chain = chain.rule(
            udp()
                .destination_port(53)
                .mark(PROXY)
                .action(Action::Zone(DNS_ZONE))
                .comment("DNS of the proxy, in a zone of its own"),
        );
    }
    chain.rule(
        tcp()
            .mark(PROXY)
            .output("lo")
            .action(Action::OriginalZone(PROXY_ZONE))
            .comment("connections of the proxy to the pod, in a zone of their own"),
    )
}

/// What a pod gets from port 53 answers its proxy, which has asked for it. A machine may have asked for others as well, from its
/// own address (masquerading): those answers have to be found where the questions are.
fn dns_zone_in(options: &Options) -> Chain {
    let answer = udp().source_port(53).not_mark(PROXY);
    let answer = match options.machine {
        true => answer.to_socket(PROXY),
        false => answer,
    };
    Chain::base("dns-in", ChainKind::Filter, Hook::Prerouting, priority::RAW).rule(
        answer
            .action(Action::Zone(DNS_ZONE))
            .comment("answers to the proxy"),
    )
}

fn tcp() -> Rule {
    Rule::new().protocol(Protocol::Tcp)
}

/// A connection that was there before its pod was captured goes on as it was: to translate it would break it.
fn opening() -> Rule {
    tcp().opening()
}

pub(super) fn udp() -> Rule {
    Rule::new().protocol(Protocol::Udp)
}

fn loopbacks() -> [IpNet; 2] {
    [
        IpNet::new(Ipv4Addr::LOCALHOST.into(), 32).expect("32 bits are an IPv4 address"),
        IpNet::new(Ipv6Addr::LOCALHOST.into(), 128).expect("128 bits are an IPv6 address"),
    ]
}
