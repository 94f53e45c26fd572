//! Table tests; `server` has `h2` read what the sieve lets through.

mod blocks;
mod encoder;
mod limits;
mod server;
mod words;

use super::frame::{CONTINUATION, END_HEADERS, HEADERS};
use super::*;
use encoder::{Encoder, Field, How};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request without a body, in one frame.
fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// A whole connection that begins as it should.
fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frames.concat());
    bytes
}

/// What goes on of what comes in these pieces.
fn sifted<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut sieve = Sieve::default();
    let mut out = Vec::new();
    for piece in pieces {
        let straight = sieve.look(piece);
        out.extend_from_slice(&piece[..straight]);
        out.extend_from_slice(&sieve.taken(usize::MAX));
    }
    sieve.end();
    out.extend_from_slice(&sieve.taken(usize::MAX));
    out
}

/// Literals that become no entries.
fn plain(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut encoder = Encoder::default();
    for (name, value) in fields {
        encoder.write(&mut block, &Field::new(name, value, How::Plain));
    }
    block
}

#[test]
fn however_it_arrives_the_same_goes_on() {
    let mut encoder = Encoder::default();
    let mut block = |fields: &[(&str, &str)]| {
        let mut block = Vec::new();
        for (name, value) in fields {
            encoder.write(&mut block, &Field::new(name, value, How::Kept));
        }
        block
    };
    let good = block(&[(":method", "GET"), ("x", "1")]);
    let bad = block(&[("x", "1"), ("X-Upper", "1"), ("y", "a\nb")]);
    let after = block(&[("y", "2"), ("x", "1")]);
    let (front, back) = after.split_at(2);
    let bytes = connection(&[
        headers(1, &good),
        frame(DATA, 0, 1, &[7; 40]),
        headers(3, &bad),
        frame(HEADERS, END_STREAM, 5, front),
        frame(CONTINUATION, 0, 5, &[]),
        frame(CONTINUATION, END_HEADERS, 5, back),
        headers(7, &plain(&[("", "1")])),
        frame(DATA, END_STREAM, 1, &[]),
    ]);
    let whole = sifted([&*bytes]);
    assert_ne!(whole, bytes);
    assert_eq!(whole, sifted(bytes.chunks(1)), "byte by byte");
    for cut in 0..bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(whole, sifted([front, back]), "cut at {cut}");
    }
    assert_eq!(whole, sifted([&*whole]), "nothing is left to do");
    // Little room makes no difference.
    let mut sieve = Sieve::default();
    let straight = sieve.look(&bytes);
    let mut out = bytes[..straight].to_vec();
    loop {
        let some = sieve.taken(3);
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 3);
        out.extend_from_slice(&some);
    }
    assert_eq!(whole, out);
}
