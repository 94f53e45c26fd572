//! TCP segments in Ethernet frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Who it is for.
    pub to: SocketAddr,
    /// The number of its first byte.
    pub sequence: u32,
    /// Whether it opens a connection.
    pub syn: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const TCP: u8 = 6;

/// The segment in a frame, if that is what it holds.
pub(super) fn parse(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = frame.get(ETHERNET..)?;
    match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let length = usize::from(number(packet.get(2..4)?));
            if *packet.get(9)? != TCP {
                return None;
            }
            let octets = |at: usize| {
                Some(Ipv4Addr::from(
                    <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
                ))
            };
            segment(
                octets(12)?.into(),
                octets(16)?.into(),
                packet.get(header..length)?,
            )
        }
        [0x86, 0xdd] => {
            let length = usize::from(number(packet.get(4..6)?));
            // Extension headers do not occur between the lab's nodes.
            if *packet.get(6)? != TCP {
                return None;
            }
            let octets = |at: usize| {
                Some(Ipv6Addr::from(
                    <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
                ))
            };
            segment(
                octets(8)?.into(),
                octets(24)?.into(),
                packet.get(IPV6..IPV6 + length)?,
            )
        }
        _ => None,
    }
}

fn segment(from: IpAddr, to: IpAddr, tcp: &[u8]) -> Option<Segment<'_>> {
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from: SocketAddr::new(from, number(tcp.get(..2)?)),
        to: SocketAddr::new(to, number(tcp.get(2..4)?)),
        sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
        syn: tcp.get(13)? & 0x02 != 0,
        payload: tcp.get(header..)?,
    })
}

fn number(bytes: &[u8]) -> u16 {
    bytes.try_into().map(u16::from_be_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0; 20];
        tcp[..2].copy_from_slice(&40000u16.to_be_bytes());
        tcp[2..4].copy_from_slice(&15008u16.to_be_bytes());
        tcp[4..8].copy_from_slice(&7u32.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp.extend_from_slice(payload);
        tcp
    }

    #[test]
    fn both_families_are_read() {
        let mut v4 = vec![0; 34];
        v4[12] = 0x08;
        v4[14] = 0x45;
        v4[16..18].copy_from_slice(&(20 + 20 + 2u16).to_be_bytes());
        v4[23] = TCP;
        v4[26..30].copy_from_slice(&[10, 0, 0, 1]);
        v4[30..34].copy_from_slice(&[10, 0, 0, 2]);
        v4.extend(tcp(b"hi"));
        // Short frames are padded.
        v4.extend([0; 6]);
        let segment = parse(&v4).expect("a segment");
        assert_eq!(segment.from.to_string(), "10.0.0.1:40000");
        assert_eq!(segment.to.to_string(), "10.0.0.2:15008");
        assert_eq!(
            (segment.sequence, segment.syn, segment.payload),
            (7, false, &b"hi"[..])
        );

        let mut v6 = vec![0; 54];
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        v6[18..20].copy_from_slice(&22u16.to_be_bytes());
        v6[20] = TCP;
        v6[37] = 1;
        v6[53] = 2;
        v6.extend(tcp(b"ho"));
        let segment = parse(&v6).expect("a segment");
        assert_eq!(segment.from.to_string(), "[::1]:40000");
        assert_eq!(segment.payload, b"ho");
        for length in 0..v6.len() {
            let _ = parse(&v6[..length]);
            let _ = parse(&v4[..length.min(v4.len())]);
        }
    }
}
