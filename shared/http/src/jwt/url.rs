//! Which addresses and URLs key sets may be fetched from.
//!
//! Whoever may write a `RequestAuthentication` names a URL that the proxy calls from inside the cluster, so
//! what only the proxy itself or the cloud's machines should reach is refused: loopback, link-local (and with
//! it the metadata services), unspecified, multicast. The name in a URL is checked before it is resolved, and every
//! address it resolves to before it is dialled; redirects are not followed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a key set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// `https`.
    pub tls: bool,
    /// A name in lower case, or an address (without brackets).
    pub host: String,
    #[allow(missing_docs)]
    pub port: u16,
    /// With the query; begins with `/`.
    pub path: String,
}

/// Why keys are not fetched from somewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not `http://` or `https://` with a host.
    #[error("{0:?} is not a URL of the form https://HOST[:PORT]/PATH")]
    Shape(String),
    /// A name that means this machine or a metadata service.
    #[error("keys are not fetched from {0}: it means this machine or a metadata service")]
    Host(String),
    /// An address that only this machine or its link reaches.
    #[error("keys are not fetched from {0}: {1}")]
    Address(IpAddr, &'static str),
}

impl JwksUrl {
    /// Checks a URL of the configuration.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let shape = || UrlError::Shape(url.into());
        let uri: http::Uri = url.parse().map_err(|_| shape())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(shape()),
        };
        let authority = uri.authority().ok_or_else(shape)?;
        if authority.as_str().contains('@') || url.contains('#') {
            return Err(shape());
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| shape())?,
            None if authority.as_str() != authority.host() => return Err(shape()),
            None if tls => 443,
            None => 80,
        };
        if port == 0 {
            return Err(shape());
        }
        let host = host(authority.host()).ok_or_else(shape)?;
        match host.parse::<IpAddr>() {
            Ok(address) => check_address(address)?,
            Err(_) => check_name(&host, url)?,
        }
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        // `https://HOST?QUERY` has none.
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            tls,
            host,
            port,
            path,
        })
    }
}

fn host(host: &str) -> Option<String> {
    let bare = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None => host.strip_suffix('.').unwrap_or(host),
    };
    (!bare.is_empty() && bare.is_ascii()).then(|| bare.to_ascii_lowercase())
}

fn check_name(host: &str, url: &str) -> Result<(), UrlError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !host.bytes().all(allowed) {
        return Err(UrlError::Shape(url.into()));
    }
    // `127.1`, `0x7f000001` and the like: resolvers read them as addresses.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.is_empty() || last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err(UrlError::Shape(url.into()));
    }
    let local = host == "localhost" || host.ends_with(".localhost");
    let metadata = matches!(
        host,
        "metadata" | "metadata.google.internal" | "instance-data"
    );
    if local || metadata {
        return Err(UrlError::Host(host.into()));
    }
    Ok(())
}

/// Whether keys may be fetched from this address. Call it for what a name resolved to.
///
/// # Errors
/// [`UrlError::Address`].
pub fn check_address(address: IpAddr) -> Result<(), UrlError> {
    let reason = match address {
        IpAddr::V4(v4) => wrong_v4(v4),
        IpAddr::V6(v6) => wrong_v6(v6).or_else(|| embedded(v6).and_then(wrong_v4)),
    };
    reason.map_or(Ok(()), |reason| Err(UrlError::Address(address, reason)))
}

/// Metadata services outside of 169.254.0.0/16: Alibaba's and Oracle's.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// AWS's.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn wrong_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("it is a loopback address")
    } else if address.octets()[0] == 0 {
        Some("it is unspecified")
    } else if address.is_link_local() {
        Some("it is link-local")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("it is a multicast address")
    } else if METADATA_V4.contains(&address) {
        Some("it is a metadata service")
    } else {
        None
    }
}

fn wrong_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("it is a loopback address")
    } else if address.is_unspecified() {
        Some("it is unspecified")
    } else if address.is_unicast_link_local() {
        Some("it is link-local")
    } else if address.is_multicast() {
        Some("it is a multicast address")
    } else if address == METADATA_V6 {
        Some("it is a metadata service")
    } else {
        None
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped and compatible (RFC 4291), NAT64 (RFC 6052),
/// 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}
