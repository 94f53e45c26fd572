//! `x-request-id`: one name for a request on all its way.

use http::{HeaderMap, HeaderValue};

use super::names::REQUEST_ID;

/// Characters of an id that is believed.
const LONGEST: usize = 128;

/// The request's id. One that came with it is kept if it is fit for logs (1 to 128 letters, digits and
/// `-._~:+/=@`), else it is replaced by a UUID of version 4 (RFC 9562) made of `random`.
pub fn request_id(headers: &mut HeaderMap, random: impl FnOnce() -> [u8; 16]) -> HeaderValue {
    let mut ids = headers.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next())
        && fit(id.as_bytes())
    {
        return id.clone();
    }
    let id = HeaderValue::from_bytes(&uuid(random())).expect("hexadecimal is printable");
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn fit(id: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:+/=@".contains(b);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(allowed)
}

/// Written by hand: every request without an id needs one, and formatting costs twenty times as much.
fn uuid(mut bytes: [u8; 16]) -> [u8; 36] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 0x0f)];
        at += 2;
    }
    text
}
