//! What policies judge.

use std::net::{IpAddr, SocketAddr};

use ambit_core::identity::Identity;
use http::{HeaderMap, Method};

use crate::jwt::Claims;

/// What is known of a request or a TCP connection. The identity comes from a verified certificate;
/// never from a header.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who calls; `None` for plaintext.
    pub source: Option<&'a Identity>,
    /// The TCP peer that opened the connection to the mesh.
    pub source_ip: IpAddr,
    /// The client after the trusted proxies ([`Received::client_ip`](crate::headers::Received::client_ip));
    /// without any the same as `source_ip`.
    pub remote_ip: IpAddr,
    /// What the caller addressed: the service's address and port, or the workload's.
    pub destination: SocketAddr,
    /// The server name of an inner TLS handshake that passes through.
    pub sni: Option<&'a str>,
    /// `None` for a TCP connection.
    pub request: Option<RequestFacts<'a>>,
}

/// The HTTP half.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// `Host` or `:authority`; case, port and a trailing dot do not count.
    pub host: &'a str,
    #[allow(missing_docs)]
    pub method: &'a Method,
    /// The canonical path without the query: the one that is routed and forwarded.
    pub path: &'a str,
    /// As the policies may see them: after the request was sanitised.
    pub headers: &'a HeaderMap,
    /// Of the verified token; `None` without one.
    pub claims: Option<&'a Claims>,
}
