//! However a connection's bytes arrive, the same goes on, and there is nothing left to change in it.
//!
//! The bytes follow a client's preface.
#![no_main]

use ambit_http::h2fields::{BOUND, Sieve};
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    let bytes = [PREFACE, bytes].concat();
    let whole = sift(&bytes, std::iter::repeat(bytes.len()));
    assert_eq!(whole, sift(&bytes, std::iter::repeat(1)), "byte by byte");
    // Sizes that the input itself chooses.
    let sizes = bytes.iter().rev().cycle();
    let sizes = sizes.map(|byte| usize::from(*byte) % 61 + 1);
    assert_eq!(whole, sift(&bytes, sizes), "in pieces");
    let again = sift(&whole, std::iter::repeat(whole.len()));
    assert_eq!(whole, again, "what has gone on goes on");
    // A byte of Huffman's code is less than two letters; a frame that is none may come before the rest.
    assert!(whole.len() <= 2 * bytes.len() + 9, "{}", whole.len());
});

fn sift(mut bytes: &[u8], mut sizes: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut sieve = Sieve::default();
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, bytes.len());
        let (front, rest) = bytes.split_at(size);
        bytes = rest;
        let straight = sieve.look(front);
        out.extend_from_slice(&front[..straight]);
        let taken = sieve.taken(usize::MAX);
        assert!(taken.len() <= 2 * (BOUND + size), "{}", taken.len());
        out.extend_from_slice(&taken);
    }
    sieve.end();
    out.extend_from_slice(&sieve.taken(usize::MAX));
    out
}
