//! HTTP/2 frames by hand (RFC 9113 4, RFC 7541 without compression).

use super::evil::PREFACE;
use super::wire::Wire;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// `name: value` without an index.
pub(super) type Field<'a> = (&'a str, &'a str);

/// Kind, stream and payload.
pub(super) type Frame = (u8, u32, Vec<u8>);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    /// Of the stream, with this code.
    Reset(u32),
    /// Of the connection, with this code.
    Goaway(u32),
    Closed,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block.
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value.as_bytes());
    }
    bytes
}

/// A string with its length (RFC 7541 5.1, 5.2).
pub(super) fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => bytes.push(length),
        _ => {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push(128 | (rest % 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend(text);
}

/// A header block of any size: HEADERS, and CONTINUATION for what is over.
pub(super) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16_000);
    let first = pieces.next().unwrap_or_default();
    let last = |more: usize| if more == 0 { END_HEADERS } else { 0 };
    let mut bytes = frame(HEADERS, flags | last(pieces.len()), stream, first);
    while let Some(piece) = pieces.next() {
        bytes.extend(frame(CONTINUATION, last(pieces.len()), stream, piece));
    }
    bytes
}

/// The four pseudo-fields of a good request and more fields.
pub(super) fn request<'a>(path: &'a str, more: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "echo.mesh"),
        (":path", path),
    ];
    fields.extend(more);
    fields
}

/// A good request that ends with its head.
pub(super) fn good(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_STREAM, &block(&request(path, &[])))
}

/// The beginning of a client, which remembers no fields: SETTINGS_HEADER_TABLE_SIZE is 0.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat()
}

impl Wire {
    /// What becomes of a stream, past all other frames.
    pub(super) fn outcome(&mut self, what: &str, stream: u32) -> Outcome {
        loop {
            let Some((kind, of, payload)) = self.take(what, next) else {
                return Outcome::Closed;
            };
            let number = |at: usize| {
                let bytes = payload[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes)
            };
            match kind {
                HEADERS if of == stream => match status(&payload) {
                    // HTTP/2 has no 101: it is no interim response.
                    100 | 102..200 => {}
                    status => return Outcome::Status(status),
                },
                RESET if of == stream => return Outcome::Reset(number(0)),
                GOAWAY => return Outcome::Goaway(number(4)),
                _ => {}
            }
        }
    }
}

/// The first frame, and its length.
pub(super) fn next(seen: &[u8]) -> Option<(Frame, usize)> {
    let (head, rest) = seen.split_at_checked(9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
    let payload = rest.get(..length)?.to_vec();
    Some(((head[3], stream, payload), 9 + length))
}

/// `:status` of a response's block: it comes first, after changes of the table's size.
fn status(block: &[u8]) -> u16 {
    let start = block.iter().take_while(|byte| **byte >> 5 == 1).count();
    let [index, rest @ ..] = &block[start..] else {
        panic!("an empty block")
    };
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match index {
        0x88..=0x8e => STATIC[usize::from(index - 0x88)],
        // Name 8 of the static table, with a value: digits, or digits in Huffman's code.
        0x48 | 0x08 | 0x18 => {
            let length = usize::from(rest[0] & 0x7f);
            let value = &rest[1..=length];
            match rest[0] & 0x80 {
                0 => String::from_utf8_lossy(value).parse().expect("a status"),
                _ => digits(value),
            }
        }
        other => panic!("a block that begins with {other:#x}"),
    }
}

/// Three digits: 0 to 2 have five bits, the others six (RFC 7541 B).
fn digits(code: &[u8]) -> u16 {
    let bits = code
        .iter()
        .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = code.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let mut take = |count: usize| {
            left -= count;
            (bits >> left & ((1 << count) - 1)) as u16
        };
        let digit = match take(5) {
            digit @ 0..=2 => digit,
            high => (high << 1 | take(1)) - 0b011001 + 3,
        };
        number = number * 10 + digit;
    }
    number
}

#[test]
fn statuses_are_read() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8d]), 404);
    assert_eq!(status(&[0x48, 3, b'4', b'3', b'1']), 431);
    // 4 = 011010, 0 = 00000, 3 = 011001, and ones to the end.
    assert_eq!(
        status(&[0x48, 0x83, 0b0110_1000, 0b0000_1100, 0b1111_1111]),
        403
    );
}
