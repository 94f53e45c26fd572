//! What crosses the wire between nodes: frames are taken from a node's own link and looked at as an
//! eavesdropper would.

mod frame;
mod pcap;
mod tap;
mod tls;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv};

use crate::sys;

pub use frame::Segment;
pub use pcap::{HEADER, frames};
pub use tap::Tap;
pub use tls::{Handshake, Seen};

/// The longest frame: large segments are cut only by the device.
const LONGEST: usize = 1 << 17;

/// Writes every frame on `device` to `out` as a capture file, until nobody reads it.
///
/// # Errors
/// As the kernel says.
pub fn record(device: &str, out: &mut impl Write) -> io::Result<()> {
    let socket = sys::packet_socket(device)?;
    out.write_all(&HEADER)?;
    out.flush()?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        pcap::write(out, &buffer[..length])?;
        out.flush()?;
    }
}

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// Who sends.
    pub from: SocketAddr,
    /// Who receives.
    pub to: SocketAddr,
}

/// What was sent each way, put in order again.
#[must_use]
pub fn streams(file: &[u8]) -> BTreeMap<Direction, Vec<u8>> {
    let mut segments: BTreeMap<Direction, Vec<Segment<'_>>> = BTreeMap::new();
    for frame in frames(file) {
        if let Some(segment) = frame::parse(frame) {
            let direction = Direction {
                from: segment.from,
                to: segment.to,
            };
            segments.entry(direction).or_default().push(segment);
        }
    }
    segments
        .into_iter()
        .map(|(direction, segments)| (direction, join(segments)))
        .collect()
}

/// The bytes of one direction in order; what was sent twice appears once.
fn join(mut segments: Vec<Segment<'_>>) -> Vec<u8> {
    let Some(start) = segments
        .iter()
        .find(|segment| segment.syn)
        .or(segments.first())
    else {
        return Vec::new();
    };
    // Sequence numbers wrap: they are compared by their distance from the first.
    let first = if start.syn {
        start.sequence.wrapping_add(1)
    } else {
        start.sequence
    };
    segments.retain(|segment| !segment.syn && !segment.payload.is_empty());
    segments.sort_by_key(|segment| segment.sequence.wrapping_sub(first));
    let mut bytes = Vec::new();
    for segment in segments {
        let at = segment.sequence.wrapping_sub(first) as usize;
        let known = bytes.len().saturating_sub(at);
        if at <= bytes.len() && known < segment.payload.len() {
            bytes.extend_from_slice(&segment.payload[known..]);
        }
    }
    bytes
}

/// Whether `needle` occurs anywhere in the raw frames.
#[must_use]
pub fn contains(file: &[u8], needle: &[u8]) -> bool {
    let found = |frame: &[u8]| frame.windows(needle.len()).any(|window| window == needle);
    let mut all = frames(file);
    all.any(found) || streams(file).values().any(|stream| found(stream))
}

/// What the TLS records of a stream say.
#[must_use]
pub fn inspect(stream: &[u8]) -> Seen {
    tls::inspect(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, syn: bool, payload: &[u8]) -> Segment<'_> {
        let address: SocketAddr = "10.0.0.1:1".parse().expect("an address");
        Segment {
            from: address,
            to: address,
            sequence,
            syn,
            payload,
        }
    }

    #[test]
    fn streams_are_put_in_order() {
        let start = u32::MAX - 2;
        let segments = vec![
            segment(start.wrapping_add(4), false, b"defg"),
            segment(start, true, b""),
            segment(start.wrapping_add(1), false, b"abc"),
            segment(start.wrapping_add(1), false, b"abcd"),
            segment(start.wrapping_add(8), false, b"h"),
        ];
        assert_eq!(join(segments), b"abcdefgh");
    }
}
