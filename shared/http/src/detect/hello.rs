//! The name in a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3). Read, never trusted: it says where a
//! stream is to go, not who sends it.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Detected, Inner, MAX_SEEN};

/// Type, version, length.
const RECORD_HEADER: usize = 5;
/// Type, length.
const MESSAGE_HEADER: usize = 4;
/// The longest DNS name.
const MAX_NAME: usize = 253;

/// [`Inner::Opaque`]: it is no ClientHello.
pub(super) fn detect(seen: &[u8]) -> Detected {
    match message(seen) {
        Progress::Partial => Detected::NeedMore,
        Progress::Whole(message) => match client_hello(&message) {
            Some(sni) => Detected::Is(Inner::Tls { sni }),
            None => Detected::Is(Inner::Opaque),
        },
        Progress::Other => Detected::Is(Inner::Opaque),
    }
}

enum Progress<'a> {
    Partial,
    /// The body of the ClientHello.
    Whole(Cow<'a, [u8]>),
    Other,
}

/// Puts the message together from its records; one record is the common case and not copied.
fn message(seen: &[u8]) -> Progress<'_> {
    let mut rest = seen;
    let mut whole = Cow::Borrowed(&[][..]);
    loop {
        if !header_fits(rest) {
            return Progress::Other;
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) else {
            return Progress::Partial;
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Progress::Other;
        }
        let part = &after[..length.min(after.len())];
        match whole.is_empty() {
            true => whole = Cow::Borrowed(part),
            false => whole.to_mut().extend_from_slice(part),
        }
        match whole.first() {
            Some(1) => {}
            Some(_) => return Progress::Other,
            None => return Progress::Partial,
        }
        if let [_, a, b, c, ..] = *whole {
            let size = MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
            if size > MAX_SEEN {
                return Progress::Other;
            }
            if whole.len() >= size {
                return Progress::Whole(match whole {
                    Cow::Borrowed(whole) => Cow::Borrowed(&whole[MESSAGE_HEADER..size]),
                    Cow::Owned(whole) => Cow::Owned(whole[MESSAGE_HEADER..size].to_vec()),
                });
            }
        }
        if after.len() < length {
            return Progress::Partial;
        }
        rest = &after[length..];
    }
}

/// As far as it is there: a handshake record of TLS 1.x.
fn header_fits(header: &[u8]) -> bool {
    header.first().is_none_or(|it| *it == 0x16)
        && header.get(1).is_none_or(|it| *it == 3)
        && header.get(2).is_none_or(|it| *it <= 4)
}

/// `Some(None)`: a ClientHello that names no server.
fn client_hello(message: &[u8]) -> Option<Option<Arc<str>>> {
    let mut hello = Reader(message);
    let version = hello.take(2)?;
    if version[0] != 3 {
        return None;
    }
    hello.take(32)?;
    let session = usize::from(hello.u8()?);
    hello.take(session)?;
    let suites = usize::from(hello.u16()?);
    hello.take(suites)?;
    let compressions = usize::from(hello.u8()?);
    hello.take(compressions)?;
    if hello.0.is_empty() {
        return Some(None);
    }
    let length = usize::from(hello.u16()?);
    let mut extensions = Reader(hello.take(length)?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = usize::from(extensions.u16()?);
        let content = extensions.take(length)?;
        if kind == 0 {
            // Twice would be two destinations.
            if found.is_some() {
                return None;
            }
            found = Some(server_name(content)?);
        }
    }
    Some(found)
}

fn server_name(content: &[u8]) -> Option<Arc<str>> {
    let mut content = Reader(content);
    let length = usize::from(content.u16()?);
    let mut names = Reader(content.take(length)?);
    let kind = names.u8()?;
    let length = usize::from(names.u16()?);
    let name = names.take(length)?;
    let one = names.0.is_empty() && content.0.is_empty() && kind == 0;
    let name = std::str::from_utf8(name).ok().filter(|_| one)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let fits = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fits);
    fits.then(|| name.to_ascii_lowercase().into())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|it| it[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|it| u16::from_be_bytes([it[0], it[1]]))
    }
}
