//! Capture files, as every packet analyser reads them (pcap, Ethernet, native byte order of x86 and arm).

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// The header of a file: magic number, version 2.4, no time zone, any length, Ethernet.
pub const HEADER: [u8; 24] = [
    0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0,
];
const RECORD: usize = 16;

/// Writes one frame.
pub(super) fn write(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let words = [seconds, now.subsec_micros(), length, length];
    for word in words {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(frame)
}

/// The frames of a file. One that was cut short ends it.
pub fn frames(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = file.get(HEADER.len()..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = rest.get(8..12)?.try_into().ok().map(u32::from_le_bytes)?;
        let end = RECORD.checked_add(length as usize)?;
        let frame = rest.get(RECORD..end)?;
        rest = &rest[end..];
        Some(frame)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut file = HEADER.to_vec();
        write(&mut file, b"one").expect("a write");
        write(&mut file, b"").expect("a write");
        write(&mut file, b"three").expect("a write");
        let expected: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(frames(&file).collect::<Vec<_>>(), expected);
        file.truncate(file.len() - 1);
        assert_eq!(frames(&file).count(), 2);
        assert_eq!(frames(b"").count(), 0);
    }
}
