//! UDP in a tunnel: what asks for one (CONNECT-UDP, RFC 9298), and datagrams as capsules of its stream (RFC 9297).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The `:protocol` of an extended CONNECT that asks for UDP (RFC 9298 section 3.4).
pub const CONNECT_UDP: &str = "connect-udp";
/// The longest payload of a datagram; a longer one ends the stream (RFC 9298 section 5).
pub const LONGEST_PAYLOAD: usize = 65_527;

const PREFIX: &str = "/.well-known/masque/udp/";
/// The capsule that carries a datagram (RFC 9297 section 3.5).
const DATAGRAM: u64 = 0;
/// What follows is the payload of a UDP datagram (RFC 9298 section 4).
const PAYLOAD: u64 = 0;
/// The longest capsule that carries a datagram of any context: its number and the payload.
const LONGEST: u64 = LONGEST_PAYLOAD as u64 + 8;
/// Room, in octets, that is kept for what comes next: a stream may be silent for long.
const KEPT: usize = 1 << 16;

/// The `:path` that asks for UDP to `target`.
#[must_use]
pub fn path(target: SocketAddr) -> String {
    let host = target.ip().to_string().replace(':', "%3A");
    format!("{PREFIX}{host}/{}/", target.port())
}

/// Where a `:path` asks UDP to go. Only an address is taken for a host: whoever opens a tunnel has chosen an endpoint.
///
/// # Errors
/// It is no path of the default template (RFC 9298 section 2), the host is no address, or the port is 0.
pub fn parse_path(path: &str) -> Result<SocketAddr, PathError> {
    let rest = path.strip_prefix(PREFIX).ok_or(PathError)?;
    let rest = rest.strip_suffix('/').ok_or(PathError)?;
    let (host, port) = rest.split_once('/').ok_or(PathError)?;
    let canonical = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse().ok().filter(|_| canonical).ok_or(PathError)?;
    // An address has nothing else to escape, and a bare colon is to be escaped (section 3).
    if host.contains(':') {
        return Err(PathError);
    }
    let host = host.replace("%3A", ":").replace("%3a", ":");
    let ip: IpAddr = host.parse().map_err(|_| PathError)?;
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

/// A path that asks for no UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not {PREFIX}ADDRESS/PORT/")]
pub struct PathError;

/// The capsule of a datagram, or none if the payload is longer than [`LONGEST_PAYLOAD`].
#[must_use]
pub fn encode(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > LONGEST_PAYLOAD {
        return None;
    }
    let mut capsule = Vec::with_capacity(payload.len() + 6);
    capsule.push(DATAGRAM as u8);
    put(&mut capsule, payload.len() as u64 + 1);
    capsule.push(PAYLOAD as u8);
    capsule.extend_from_slice(payload);
    Some(capsule)
}

/// An integer of up to 30 bits in as few octets as it takes (RFC 9000 section 16).
fn put(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x40 => out.push(number as u8),
        0x40..0x4000 => out.extend((number as u16 | 0x4000).to_be_bytes()),
        _ => out.extend((number as u32 | 0x8000_0000).to_be_bytes()),
    }
}

/// An integer and the octets behind it; none while some of it has yet to come.
fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let rest_of_number = number.iter().skip(1);
    let number = rest_of_number.fold(u64::from(first & 0x3f), |sum, octet| {
        sum << 8 | u64::from(*octet)
    });
    Some((number, rest))
}

/// Reads the capsules of a stream, whatever pieces they come in. It holds what was put in and not taken, and of that
/// no more than one capsule once all that can be taken is.
#[derive(Default)]
pub struct Capsules {
    held: Vec<u8>,
    /// Where in `held` the next capsule begins.
    at: usize,
    /// Octets that have yet to come of a capsule of another kind.
    skip: u64,
}

impl fmt::Debug for Capsules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capsules")
            .field("held", &self.rest().len())
            .field("skip", &self.skip)
            .finish()
    }
}

/// A stream of capsules that cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// A datagram is longer than UDP has them.
    #[error("a capsule has a datagram of {0} octets, which UDP has not")]
    TooLong(u64),
    /// There is not even the number of what it is about.
    #[error("a capsule has a datagram without a context")]
    NoContext,
    /// The stream ends inside of a capsule.
    #[error("the stream ends inside of a capsule")]
    CutOff,
}

impl Capsules {
    /// Takes what has come of the stream.
    pub fn put(&mut self, bytes: &[u8]) {
        self.drop_taken();
        self.held.extend_from_slice(bytes);
    }

    /// The payload of the next datagram; none while it has yet to come. What else there is, is passed over: capsules of
    /// other kinds, and datagrams of contexts that nobody has agreed upon.
    ///
    /// # Errors
    /// The stream cannot be followed any further.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, CapsuleError> {
        let taken = self.next();
        if matches!(taken, Ok(None)) && self.held.capacity() > KEPT {
            self.drop_taken();
            self.held.shrink_to(KEPT);
        }
        taken
    }

    fn drop_taken(&mut self) {
        self.held.drain(..self.at);
        self.at = 0;
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, CapsuleError> {
        loop {
            let here = u64::try_from(self.rest().len()).unwrap_or(u64::MAX);
            let passed = self.skip.min(here);
            self.skip -= passed;
            // At most what is held.
            self.at += passed as usize;
            let Some((kind, rest)) = integer(self.rest()) else {
                return Ok(None);
            };
            let Some((length, rest)) = integer(rest) else {
                return Ok(None);
            };
            let begins = self.held.len() - rest.len();
            if kind != DATAGRAM {
                self.at = begins;
                self.skip = length;
                continue;
            }
            if length > LONGEST {
                return Err(CapsuleError::TooLong(length));
            }
            // It is short.
            let Some(value) = rest.get(..length as usize) else {
                return Ok(None);
            };
            let (context, payload) = integer(value).ok_or(CapsuleError::NoContext)?;
            if context == PAYLOAD && payload.len() > LONGEST_PAYLOAD {
                return Err(CapsuleError::TooLong(length));
            }
            let payload = (context == PAYLOAD).then(|| payload.to_vec());
            self.at = begins + length as usize;
            if payload.is_some() {
                return Ok(payload);
            }
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// Inside of a capsule (RFC 9297 section 3.3).
    pub fn end(&self) -> Result<(), CapsuleError> {
        if self.skip == 0 && self.rest().is_empty() {
            Ok(())
        } else {
            Err(CapsuleError::CutOff)
        }
    }

    fn rest(&self) -> &[u8] {
        &self.held[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_an_address_and_a_port() {
        for (target, text) in [
            ("10.0.0.1:53", "/.well-known/masque/udp/10.0.0.1/53/"),
            (
                "[fd00::1]:65535",
                "/.well-known/masque/udp/fd00%3A%3A1/65535/",
            ),
        ] {
            let target: SocketAddr = target.parse().expect("an address");
            assert_eq!(path(target), text);
            assert_eq!(parse_path(text), Ok(target));
        }
        let lower = "/.well-known/masque/udp/%3a%3affff%3a10.0.0.1/53/";
        let v4 = "10.0.0.1:53".parse().expect("an address");
        assert_eq!(parse_path(lower), Ok(v4), "the one that it is");
        for rest in [
            "",
            "10.0.0.1/53",
            "10.0.0.1/0/",
            "10.0.0.1/053/",
            "10.0.0.1/+53/",
            "10.0.0.1/65536/",
            "10.0.0.1//",
            "10.0.0.1/53/x/",
            "10.0.0.1/53/?a",
            "/53/",
            "fd00::1/53/",
            "[fd00%3A%3A1]/53/",
            "fe80%3A%3A1%25eth0/53/",
            "10.0.0%2E1/53/",
            "web.shop/53/",
            "*/53/",
        ] {
            let text = format!("{PREFIX}{rest}");
            assert_eq!(parse_path(&text), Err(PathError), "{text}");
        }
        assert_eq!(parse_path("/10.0.0.1/53/"), Err(PathError));
    }

    /// All that can be taken of a stream.
    fn taken(stream: &[u8]) -> Result<Vec<Vec<u8>>, CapsuleError> {
        let mut capsules = Capsules::default();
        capsules.put(stream);
        let mut found = Vec::new();
        while let Some(payload) = capsules.take()? {
            found.push(payload);
        }
        capsules.end().map(|()| found)
    }

    #[test]
    fn datagrams_are_capsules() {
        assert_eq!(encode(b"").as_deref(), Some(&[0, 1, 0][..]));
        assert_eq!(encode(b"hi").as_deref(), Some(&[0, 3, 0, b'h', b'i'][..]));
        let longest = encode(&[7; LONGEST_PAYLOAD]).expect("it fits");
        assert_eq!(longest[..6], [0, 0x80, 0, 0xff, 0xf8, 0]);
        assert_eq!(taken(&longest), Ok(vec![vec![7; LONGEST_PAYLOAD]]));
        assert_eq!(encode(&[7; LONGEST_PAYLOAD + 1]), None);
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        // A kind of 4 octets with 2 octets, a datagram of context 2, one of none at all in long integers, and an empty one.
        let stream = [
            &[0x80, 0, 1, 0, 2, 9, 9][..],
            &[0, 3, 2, b'n', b'o'],
            &[0x40, 0, 0x40, 3, 0x40, 0, b'x'],
            &[0, 1, 0],
        ];
        assert_eq!(taken(&stream.concat()), Ok(vec![b"x".to_vec(), Vec::new()]));
        let mut capsules = Capsules::default();
        // Larger than anybody would hold.
        capsules.put(&[0x3f, 0xc0, 0, 0, 1, 0, 0, 0, 0]);
        for _ in 0..64 {
            capsules.put(&[1; 1 << 20]);
            assert_eq!(capsules.take(), Ok(None));
            assert!(capsules.rest().is_empty(), "{capsules:?}");
            assert!(
                capsules.held.capacity() <= KEPT,
                "it keeps no room for more"
            );
        }
        assert_eq!(capsules.end(), Err(CapsuleError::CutOff));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut long = vec![0, 0x80, 0, 0xff, 0xf9, 0];
        long.resize(6 + LONGEST_PAYLOAD + 1, 0);
        assert_eq!(taken(&long), Err(CapsuleError::TooLong(65_529)));
        let said = [0, 0x80, 1, 0, 0];
        assert_eq!(taken(&said), Err(CapsuleError::TooLong(65_536)), "at once");
        assert_eq!(taken(&[0, 0]), Err(CapsuleError::NoContext));
        assert_eq!(taken(&[0, 1, 0x40]), Err(CapsuleError::NoContext));
        for cut in [&[0][..], &[0, 2, 0], &[1, 1], &[0x40]] {
            assert_eq!(taken(cut), Err(CapsuleError::CutOff), "{cut:?}");
        }
    }

    #[test]
    fn room_for_a_large_piece_is_given_back() {
        let one = encode(&[7; 1_000]).expect("it fits");
        let mut piece = one.repeat(1_000);
        piece.extend(&one[..500]);
        let mut capsules = Capsules::default();
        capsules.put(&piece);
        let mut found = 0;
        while capsules.take().expect("well-formed").is_some() {
            found += 1;
        }
        assert_eq!((found, capsules.rest().len()), (1_000, 500));
        assert!(capsules.held.capacity() <= KEPT);
        capsules.put(&one[500..]);
        assert_eq!(capsules.take(), Ok(Some(vec![7; 1_000])));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            size in 1_usize..40,
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|it| encode(it).expect("short")).collect();
            let mut capsules = Capsules::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                capsules.put(piece);
                while let Some(payload) = capsules.take().expect("well-formed") {
                    found.push(payload);
                }
            }
            prop_assert_eq!(capsules.end(), Ok(()));
            prop_assert_eq!(found, payloads);
        }

        #[test]
        fn a_path_reads_as_what_it_was_written_for(ip: IpAddr, port in 1_u16..) {
            let target = SocketAddr::new(ip.to_canonical(), port);
            prop_assert_eq!(parse_path(&path(target)), Ok(target));
        }
    }
}
