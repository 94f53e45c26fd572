//! Descriptions in the words of `nft`.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Protocol;
use super::rule::{Action, Field, MarkOf, Rule, Side, Spread, Test, Verdict, Way};
use super::table::{Chain, Family, Key, Set, Table};
use crate::netlink::Mark;
use crate::netlink::route::Ip;

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.name)?;
        for set in &self.sets {
            write!(f, "{set}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        f.write_str("}\n")
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.key.iter().map(|k| k.word()).collect();
        let (word, to) = if self.verdicts {
            ("map", " : verdict")
        } else {
            ("set", "")
        };
        writeln!(f, "  {word} {} {{", self.name)?;
        writeln!(f, "    type {}{to}", types.join(" . "))?;
        for element in &self.elements {
            let key: Vec<_> = element.key.iter().map(Key::to_string).collect();
            write!(f, "    {}", key.join(" . "))?;
            match &element.verdict {
                Some(verdict) => writeln!(f, " : {verdict}")?,
                None => writeln!(f)?,
            }
        }
        f.write_str("  }\n")
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  chain {} {{", self.name)?;
        if let Some(base) = &self.base {
            let (kind, hook) = (base.kind.word(), base.hook.word());
            let policy = if base.drop { "drop" } else { "accept" };
            let priority = base.priority;
            writeln!(
                f,
                "    type {kind} hook {hook} priority {priority}; policy {policy};"
            )?;
        }
        for rule in &self.rules {
            writeln!(f, "    {rule}")?;
        }
        f.write_str("  }\n")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tests = self.tests.iter().map(Test::to_string);
        let actions = self.actions.iter().map(Action::to_string);
        let mut words: Vec<_> = tests.chain(actions).collect();
        if let Some(comment) = &self.comment {
            words.push(format!("comment {comment:?}"));
        }
        f.write_str(&words.join(" "))
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unless = |not: bool| if not { "!= " } else { "" };
        match self {
            Test::Family(Ip::V4) => f.write_str("meta nfproto ipv4"),
            Test::Family(Ip::V6) => f.write_str("meta nfproto ipv6"),
            Test::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Test::Address { side, net, not } => {
                let field = Field::Address(Ip::of(net.addr()), *side);
                write!(f, "{field} {}", unless(*not))?;
                show_net(f, *net)
            }
            Test::Port {
                side,
                first,
                last,
                not,
            } => {
                write!(f, "{} {}{first}", Field::Port(*side), unless(*not))?;
                if first == last {
                    return Ok(());
                }
                write!(f, "-{last}")
            }
            Test::Mark { of, mark, not } => {
                let operator = if *not { "!=" } else { "==" };
                if mark.mask == u32::MAX {
                    return write!(f, "{of} {operator} {:#x}", mark.value);
                }
                write!(f, "{of} & {:#x} {operator} {:#x}", mark.mask, mark.value)
            }
            Test::Device { way, name, not } => {
                let word = match way {
                    Way::In => "iifname",
                    Way::Out => "oifname",
                };
                write!(f, "{word} {}{name:?}", unless(*not))
            }
            Test::Opening => f.write_str("tcp flags & (fin | syn | rst | ack) == syn"),
            Test::Tracked => f.write_str("ct status confirmed"),
            Test::Reply => f.write_str("ct direction reply"),
            Test::ToTransparentSocket => f.write_str("socket transparent 1"),
            Test::FromSocket => f.write_str("meta skuid >= 0"),
            Test::ToThisHost => f.write_str("fib daddr type local"),
            Test::ToSocket(Mark { value, mask }) => {
                write!(f, "socket mark & {mask:#x} == {value:#x}")
            }
            Test::InSet { fields, set, not } => {
                show_fields(f, fields)?;
                write!(f, " {}@{set}", unless(*not))
            }
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Counter => f.write_str("counter"),
            Action::SetMark(of, mark) => show_set_mark(f, *of, *mark),
            Action::RestoreMark => f.write_str("meta mark set ct mark"),
            Action::Zone(zone) => write!(f, "ct zone set {zone}"),
            Action::OriginalZone(zone) => write!(f, "ct original zone set {zone}"),
            Action::NoTrack => f.write_str("notrack"),
            Action::Redirect(port) => write!(f, "redirect to :{port}"),
            Action::Tproxy(port) => write!(f, "tproxy to :{port}"),
            Action::Dnat(to, spread) => show_dnat(f, to, *spread),
            Action::Snat(IpAddr::V4(ip)) => write!(f, "snat ip to {ip}"),
            Action::Snat(IpAddr::V6(ip)) => write!(f, "snat ip6 to {ip}"),
            Action::Masquerade => f.write_str("masquerade"),
            Action::Reject { reset: true } => f.write_str("reject with tcp reset"),
            Action::Reject { reset: false } => f.write_str("reject"),
            Action::Verdict(verdict) => write!(f, "{verdict}"),
            Action::VerdictMap(fields, map) => {
                show_fields(f, fields)?;
                write!(f, " vmap @{map}")
            }
        }
    }
}

fn show_net(f: &mut Formatter<'_>, net: IpNet) -> fmt::Result {
    if net.prefix_len() == net.max_prefix_len() {
        write!(f, "{}", net.addr())
    } else {
        write!(f, "{net}")
    }
}

fn show_set_mark(f: &mut Formatter<'_>, of: MarkOf, mark: Mark) -> fmt::Result {
    if mark.mask == u32::MAX {
        return write!(f, "{of} set {:#x}", mark.value);
    }
    write!(f, "{of} set {of} & {:#x} | {:#x}", !mark.mask, mark.value)
}

fn show_dnat(f: &mut Formatter<'_>, to: &[SocketAddr], spread: Spread) -> fmt::Result {
    let family = match to.first() {
        Some(SocketAddr::V6(_)) => "ip6",
        _ => "ip",
    };
    write!(f, "dnat {family} to ")?;
    if let [only] = to {
        return write!(f, "{only}");
    }
    let word = match spread {
        Spread::Random => "random",
        Spread::RoundRobin => "inc",
    };
    write!(f, "numgen {word} mod {} map {{ ", to.len())?;
    for (place, to) in to.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(f, "{comma}{place} : {} . {}", to.ip(), to.port())?;
    }
    f.write_str(" }")
}

fn show_fields(f: &mut Formatter<'_>, fields: &[Field]) -> fmt::Result {
    let words: Vec<_> = fields.iter().map(Field::to_string).collect();
    f.write_str(&words.join(" . "))
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Address(Ip::V4, Side::Source) => "ip saddr",
            Field::Address(Ip::V4, Side::Destination) => "ip daddr",
            Field::Address(Ip::V6, Side::Source) => "ip6 saddr",
            Field::Address(Ip::V6, Side::Destination) => "ip6 daddr",
            Field::Port(Side::Source) => "th sport",
            Field::Port(Side::Destination) => "th dport",
            Field::Protocol => "meta l4proto",
            Field::Mark => "meta mark",
        })
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Key::Ip(ip) => write!(f, "{ip}"),
            Key::Protocol(protocol) => write!(f, "{protocol}"),
            Key::Port(port) => write!(f, "{port}"),
            Key::Mark(mark) => write!(f, "{mark:#x}"),
        }
    }
}

impl Display for MarkOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MarkOf::Packet => "meta mark",
            MarkOf::Connection => "ct mark",
        })
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
