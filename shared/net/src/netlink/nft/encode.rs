//! Rules as the kernel's expressions: small machines that load registers, compare and act.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::constants as nf;
use super::rule::{Action, Field, MarkOf, Rule, Side, Spread, Test, Verdict, Way};
use super::table::Family;
use crate::netlink::Mark;
use crate::netlink::message::Message;
use crate::netlink::route::Ip;

/// Longest comment, without the zero that ends it, that `nft` shows.
const COMMENT_LIMIT: usize = 127;
const COMMENT: u8 = 0;

/// The anonymous map that spreads connections over destinations: its number in this transaction, or `None` when a rule
/// is only compared, because the kernel names such maps as it likes.
pub(super) type MapOf<'a> = &'a mut dyn FnMut(&[SocketAddr]) -> Option<u32>;

/// What is wrong with a rule that the kernel could not be asked for.
pub(super) fn check(rule: &Rule) -> Result<(), String> {
    for test in &rule.tests {
        if let Test::Device { name, .. } = test
            && (name.is_empty() || name.len() >= libc::IFNAMSIZ)
        {
            return Err(format!("no device can have the name {name:?}"));
        }
        if let Test::Port { first, last, .. } = test
            && first > last
        {
            return Err(format!("the range of ports {first}-{last} is empty"));
        }
    }
    for action in &rule.actions {
        if let Action::Dnat(to, _) = action {
            let Some(first) = to.first() else {
                return Err("dnat has no destination".into());
            };
            if to.iter().any(|other| other.is_ipv4() != first.is_ipv4()) {
                return Err("the destinations of dnat are of both families".into());
            }
        }
    }
    Ok(())
}

/// Writes the attributes that say what the rule does and its comment.
pub(super) fn rule(out: &mut Message, family: Family, rule: &Rule, map: MapOf<'_>) {
    out.nest(nf::RULE_EXPRESSIONS, |out| {
        for step in &rule.tests {
            test(out, step);
        }
        for step in &rule.actions {
            action(out, family, step, map);
        }
    });
    if let Some(comment) = &rule.comment {
        out.attr(nf::RULE_USERDATA, &user_data(comment));
    }
}

pub(super) fn verdict(out: &mut Message, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (nf::ACCEPT, None),
        Verdict::Drop => (nf::DROP, None),
        Verdict::Return => (nf::RETURN, None),
        Verdict::Jump(chain) => (nf::JUMP, Some(chain)),
    };
    out.nest(nf::DATA_VERDICT, |out| {
        out.attr_be32(nf::VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            out.attr_str(nf::VERDICT_CHAIN, chain);
        }
    });
}

/// The comment as `nft` keeps it: type, length, text with a zero.
pub(super) fn user_data(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(COMMENT_LIMIT);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let text = &comment.as_bytes()[..end];
    let mut data = vec![COMMENT, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    data
}

/// The number of the register that starts at the `word`th four octets; every fourth has an old name too, and that is the
/// one the kernel shows.
fn register(word: usize) -> u32 {
    let number = if word.is_multiple_of(4) {
        1 + word / 4
    } else {
        8 + word
    };
    number as u32
}

fn expression(out: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    out.nest(nf::LIST_ELEM, |out| {
        out.attr_str(nf::EXPR_NAME, name);
        out.nest(nf::EXPR_DATA, fill);
    });
}

fn value(out: &mut Message, kind: u16, octets: &[u8]) {
    out.nest(kind, |out| out.attr(nf::DATA_VALUE, octets));
}

fn load_meta(out: &mut Message, key: u32, word: usize) {
    expression(out, "meta", |out| {
        out.attr_be32(nf::META_KEY, key);
        out.attr_be32(nf::META_DREG, register(word));
    });
}

fn load_mark(out: &mut Message, of: MarkOf) {
    match of {
        MarkOf::Packet => load_meta(out, nf::META_MARK, 0),
        MarkOf::Connection => load_ct(out, nf::CT_MARK),
    }
}

/// Of the socket of this host that takes the packet.
fn load_socket(out: &mut Message, key: u32) {
    expression(out, "socket", |out| {
        out.attr_be32(nf::SOCKET_KEY, key);
        out.attr_be32(nf::SOCKET_DREG, register(0));
    });
}

fn load_ct(out: &mut Message, key: u32) {
    expression(out, "ct", |out| {
        out.attr_be32(nf::CT_KEY, key);
        out.attr_be32(nf::CT_DREG, register(0));
    });
}

fn store_mark(out: &mut Message, of: MarkOf) {
    match of {
        MarkOf::Packet => expression(out, "meta", |out| {
            out.attr_be32(nf::META_KEY, nf::META_MARK);
            out.attr_be32(nf::META_SREG, register(0));
        }),
        MarkOf::Connection => expression(out, "ct", |out| {
            out.attr_be32(nf::CT_KEY, nf::CT_MARK);
            out.attr_be32(nf::CT_SREG, register(0));
        }),
    }
}

fn load_field(out: &mut Message, field: Field, word: usize) {
    let (base, offset, length) = match field {
        Field::Protocol => return load_meta(out, nf::META_L4PROTO, word),
        Field::Mark => return load_meta(out, nf::META_MARK, word),
        Field::Address(Ip::V4, Side::Source) => (nf::NETWORK_HEADER, 12, 4),
        Field::Address(Ip::V4, Side::Destination) => (nf::NETWORK_HEADER, 16, 4),
        Field::Address(Ip::V6, Side::Source) => (nf::NETWORK_HEADER, 8, 16),
        Field::Address(Ip::V6, Side::Destination) => (nf::NETWORK_HEADER, 24, 16),
        Field::Port(Side::Source) => (nf::TRANSPORT_HEADER, 0, 2),
        Field::Port(Side::Destination) => (nf::TRANSPORT_HEADER, 2, 2),
    };
    load_payload(out, word, (base, offset, length));
}

/// Loads octets of a packet's header: which, from where, how many.
fn load_payload(out: &mut Message, word: usize, (base, offset, length): (u32, u32, u32)) {
    expression(out, "payload", |out| {
        out.attr_be32(nf::PAYLOAD_DREG, register(word));
        out.attr_be32(nf::PAYLOAD_BASE, base);
        out.attr_be32(nf::PAYLOAD_OFFSET, offset);
        out.attr_be32(nf::PAYLOAD_LEN, length);
    });
}

/// Loads fields one behind the other, after making sure that the packet is of their family.
fn load_fields(out: &mut Message, fields: &[Field]) {
    let family = fields.iter().find_map(|field| match field {
        Field::Address(family, _) => Some(*family),
        _ => None,
    });
    if let Some(family) = family {
        test(out, &Test::Family(family));
    }
    let mut word = 0;
    for field in fields {
        load_field(out, *field, word);
        word += match field {
            Field::Address(Ip::V6, _) => 4,
            _ => 1,
        };
    }
}

fn compare(out: &mut Message, not: bool, octets: &[u8]) {
    expression(out, "cmp", |out| {
        out.attr_be32(nf::CMP_SREG, register(0));
        out.attr_be32(nf::CMP_OP, u32::from(not));
        value(out, nf::CMP_DATA, octets);
    });
}

/// `register = register & mask ^ xor`.
fn mask(out: &mut Message, mask: &[u8], xor: &[u8]) {
    expression(out, "bitwise", |out| {
        out.attr_be32(nf::BITWISE_SREG, register(0));
        out.attr_be32(nf::BITWISE_DREG, register(0));
        out.attr_be32(nf::BITWISE_LEN, mask.len() as u32);
        value(out, nf::BITWISE_MASK, mask);
        value(out, nf::BITWISE_XOR, xor);
    });
}

fn test(out: &mut Message, test: &Test) {
    match test {
        Test::Family(family) => {
            let number = match family {
                Ip::V4 => libc::NFPROTO_IPV4,
                Ip::V6 => libc::NFPROTO_IPV6,
            };
            load_meta(out, nf::META_NFPROTO, 0);
            compare(out, false, &[number as u8]);
        }
        Test::Protocol(protocol) => {
            load_meta(out, nf::META_L4PROTO, 0);
            compare(out, false, &[protocol.number()]);
        }
        Test::Address { side, net, not } => address(out, *side, *net, *not),
        Test::Port {
            side,
            first,
            last,
            not,
        } => {
            load_field(out, Field::Port(*side), 0);
            if first == last {
                return compare(out, *not, &first.to_be_bytes());
            }
            expression(out, "range", |out| {
                out.attr_be32(nf::RANGE_SREG, register(0));
                out.attr_be32(nf::RANGE_OP, u32::from(*not));
                value(out, nf::RANGE_FROM, &first.to_be_bytes());
                value(out, nf::RANGE_TO, &last.to_be_bytes());
            });
        }
        Test::Mark { of, mark: m, not } => {
            load_mark(out, *of);
            if m.mask != u32::MAX {
                mask(out, &m.mask.to_ne_bytes(), &[0; 4]);
            }
            compare(out, *not, &m.value.to_ne_bytes());
        }
        Test::Device { way, name, not } => {
            let key = match way {
                Way::In => nf::META_IIFNAME,
                Way::Out => nf::META_OIFNAME,
            };
            let mut padded = [0; libc::IFNAMSIZ];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            load_meta(out, key, 0);
            compare(out, *not, &padded);
        }
        Test::Opening => {
            let (fin, syn, rst, ack) = (0x01, 0x02, 0x04, 0x10);
            load_payload(out, 0, (nf::TRANSPORT_HEADER, 13, 1));
            mask(out, &[fin | syn | rst | ack], &[0]);
            compare(out, false, &[syn]);
        }
        Test::Tracked => {
            load_ct(out, nf::CT_STATUS);
            mask(out, &nf::STATUS_CONFIRMED.to_ne_bytes(), &[0; 4]);
            compare(out, true, &[0; 4]);
        }
        Test::Reply => {
            load_ct(out, nf::CT_OF_DIRECTION);
            compare(out, false, &[nf::CT_REPLY]);
        }
        Test::ToTransparentSocket => {
            load_socket(out, nf::SOCKET_TRANSPARENT);
            compare(out, false, &[1]);
        }
        // Any owner will do. Without a socket there is none to load, and the rule ends.
        Test::FromSocket => {
            load_meta(out, nf::META_SKUID, 0);
            expression(out, "cmp", |out| {
                out.attr_be32(nf::CMP_SREG, register(0));
                out.attr_be32(nf::CMP_OP, nf::CMP_AT_LEAST);
                value(out, nf::CMP_DATA, &[0; 4]);
            });
        }
        Test::ToThisHost => {
            expression(out, "fib", |out| {
                out.attr_be32(nf::FIB_DREG, register(0));
                out.attr_be32(nf::FIB_RESULT, nf::FIB_ADDRESS_TYPE);
                out.attr_be32(nf::FIB_FLAGS, nf::FIB_DESTINATION);
            });
            compare(out, false, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
        }
        // Without such a socket there is nothing to load, and the rule ends.
        Test::ToSocket(m) => {
            load_socket(out, nf::SOCKET_MARK);
            mask(out, &m.mask.to_ne_bytes(), &[0; 4]);
            compare(out, false, &m.value.to_ne_bytes());
        }
        Test::InSet { fields, set, not } => {
            load_fields(out, fields);
            expression(out, "lookup", |out| {
                out.attr_str(nf::LOOKUP_SET, set);
                out.attr_be32(nf::LOOKUP_SREG, register(0));
                out.attr_be32(nf::LOOKUP_FLAGS, u32::from(*not));
            });
        }
    }
}

fn address(out: &mut Message, side: Side, net: IpNet, not: bool) {
    let family = Ip::of(net.addr());
    test(out, &Test::Family(family));
    load_field(out, Field::Address(family, side), 0);
    if net.prefix_len() < net.max_prefix_len() {
        let bits = octets(net.netmask());
        mask(out, &bits, &vec![0; bits.len()]);
    }
    compare(out, not, &octets(net.network()));
}

fn zone(out: &mut Message, number: u16, direction: Option<u8>) {
    immediate(out, 0, &number.to_ne_bytes());
    expression(out, "ct", |out| {
        out.attr_be32(nf::CT_KEY, nf::CT_ZONE);
        if let Some(direction) = direction {
            out.attr(nf::CT_DIRECTION, &[direction]);
        }
        out.attr_be32(nf::CT_SREG, register(0));
    });
}

fn action(out: &mut Message, family: Family, action: &Action, map: MapOf<'_>) {
    match action {
        Action::Counter => expression(out, "counter", |_| {}),
        // The one expression without data of any kind.
        Action::NoTrack => out.nest(nf::LIST_ELEM, |out| out.attr_str(nf::EXPR_NAME, "notrack")),
        Action::SetMark(of, mark) => set_mark(out, *of, *mark),
        Action::RestoreMark => {
            load_mark(out, MarkOf::Connection);
            store_mark(out, MarkOf::Packet);
        }
        Action::Zone(number) => zone(out, *number, None),
        Action::OriginalZone(number) => zone(out, *number, Some(nf::CT_ORIGINAL)),
        Action::Redirect(port) => {
            immediate(out, 0, &port.to_be_bytes());
            expression(out, "redir", |out| {
                out.attr_be32(nf::REDIRECT_PORT, register(0));
            });
        }
        Action::Tproxy(port) => {
            immediate(out, 0, &port.to_be_bytes());
            expression(out, "tproxy", |out| {
                out.attr_be32(nf::TPROXY_FAMILY, nf::TPROXY_ANY);
                out.attr_be32(nf::TPROXY_PORT, register(0));
            });
        }
        Action::Dnat(to, spread) => dnat(out, to, *spread, map),
        Action::Snat(ip) => {
            immediate(out, 0, &octets(*ip));
            nat(out, nf::NAT_SOURCE, Ip::of(*ip), None);
        }
        Action::Masquerade => expression(out, "masq", |_| {}),
        Action::Reject { reset: true } => expression(out, "reject", |out| {
            out.attr_be32(nf::REJECT_TYPE, nf::REJECT_TCP_RESET);
        }),
        Action::Reject { reset: false } => {
            let (kind, code) = match family {
                Family::Inet => (nf::REJECT_EITHER_UNREACHABLE, nf::REJECT_PORT),
                Family::Ip => (nf::REJECT_UNREACHABLE, nf::ICMP_PORT_UNREACHABLE),
                Family::Ip6 => (nf::REJECT_UNREACHABLE, nf::ICMP6_PORT_UNREACHABLE),
            };
            expression(out, "reject", |out| {
                out.attr_be32(nf::REJECT_TYPE, kind);
                out.attr(nf::REJECT_CODE, &[code]);
            });
        }
        Action::Verdict(code) => expression(out, "immediate", |out| {
            out.attr_be32(nf::IMMEDIATE_DREG, nf::REGISTER_VERDICT);
            out.nest(nf::IMMEDIATE_DATA, |out| verdict(out, code));
        }),
        Action::VerdictMap(fields, set) => {
            load_fields(out, fields);
            expression(out, "lookup", |out| {
                out.attr_str(nf::LOOKUP_SET, set);
                out.attr_be32(nf::LOOKUP_SREG, register(0));
                out.attr_be32(nf::LOOKUP_DREG, nf::REGISTER_VERDICT);
            });
        }
    }
}

fn set_mark(out: &mut Message, of: MarkOf, m: Mark) {
    if m.mask == u32::MAX {
        immediate(out, 0, &m.value.to_ne_bytes());
    } else {
        load_mark(out, of);
        let value = m.value & m.mask;
        mask(out, &(!m.mask).to_ne_bytes(), &value.to_ne_bytes());
    }
    store_mark(out, of);
}

fn dnat(out: &mut Message, to: &[SocketAddr], spread: Spread, map: MapOf<'_>) {
    let Some(first) = to.first() else {
        return;
    };
    let family = Ip::of(first.ip());
    let port_word = octets(first.ip()).len() / 4;
    if to.len() == 1 {
        immediate(out, 0, &octets(first.ip()));
        immediate(out, port_word, &first.port().to_be_bytes());
    } else {
        expression(out, "numgen", |out| {
            out.attr_be32(nf::NUMGEN_DREG, register(0));
            out.attr_be32(nf::NUMGEN_MODULUS, to.len() as u32);
            out.attr_be32(nf::NUMGEN_TYPE, u32::from(spread == Spread::Random));
        });
        let id = map(to);
        expression(out, "lookup", |out| {
            if let Some(id) = id {
                out.attr_str(nf::LOOKUP_SET, ANONYMOUS_MAP);
                out.attr_be32(nf::LOOKUP_SET_ID, id);
            }
            out.attr_be32(nf::LOOKUP_SREG, register(0));
            out.attr_be32(nf::LOOKUP_DREG, register(0));
        });
    }
    nat(out, nf::NAT_DESTINATION, family, Some(port_word));
}

/// The kernel puts a number in the place of `%d`.
pub(super) const ANONYMOUS_MAP: &str = "__map%d";

fn nat(out: &mut Message, kind: u32, family: Ip, port_word: Option<usize>) {
    let number = match family {
        Ip::V4 => libc::NFPROTO_IPV4,
        Ip::V6 => libc::NFPROTO_IPV6,
    };
    expression(out, "nat", |out| {
        out.attr_be32(nf::NAT_TYPE, kind);
        out.attr_be32(nf::NAT_FAMILY, number as u32);
        out.attr_be32(nf::NAT_ADDRESS, register(0));
        if let Some(word) = port_word {
            out.attr_be32(nf::NAT_PORT, register(word));
        }
    });
}

fn immediate(out: &mut Message, word: usize, octets: &[u8]) {
    expression(out, "immediate", |out| {
        out.attr_be32(nf::IMMEDIATE_DREG, register(word));
        value(out, nf::IMMEDIATE_DATA, octets);
    });
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
