//! A question of one's own, and what is read of the response: addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RecordType;
use super::message::{HEADER, INTERNET, Record, u16_at};
use super::name;

const RECURSION_DESIRED: u8 = 1;
const CODE: u8 = 0x0f;
/// There are answers, or none of the type that was asked for.
const NO_ERROR: u8 = 0;
/// There is no such name.
const NO_SUCH_NAME: u8 = 3;

/// The question for records of a type that a host has (RFC 1035 section 4.1.2), with an id of zero; none for what is no name.
#[must_use]
pub fn question(host: &str, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = vec![0, 0, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(name::encode(host.strip_suffix('.').unwrap_or(host))?);
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
    let (questions, answers) = (u16_at(response, 4)?, u16_at(response, 6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = name::skip(response, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        let record = Record::read(response, at)?;
        let data = &response[record.data..record.end];
        match record.kind {
            RecordType::A if record.class == INTERNET => {
                found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into());
            }
            RecordType::AAAA if record.class == INTERNET => {
                found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into());
            }
            _ => {}
        }
        at = record.end;
    }
    Some(found)
}
