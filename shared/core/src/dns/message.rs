//! A question as it comes from a pod (RFC 1035, section 4; RFC 6891).
//!
//! The question is never written anew: what goes out, either way, has the bytes that came in, and so the case of every letter.

use super::{LONGEST, MOST_DATAGRAM, PLAIN_LIMIT, name, reply};

pub(super) const HEADER: usize = 12;
/// The class of all names that there are (RFC 1035 section 3.2.4).
pub(super) const INTERNET: u16 = 1;

pub(super) const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;

/// The type of a record or of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordType(pub u16);

impl RecordType {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// Another name of the owner.
    pub const CNAME: Self = Self(5);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    /// A server and its port.
    pub const SRV: Self = Self(33);
    /// What EDNS says about the message.
    pub const OPT: Self = Self(41);
    /// What has changed in a zone.
    pub const IXFR: Self = Self(251);
    /// A whole zone.
    pub const AXFR: Self = Self(252);
    /// Whatever there is.
    pub const ANY: Self = Self(255);

    /// Its name in lower case; of the ones that are rarely asked, `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self.0 {
            1 => "a",
            2 => "ns",
            5 => "cname",
            6 => "soa",
            12 => "ptr",
            15 => "mx",
            16 => "txt",
            28 => "aaaa",
            33 => "srv",
            35 => "naptr",
            43 => "ds",
            48 => "dnskey",
            64 => "svcb",
            65 => "https",
            251 => "ixfr",
            252 => "axfr",
            255 => "any",
            257 => "caa",
            _ => "unknown",
        }
    }
}

/// How a question fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    Refused = 5,
    /// An EDNS version that is not known.
    BadVers = 16,
}

/// A message that is not a question to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// Nothing is answered: it is no message, or one that answers itself.
    Ignored,
    /// This is the answer.
    Refused(Vec<u8>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    message: Box<[u8]>,
    /// Where the question ends.
    pub(super) end: usize,
    name: Option<Box<str>>,
    kind: RecordType,
    class: u16,
    /// It asks, and neither updates nor notifies.
    pub(super) standard: bool,
    pub(super) edns: Option<Edns>,
}

/// What a client says by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edns {
    payload: u16,
    version: u8,
    pub(super) dnssec_ok: bool,
}

impl Query {
    /// Reads a message.
    ///
    /// # Errors
    /// It asks nothing, or nothing that can be understood.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header = message.get(..HEADER).ok_or(Malformed::Ignored)?;
        let flags = u16_at(header, 2).unwrap_or_default();
        if flags & RESPONSE != 0 || message.len() > LONGEST {
            return Err(Malformed::Ignored);
        }
        let formless = || Malformed::Refused(reply::bare(header, Code::FormErr));
        let query = Self::read(message).ok_or_else(formless)?;
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return Err(Malformed::Refused(query.failure(Code::BadVers)));
        }
        Ok(query)
    }

    fn read(message: &[u8]) -> Option<Self> {
        let count = |at| u16_at(message, at).map(usize::from);
        if count(4)? != 1 {
            return None;
        }
        let (name, at) = name::read(message, HEADER)?;
        let kind = RecordType(u16_at(message, at)?);
        let class = u16_at(message, at + 2)?;
        let end = at + 4;
        let (mut at, mut edns) = (end, None);
        for _ in 0..count(6)? + count(8)? + count(10)? {
            let record = Record::read(message, at)?;
            if record.kind == RecordType::OPT {
                // RFC 6891, section 6.1.1: one, and it belongs to no name.
                if edns.is_some() || record.owned {
                    return None;
                }
                edns = Some(Edns {
                    payload: record.class,
                    version: (record.ttl >> 16) as u8,
                    dnssec_ok: record.ttl & 1 << 15 != 0,
                });
            }
            at = record.end;
        }
        Some(Self {
            message: message.into(),
            end,
            name,
            kind,
            class,
            standard: u16_at(message, 2)? & OPCODE == 0,
            edns,
        })
    }

    /// The name, in lower case and without the dot at its end; `None` for one that no host can have.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The type that is asked for.
    #[must_use]
    pub fn kind(&self) -> RecordType {
        self.kind
    }

    /// Whether it is a question about the Internet: no update, and not about chaos.
    #[must_use]
    pub fn internet(&self) -> bool {
        self.standard && self.class == INTERNET
    }

    /// Whether the answer may be many messages (RFC 5936).
    #[must_use]
    pub fn is_transfer(&self) -> bool {
        self.standard && matches!(self.kind, RecordType::AXFR | RecordType::IXFR)
    }

    /// All of it, as it came.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The longest datagram that the client takes.
    #[must_use]
    pub fn datagram_limit(&self) -> usize {
        let asked = self.edns.map_or(0, |edns| usize::from(edns.payload));
        asked.clamp(PLAIN_LIMIT, usize::from(MOST_DATAGRAM))
    }

    /// The question's bytes.
    pub(super) fn question(&self) -> &[u8] {
        &self.message[HEADER..self.end]
    }
}

/// A record, and where the next is.
pub(super) struct Record {
    owned: bool,
    pub(super) kind: RecordType,
    pub(super) class: u16,
    ttl: u32,
    /// Where its data are, up to `end`.
    pub(super) data: usize,
    pub(super) end: usize,
}

impl Record {
    pub(super) fn read(message: &[u8], at: usize) -> Option<Self> {
        let fixed = name::skip(message, at)?;
        let length = usize::from(u16_at(message, fixed + 8)?);
        let end = fixed + 10 + length;
        (end <= message.len()).then_some(())?;
        let ttl =
            u32::from(u16_at(message, fixed + 4)?) << 16 | u32::from(u16_at(message, fixed + 6)?);
        Some(Self {
            owned: message[at] != 0,
            kind: RecordType(u16_at(message, fixed)?),
            class: u16_at(message, fixed + 2)?,
            ttl,
            data: fixed + 10,
            end,
        })
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
