//! The address of a control-plane endpoint, as operators write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use rustls_pki_types::ServerName;

/// `https://HOST:PORT`, `HOST:PORT` (the same), or `http://LOOPBACK:PORT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    uri: Uri,
    port: u16,
    server_name: Option<ServerName<'static>>,
}

impl Address {
    /// Verifies the server by this name instead of by the host of the address.
    ///
    /// # Errors
    /// The name is no DNS name and no IP address, or the address is plain HTTP.
    pub fn with_server_name(self, name: &str) -> Result<Self, AddressError> {
        if self.0.server_name.is_none() {
            return Err(AddressError::PlainServerName);
        }
        Ok(Self(Arc::new(Parts {
            uri: self.0.uri.clone(),
            port: self.0.port,
            server_name: Some(server_name(name)?),
        })))
    }

    /// The origin: scheme, host and port.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// Host (an IPv6 address without its brackets) and port, as sockets want them.
    pub(crate) fn place(&self) -> (&str, u16) {
        let host = self.0.uri.host().unwrap_or_default();
        (bare(host), self.0.port)
    }

    /// Whether who answers there is verified with root certificates.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.0.server_name.is_some()
    }

    /// Whose certificate is expected; None for plain HTTP.
    pub(crate) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.0.server_name.as_ref()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let uri: Uri = full.parse().map_err(|_| AddressError::Shape)?;
        let port = uri.port_u16().filter(|port| *port != 0);
        let port = port.ok_or(AddressError::Shape)?;
        if !matches!(uri.path(), "" | "/") {
            return Err(AddressError::Shape);
        }
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(AddressError::Shape);
        }
        let host = uri.host().ok_or(AddressError::Shape)?;
        let server_name = match uri.scheme_str() {
            Some("https") => Some(server_name(host)?),
            Some("http") if is_loopback(host) => None,
            Some("http") => return Err(AddressError::PlainBeyondLoopback),
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self(Arc::new(Parts {
            uri,
            port,
            server_name,
        })))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            self.0.uri.scheme_str().unwrap_or_default(),
            self.0.uri.authority().map_or("", |a| a.as_str())
        )
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not the address of a control-plane endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No host, no port, or more than that.
    #[error("write it as https://HOST:PORT")]
    Shape,
    /// Neither https nor http.
    #[error("the scheme is https (or http for a server on loopback)")]
    Scheme,
    /// Plain HTTP to another machine.
    #[error("http:// is for loopback only, because the token would travel in clear; use https://")]
    PlainBeyondLoopback,
    /// The host can not be in a certificate.
    #[error("the host is neither a DNS name nor an IP address")]
    Host,
    /// A server name for a server that shows no certificate.
    #[error("a server name has no meaning for an http:// address")]
    PlainServerName,
}

fn server_name(host: &str) -> Result<ServerName<'static>, AddressError> {
    ServerName::try_from(bare(host).to_owned()).map_err(|_| AddressError::Host)
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    let bare = bare(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_operators_write() {
        let cases = [
            (
                "https://ambit.ambit-system.svc:15012",
                "https://ambit.ambit-system.svc:15012",
            ),
            (
                "ambit.ambit-system.svc:15012",
                "https://ambit.ambit-system.svc:15012",
            ),
            (" https://10.0.0.1:15012/ ", "https://10.0.0.1:15012"),
            ("https://[fd00::1]:15012", "https://[fd00::1]:15012"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("http://localhost:80", "http://localhost:80"),
        ];
        for (text, shown) in cases {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(
                address.server_name().is_some(),
                shown.starts_with("https"),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        use AddressError as E;
        let cases = [
            ("", E::Shape),
            ("https://ambit", E::Shape),
            ("https://ambit:0", E::Shape),
            ("https://ambit:99999", E::Shape),
            ("https://ambit:1/path", E::Shape),
            ("https://ambit:1?query", E::Shape),
            ("https://user@ambit:1", E::Shape),
            ("unix://ambit:1", E::Scheme),
            ("http://ambit:1", E::PlainBeyondLoopback),
            ("http://127.0.0.1.example.com:1", E::PlainBeyondLoopback),
            ("https://under_score-:1", E::Host),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }
}
