//! A question of one's own, and what is read of the response: addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RecordType;

const INTERNET: u16 = 1;
/// The longest name there is, without the dot at its end (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;
const HEADER: usize = 12;
const RECURSION_DESIRED: u8 = 1;
const CODE: u8 = 0x0f;
/// There are answers, or none of the type that was asked for.
const NO_ERROR: u8 = 0;
/// There is no such name.
const NO_SUCH_NAME: u8 = 3;
/// The first octet of a name's rest that is elsewhere in the message (section 4.1.4).
const POINTER: u8 = 0xc0;
const LONGEST_LABEL: usize = 63;

/// The question for records of a type that a host has (RFC 1035 section 4.1.2), with an id of zero; none for what is no name.
#[must_use]
pub fn question(host: &str, kind: RecordType) -> Option<Vec<u8>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > LONGEST_NAME {
        return None;
    }
    let mut message = vec![0, 0, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        let length = u8::try_from(label.len()).ok();
        let length = length.filter(|it| (1..=LONGEST_LABEL).contains(&usize::from(*it)))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.0.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    Some(message)
}

/// The addresses that a response gives, whatever names lead to them; none if it is that there is no such name. `None` when it
/// does not read, or says nothing of the name: the server failed, or refuses to answer (section 4.1.1).
#[must_use]
pub fn addresses(response: &[u8]) -> Option<Vec<IpAddr>> {
    match response.get(3)? & CODE {
        NO_ERROR => {}
        NO_SUCH_NAME => return Some(Vec::new()),
        _ => return None,
    }
    let (questions, answers) = (number(response, 4)?, number(response, 6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = after_name(response, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = after_name(response, at)?;
        let (kind, class) = (number(response, at)?, number(response, at + 2)?);
        let length = usize::from(number(response, at + 8)?);
        let data = response.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        match RecordType(kind) {
            RecordType::A if class == INTERNET => {
                found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into());
            }
            RecordType::AAAA if class == INTERNET => {
                found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into());
            }
            _ => {}
        }
    }
    Some(found)
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let octets = message.get(at..at + 2)?;
    Some(u16::from_be_bytes(octets.try_into().ok()?))
}

/// Where the name at `at` is over.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            first if first & POINTER == POINTER => return Some(at + 2),
            length if usize::from(length) <= LONGEST_LABEL => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}
