//! Header fields: from httparse's slices to a `HeaderMap` of the same bytes, and what they say
//! about framing and the connection.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, UPGRADE,
};

use super::error::Fault;

/// Fields that a proxy adds on the way: a map that grows for them is copied.
const ADDED: usize = 6;

/// What the fields say, collected while they are copied into the map.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) hosts: usize,
    /// The value of the last of them.
    pub(super) host: Bytes,
    pub(super) close: bool,
    /// Only when `Connection` names it.
    pub(super) upgrade: Option<HeaderValue>,
    pub(super) expect: Option<HeaderValue>,
    upgrade_listed: bool,
    codings: usize,
}

/// Moves `fields` into a map. `head` is what they were parsed from: values are slices of it.
pub(super) fn collect(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<(HeaderMap, Facts), Fault> {
    let mut facts = Facts::default();
    let mut map = HeaderMap::with_capacity(fields.len() + ADDED);
    for field in fields {
        let (name, value) = parse(head, field)?;
        if name == HOST {
            facts.hosts += 1;
            facts.host = head.slice_ref(field.value);
        } else {
            facts.add(&name, &value)?;
        }
        map.append(name, value);
    }
    if !facts.upgrade_listed {
        facts.upgrade = None;
    }
    match facts.codings {
        0 => Ok((map, facts)),
        _ if facts.length.is_some() => Err(Fault::LengthAndCoding),
        1 if facts.chunked => Ok((map, facts)),
        1 => Err(Fault::Coding),
        _ => Err(Fault::SeveralCodings),
    }
}

/// One field; its value is a slice of `from`.
pub(super) fn parse(
    from: &Bytes,
    field: &httparse::Header<'_>,
) -> Result<(HeaderName, HeaderValue), Fault> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::HeaderName)?;
    let value = HeaderValue::from_maybe_shared(from.slice_ref(field.value))
        .map_err(|_| Fault::HeaderValue)?;
    Ok((name, value))
}

impl Facts {
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Fault> {
        if name == CONTENT_LENGTH {
            // Also equal ones: a list is no better than two lines.
            if self.length.is_some() {
                return Err(Fault::SeveralLengths);
            }
            self.length = Some(length(value.as_bytes()).ok_or(Fault::Length)?);
        } else if name == TRANSFER_ENCODING {
            self.codings += 1;
            self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
        } else if name == CONNECTION {
            for token in tokens(value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.upgrade_listed |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if name == UPGRADE {
            self.upgrade = Some(value.clone());
        } else if name == EXPECT {
            self.expect = Some(value.clone());
        }
        Ok(())
    }
}

/// The members of a comma-separated list.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// `1*DIGIT` (RFC 9110 8.6), as long as it fits.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
