//! Domain names as bytes (RFC 1035, sections 3.1 and 4.1.4).

use super::message::u16_at;

const MOST_LABEL: usize = 63;
const MOST_NAME: usize = 255;
/// The two bits that make a length a pointer.
const POINTER: u8 = 0xc0;

/// The name at a place that nothing precedes, so that it points nowhere, and the place behind it: in lower case and without the
/// dot at its end; `None` when it has what no host's name has.
pub(super) fn read(message: &[u8], start: usize) -> Option<(Option<Box<str>>, usize)> {
    let mut text = String::new();
    let (mut at, mut plain) = (start, true);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length > MOST_LABEL || at + length - start > MOST_NAME {
            return None;
        }
        if length == 0 {
            return Some((plain.then(|| text.into_boxed_str()), at));
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in message.get(at..at + length)? {
            plain &= byte.is_ascii_alphanumeric() || b"-_*".contains(byte);
            text.push(byte.to_ascii_lowercase().into());
        }
        at += length;
    }
}

/// The place behind a name, which may end in a pointer.
pub(super) fn skip(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        if length & POINTER == POINTER {
            return u16_at(message, at).map(|_| at + 2);
        }
        if usize::from(length) > MOST_LABEL {
            return None;
        }
        at += 1 + usize::from(length);
        if length == 0 {
            return Some(at);
        }
    }
}

/// The bytes of a name; `None` for a text that is none.
pub(super) fn encode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > MOST_LABEL {
            return None;
        }
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    (out.len() <= MOST_NAME).then_some(out)
}
