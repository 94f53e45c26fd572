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
    let id = HeaderValue::try_from(uuid(random())).expect("hexadecimal is printable");
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn fit(id: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:+/=@".contains(b);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(allowed)
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let all = u128::from_be_bytes(bytes);
    let group = |shift: u32, digits: u32| (all >> shift) & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        group(96, 8),
        group(80, 4),
        group(64, 4),
        group(48, 4),
        group(0, 12)
    )
}
