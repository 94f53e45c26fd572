//! PROXY protocol version 2, as the last hop's application tunnel: addresses and, in TLV 0xD0,
//! the caller's SPIFFE id.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::identity::Identity;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_AND_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const SPIFFE_ID: u8 = 0xd0;
/// Longer headers than this are refused.
const MAX_PAYLOAD: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The client.
    pub source: SocketAddr,
    /// What it asked for.
    pub destination: SocketAddr,
    /// Its identity.
    pub identity: Option<Identity>,
}

impl Header {
    /// The bytes that precede the application's.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(96);
        let source = self.source.ip().to_canonical();
        let destination = self.destination.ip().to_canonical();
        let family = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                payload.extend(source.octets());
                payload.extend(destination.octets());
                TCP4
            }
            _ => {
                payload.extend(as_v6(source).octets());
                payload.extend(as_v6(destination).octets());
                TCP6
            }
        };
        payload.extend(self.source.port().to_be_bytes());
        payload.extend(self.destination.port().to_be_bytes());
        if let Some(identity) = &self.identity {
            let text = identity.to_string();
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            payload.push(SPIFFE_ID);
            payload.extend(length.to_be_bytes());
            payload.extend(&text.as_bytes()[..usize::from(length)]);
        }
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(16 + payload.len());
        bytes.extend(SIGNATURE);
        bytes.extend([VERSION_AND_PROXY, family]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Reads a header from the front of `bytes`: the header and its length, or `None` when more
    /// bytes are needed.
    ///
    /// # Errors
    /// What makes it no header of ours.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let known = bytes.len().min(SIGNATURE.len());
        if bytes[..known] != SIGNATURE[..known] {
            return Err(HeaderError::Signature);
        }
        let Some((front, rest)) = bytes.split_at_checked(16) else {
            return Ok(None);
        };
        if front[12] != VERSION_AND_PROXY {
            return Err(HeaderError::Command(front[12]));
        }
        let length = usize::from(u16::from_be_bytes([front[14], front[15]]));
        if length > MAX_PAYLOAD {
            return Err(HeaderError::TooLong(length));
        }
        let Some((payload, _)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        let (source, destination, tlvs) = match front[13] {
            TCP4 => addresses::<4>(payload, |ip| Ipv4Addr::from(ip).into())?,
            TCP6 => addresses::<16>(payload, |ip| Ipv6Addr::from(ip).to_canonical())?,
            other => return Err(HeaderError::Family(other)),
        };
        let header = Self {
            source,
            destination,
            identity: identity(tlvs)?,
        };
        Ok(Some((header, 16 + length)))
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

type Addresses<'a> = (SocketAddr, SocketAddr, &'a [u8]);

fn addresses<const N: usize>(
    payload: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Result<Addresses<'_>, HeaderError> {
    let (source, rest) = payload.split_first_chunk::<N>().ok_or(HeaderError::Short)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(HeaderError::Short)?;
    let (ports, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
    Ok((
        SocketAddr::new(ip(*source), u16::from_be_bytes([ports[0], ports[1]])),
        SocketAddr::new(ip(*destination), u16::from_be_bytes([ports[2], ports[3]])),
        rest,
    ))
}

fn identity(mut tlvs: &[u8]) -> Result<Option<Identity>, HeaderError> {
    let mut found = None;
    while !tlvs.is_empty() {
        let (front, rest) = tlvs.split_first_chunk::<3>().ok_or(HeaderError::Short)?;
        let length = usize::from(u16::from_be_bytes([front[1], front[2]]));
        let (value, rest) = rest.split_at_checked(length).ok_or(HeaderError::Short)?;
        if front[0] == SPIFFE_ID {
            let text = std::str::from_utf8(value).map_err(|_| HeaderError::Identity)?;
            found = Some(text.parse().map_err(|_| HeaderError::Identity)?);
        }
        tlvs = rest;
    }
    Ok(found)
}

/// Why bytes are not a PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Something else.
    #[error("not a PROXY protocol version 2 header")]
    Signature,
    /// Another version or command.
    #[error("PROXY protocol version and command {0:#04x} are not supported")]
    Command(u8),
    /// Another address family or transport.
    #[error("PROXY protocol address family {0:#04x} is not TCP over IPv4 or IPv6")]
    Family(u8),
    /// Longer than we read.
    #[error("PROXY protocol header of {0} bytes is too long")]
    TooLong(usize),
    /// A length that does not add up.
    #[error("PROXY protocol header ends early")]
    Short,
    /// TLV 0xD0 is not a SPIFFE id of the mesh.
    #[error("PROXY protocol TLV 0xD0 is not a SPIFFE id")]
    Identity,
}
