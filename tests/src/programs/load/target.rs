//! Where to connect: addresses and URLs from the command line, and their resolution.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use tokio::net::TcpStream;

use super::failure::{Failure, Stage};
use super::options::Family;

/// HOST:PORT, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(refused());
        }
        let port = port.parse().map_err(|_| refused())?;
        Ok(Self {
            host: bare.unwrap_or(host).to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A plain-text HTTP URL.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    uri: Uri,
    address: Address,
}

impl FromStr for HttpTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme
            .parse()
            .map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("{text:?}: only http:// is spoken here"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("{text:?} names no host"))?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80)).parse()?;
        Ok(Self { uri, address })
    }
}

impl HttpTarget {
    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where to connect.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// HOST[:PORT] as the URL has it.
    pub fn authority(&self) -> &str {
        self.uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default()
    }

    /// Path and query; at least a slash.
    pub fn path_and_query(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }
}

/// The addresses of a target, resolved once for the whole run.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    addresses: Vec<SocketAddr>,
    timeout: Duration,
}

/// Resolves a target with the system's resolver, before any measurement.
pub(super) fn resolve(
    address: &Address,
    family: Family,
    timeout: Duration,
) -> io::Result<Resolved> {
    use std::net::ToSocketAddrs as _;
    let addresses: Vec<SocketAddr> = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot resolve {}: {error}", address.host),
            )
        })?
        .filter(|address| !(family.ipv4 && address.is_ipv6() || family.ipv6 && address.is_ipv4()))
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no address of the wanted family", address.host),
        ));
    }
    Ok(Resolved { addresses, timeout })
}

impl Resolved {
    /// The addresses in the order in which they are tried.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Opens a connection; the first address that answers is used.
    pub(super) async fn connect(&self) -> Result<TcpStream, Failure> {
        let connecting = TcpStream::connect(self.addresses.as_slice());
        let stream = match tokio::time::timeout(self.timeout, connecting).await {
            Ok(result) => result.map_err(|error| Failure::io(Stage::Connect, &error))?,
            Err(_) => return Err(Failure::timeout(Stage::Connect)),
        };
        stream
            .set_nodelay(true)
            .map_err(|error| Failure::io(Stage::Connect, &error))?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("echo:80", Some("echo:80")),
            ("10.0.0.1:8080", Some("10.0.0.1:8080")),
            ("[fd00::1]:8080", Some("[fd00::1]:8080")),
            ("fd00::1:8080", None),
            ("echo", None),
            (":80", None),
            ("echo:http", None),
        ] {
            let got = text
                .parse::<Address>()
                .ok()
                .map(|address| address.to_string());
            assert_eq!(got.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn urls() {
        for (text, expected) in [
            ("http://echo", Some(("echo:80", "/"))),
            ("echo:8080/a?b=c", Some(("echo:8080", "/a?b=c"))),
            ("http://[fd00::1]:81/", Some(("[fd00::1]:81", "/"))),
            ("https://echo", None),
            ("http:///path", None),
        ] {
            let got = text.parse::<HttpTarget>().ok();
            let got = got.map(|target| {
                (
                    target.address().to_string(),
                    target.path_and_query().to_owned(),
                )
            });
            let expected = expected.map(|(address, path)| (address.to_owned(), path.to_owned()));
            assert_eq!(got, expected, "{text}");
        }
    }
}
