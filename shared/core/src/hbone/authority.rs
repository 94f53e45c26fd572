//! The `:authority` of a CONNECT: where the tunnel leads.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// The longest DNS name.
const MAX_HOST: usize = 253;

/// Where a tunnel leads; the port is not 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `10.0.0.1:80`, `[fd00::1]:80`.
    Addr(SocketAddr),
    /// `name.ns.svc.cluster.local:80`, lower case.
    Host(Arc<str>, u16),
}

impl Authority {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Host(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for Authority {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(addr)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::Malformed)?;
        let port = parse_port(port)?;
        let authority = match host.strip_prefix('[') {
            Some(host) => {
                let ip = host.strip_suffix(']').ok_or(AuthorityError::Malformed)?;
                let ip: Ipv6Addr = ip.parse().map_err(|_| AuthorityError::Malformed)?;
                Self::Addr(SocketAddr::new(IpAddr::V6(ip).to_canonical(), port))
            }
            None => match host.parse::<std::net::Ipv4Addr>() {
                Ok(ip) => Self::Addr(SocketAddr::new(ip.into(), port)),
                Err(_) => Self::Host(parse_host(host)?, port),
            },
        };
        if port == 0 {
            return Err(AuthorityError::PortZero);
        }
        Ok(authority)
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(AuthorityError::Malformed);
    }
    text.parse().map_err(|_| AuthorityError::Malformed)
}

fn parse_host(text: &str) -> Result<Arc<str>, AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::NoHost);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    // A last label of digits only is a mistyped IPv4 address, never a name.
    let last = text.trim_end_matches('.').rsplit('.').next();
    let numeric = last.is_none_or(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if text.len() > MAX_HOST || numeric || !text.bytes().all(allowed) {
        return Err(AuthorityError::Malformed);
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase().into())
}

/// Why a text is not an authority to tunnel to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Neither `ip:port` nor `host:port`.
    #[error("the authority of a CONNECT reads IP:PORT or HOST:PORT")]
    Malformed,
    /// `:80`.
    #[error("the authority of the CONNECT names no host")]
    NoHost,
    /// `host:0`.
    #[error("the authority of the CONNECT has port 0")]
    PortZero,
}
