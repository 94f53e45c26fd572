//! What goes back to a pod: the mesh's answer, a failure, or what the resolver it asked has said.

use std::net::IpAddr;

use super::answer::{Data, Records, TTL};
use super::message::{Code, HEADER, Query, RESPONSE, RecordType, u16_at};
use super::name;

const AUTHORITATIVE: u16 = 1 << 10;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const CHECKING_DISABLED: u16 = 1 << 4;
const CODE: u16 = 0xf;
const NO_SUCH_NAME: u16 = 3;

/// Length of an OPT record without options.
const OPT: usize = 11;
const DNSSEC_OK: u32 = 1 << 15;
const INTERNET: u16 = 1;
/// Length of a record whose owner is a pointer, without its data.
const FIXED: usize = 12;
/// Marks a place in the message in the place of a name.
const POINTER: u16 = 0xc000;
/// The name in the question, which is the first thing behind the header.
const ASKED: u16 = POINTER | 12;

impl Query {
    /// The mesh's answer in at most `limit` bytes; marked as truncated when not all of it fits.
    #[must_use]
    pub fn answer(&self, records: &Records, limit: usize) -> Vec<u8> {
        let mut section = Section {
            out: self.begin(AUTHORITATIVE, Code::NoError),
            room: limit.saturating_sub(if self.edns.is_some() { OPT } else { 0 }),
            owner: ASKED,
            count: 0,
        };
        if section.add_all(records).is_none() {
            flag(&mut section.out, TRUNCATED);
        }
        put(&mut section.out, 6, section.count);
        self.end(section.out, Code::NoError)
    }

    /// Nothing but how it fared.
    #[must_use]
    pub fn failure(&self, code: Code) -> Vec<u8> {
        self.end(self.begin(0, code), code)
    }

    /// The question as it is asked elsewhere.
    #[must_use]
    pub fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut message = self.message().to_vec();
        put(&mut message, 0, id);
        message
    }

    /// Whether `response` answers the question that was [`Query::forwarded`] with this id.
    #[must_use]
    pub fn is_answered_by(&self, response: &[u8], id: u16) -> bool {
        let (Some(found), Some(flags), Some(questions)) = (
            u16_at(response, 0),
            u16_at(response, 2),
            u16_at(response, 4),
        ) else {
            return false;
        };
        // Some servers do not keep the case of the letters.
        let same = response
            .get(HEADER..self.end)
            .is_some_and(|question| question.eq_ignore_ascii_case(self.question()));
        // Old servers that do not understand EDNS say so without the question, and updates are answered without their zone (RFC 2136,
        // section 3.8).
        let bare = questions == 0 && (flags & CODE != 0 || !self.standard);
        response.len() >= HEADER
            && found == id
            && flags & RESPONSE != 0
            && (bare || questions == 1 && same)
    }

    /// What another resolver has said ([`Query::is_answered_by`]), for the pod: in at most `limit` bytes. If the mesh has a name of which that resolver does
    /// not know, the name exists and has nothing of what was asked.
    #[must_use]
    pub fn passed_on(&self, mut response: Vec<u8>, known: bool, limit: usize) -> Vec<u8> {
        if known && code(&response) == NO_SUCH_NAME {
            return self.answer(&Records::default(), limit);
        }
        if response.len() > limit {
            let flags = u16_at(&response, 2).unwrap_or_default();
            response = self.begin(flags & (AUTHORITATIVE | CODE), Code::NoError);
            flag(&mut response, TRUNCATED);
            return self.end(response, Code::NoError);
        }
        let id = &mut response[..2];
        id.copy_from_slice(&self.message()[..2]);
        if u16_at(&response, 4) == Some(1)
            && let Some(question) = response.get_mut(HEADER..self.end)
        {
            question.copy_from_slice(self.question());
        }
        response
    }

    /// The header and the question.
    fn begin(&self, flags: u16, code: Code) -> Vec<u8> {
        let mut out = bare(&self.message()[..HEADER], code);
        flag(&mut out, flags);
        put(&mut out, 4, 1);
        out.extend_from_slice(self.question());
        out
    }

    /// Answers EDNS with EDNS (RFC 6891, section 7).
    fn end(&self, mut out: Vec<u8>, code: Code) -> Vec<u8> {
        if let Some(edns) = self.edns {
            put(&mut out, 10, 1);
            let dnssec_ok = if edns.dnssec_ok { DNSSEC_OK } else { 0 };
            let ttl = (code as u32) >> 4 << 24 | dnssec_ok;
            out.push(0);
            out.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
            out.extend_from_slice(&super::MOST_DATAGRAM.to_be_bytes());
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
        }
        out
    }
}

/// Records being written.
struct Section {
    out: Vec<u8>,
    room: usize,
    owner: u16,
    count: u16,
}

impl Section {
    /// `None` when not all of them fit.
    fn add_all(&mut self, records: &Records) -> Option<()> {
        if let Some(alias) = records.alias.as_deref().and_then(name::encode) {
            let place = self.out.len() + FIXED;
            self.add(RecordType::CNAME, &alias)?;
            self.owner = POINTER | u16::try_from(place).ok()?;
        }
        for data in &records.data {
            match data {
                Data::Address(IpAddr::V4(ip)) => self.add(RecordType::A, &ip.octets())?,
                Data::Address(IpAddr::V6(ip)) => self.add(RecordType::AAAA, &ip.octets())?,
                Data::Server { port, target } => {
                    if let Some(data) = server(*port, target) {
                        self.add(RecordType::SRV, &data)?;
                    }
                }
            }
        }
        Some(())
    }

    fn add(&mut self, kind: RecordType, data: &[u8]) -> Option<()> {
        let length = u16::try_from(data.len()).ok()?;
        if self.out.len() + FIXED + data.len() > self.room {
            return None;
        }
        self.count = self.count.checked_add(1)?;
        for part in [self.owner, kind.0, INTERNET] {
            self.out.extend_from_slice(&part.to_be_bytes());
        }
        self.out.extend_from_slice(&TTL.to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(data);
        Some(())
    }
}

/// The code in a message's header.
#[must_use]
pub fn code(message: &[u8]) -> u16 {
    u16_at(message, 2).unwrap_or_default() & CODE
}

/// A header alone, for the question with this one.
pub(super) fn bare(asked: &[u8], code: Code) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out[..2].copy_from_slice(&asked[..2]);
    let kept =
        u16_at(asked, 2).unwrap_or_default() & (RECURSION_DESIRED | CHECKING_DISABLED | 0x7800);
    put(
        &mut out,
        2,
        RESPONSE | RECURSION_AVAILABLE | kept | code as u16 & CODE,
    );
    out
}

/// RFC 2782: priority, weight, port, and a name that is not compressed.
fn server(port: u16, target: &str) -> Option<Vec<u8>> {
    let mut data = vec![0, 0, 0, 100];
    data.extend_from_slice(&port.to_be_bytes());
    data.extend(name::encode(target)?);
    Some(data)
}

fn put(message: &mut [u8], at: usize, value: u16) {
    message[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn flag(message: &mut [u8], flags: u16) {
    let now = u16_at(message, 2).unwrap_or_default();
    put(message, 2, now | flags);
}
