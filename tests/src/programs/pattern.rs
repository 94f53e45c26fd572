//! The deterministic byte stream that `echo` sends and `load` checks.
//!
//! Byte `n` of a stream is byte `n mod PERIOD` of one pseudo-random block. The period is a prime, so that a lost or doubled
//! power-of-two buffer shifts the stream and cannot go unnoticed.

use std::sync::LazyLock;

use bytes::Bytes;

/// Length of the block in bytes; a prime.
pub const PERIOD: usize = 1_048_573;

static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(PERIOD + 8);
    while block.len() < PERIOD {
        // xorshift64*, Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        block.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    block.truncate(PERIOD);
    block.into()
});

/// The longest piece, of at most `limit` bytes, that starts at `offset` of the stream and needs no copy.
pub fn piece(offset: u64, limit: u64) -> Bytes {
    let start = (offset % PERIOD as u64) as usize;
    let length = limit.min((PERIOD - start) as u64) as usize;
    BLOCK.slice(start..start + length)
}

/// Compares received pieces with the stream.
#[derive(Debug, Default)]
pub struct Verifier {
    offset: u64,
    mismatch: Option<u64>,
}

impl Verifier {
    /// Takes the next received bytes.
    pub fn update(&mut self, mut received: &[u8]) {
        while !received.is_empty() && self.mismatch.is_none() {
            let expected = piece(self.offset, received.len() as u64);
            let (head, rest) = received.split_at(expected.len());
            if head != expected {
                let at = head.iter().zip(&expected).position(|(a, b)| a != b);
                self.mismatch = Some(self.offset + at.unwrap_or(0) as u64);
            }
            self.offset += expected.len() as u64;
            received = rest;
        }
    }

    /// Offset of the first byte that differs, if any did.
    pub fn mismatch(&self) -> Option<u64> {
        self.mismatch
    }
}

/// SHA-256 of a stream, in lower-case hexadecimal at the end.
#[derive(Clone)]
pub struct Digest(aws_lc_rs::digest::Context);

impl Default for Digest {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

impl Digest {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.0.finish().as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            bytes.extend_from_slice(&piece(bytes.len() as u64, (length - bytes.len()) as u64));
        }
        bytes
    }

    #[test]
    fn verifier_finds_what_changed() {
        let whole = stream(PERIOD + 5000);
        let mut swapped = whole.clone();
        swapped[PERIOD + 17] ^= 1;
        let lost: Vec<u8> = [&whole[..4096], &whole[8192..]].concat();
        for (name, received, expected) in [
            ("intact", &whole, None),
            ("one bit", &swapped, Some(PERIOD as u64 + 17)),
            ("a lost page", &lost, Some(4096)),
        ] {
            let mut verifier = Verifier::default();
            for part in received.chunks(1500) {
                verifier.update(part);
            }
            match expected {
                Some(at) => assert!(
                    verifier.mismatch().is_some_and(|m| m >= at && m < at + 8),
                    "{name}"
                ),
                None => assert_eq!(verifier.mismatch(), None, "{name}"),
            }
        }
    }

    #[test]
    fn digest_is_sha256() {
        let mut digest = Digest::default();
        digest.update(b"a");
        digest.update(b"bc");
        // FIPS 180-4, appendix B.1.
        assert_eq!(
            digest.finish(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
