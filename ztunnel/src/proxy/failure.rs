//! Why a connection ended badly: at which stage, on whose side, and what to do about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use ambit_core::plan::{Refusal, ResponseFlag};
use ambit_net::ca::CaError;
use ambit_net::hbone::{self, Stage, server};
use ambit_net::relay;
use http::StatusCode;

/// Why a connection ended badly.
#[derive(Debug)]
pub enum Failure {
    /// Local: it may not or cannot go anywhere.
    Refused(Refusal),
    /// Local: it ran, and may not any longer.
    Closed(Refusal),
    /// Local: there is no certificate to show.
    Identity(Box<CaError>),
    /// Local: the pod has as many connections or questions of a kind as it may have.
    Limit {
        /// How many.
        limit: u32,
        /// The variable that says so.
        variable: &'static str,
    },
    /// Local: the process or the pod is ending.
    Cut,
    /// Downstream: the client cannot be served, because of its socket.
    Accept(io::Error),
    /// Downstream: no mutual TLS with the client.
    Handshake(io::Error),
    /// Downstream: no HTTP/2 with the client, or it broke.
    Http2(server::Error),
    /// Upstream: TCP to where the plan leads.
    Dial {
        /// Where.
        target: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Upstream: no tunnel.
    Tunnel(hbone::Error),
    /// Either side, while bytes flowed.
    Relay(relay::Error),
}

impl Failure {
    /// What metrics and logs say. A connection that was established and broke later is no failure
    /// to establish one, so it has none.
    #[must_use]
    pub fn flag(&self) -> ResponseFlag {
        match self {
            Self::Refused(refusal) | Self::Closed(refusal) => refusal.flag,
            Self::Identity(_) => ResponseFlag::IdentityError,
            Self::Limit { .. } | Self::Accept(_) | Self::Dial { .. } => ResponseFlag::Connect,
            Self::Handshake(_) => ResponseFlag::TlsFailure,
            Self::Http2(_) => ResponseFlag::H2HandshakeFailure,
            Self::Tunnel(error) | Self::Relay(relay::Error::Tunnel(error)) => tunnel_flag(error),
            Self::Cut | Self::Relay(_) => ResponseFlag::None,
        }
    }

    /// What a CONNECT is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let status = match self {
            Self::Refused(refusal) | Self::Closed(refusal) => refusal.status,
            _ => 503,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Whether another endpoint may be tried: this one has seen nothing of the connection.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Tunnel(error) => error.nothing_sent(),
            Self::Dial { .. } => true,
            _ => false,
        }
    }
}

fn tunnel_flag(error: &hbone::Error) -> ResponseFlag {
    match error.stage() {
        // Nobody answers where a node proxy should listen: most often a NetworkPolicy.
        Stage::Connect if error.timed_out() => ResponseFlag::NetworkPolicy,
        Stage::Tls => ResponseFlag::TlsFailure,
        Stage::Http2 => ResponseFlag::H2HandshakeFailure,
        Stage::Refused(401) => ResponseFlag::Deny,
        Stage::Connect | Stage::Open | Stage::Response | Stage::Refused(_) => ResponseFlag::Connect,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Closed(refusal) => write!(f, "closed: {refusal}"),
            Self::Identity(error) => error.fmt(f),
            Self::Limit { limit, variable } => write!(
                f,
                "the pod has {limit} open, which is its limit ({variable})"
            ),
            Self::Cut => f.write_str("cut: the proxy or the pod is ending"),
            Self::Accept(error) => write!(f, "downstream: {error}"),
            Self::Handshake(error) => write!(f, "downstream: TLS handshake: {error}"),
            Self::Http2(error) => write!(f, "downstream: HTTP/2: {error}"),
            Self::Dial { target, error } => write!(f, "upstream: connect to {target}: {error}"),
            Self::Tunnel(error) | Self::Relay(relay::Error::Tunnel(error)) => {
                write!(f, "upstream: {error}")?;
                if tunnel_flag(error) == ResponseFlag::NetworkPolicy {
                    f.write_str(" (is port 15008 blocked by a NetworkPolicy?)")?;
                }
                Ok(())
            }
            Self::Relay(error @ relay::Error::HalfClosed(_)) => {
                write!(f, "{error} (AMBIT_HALF_CLOSED_TIMEOUT)")
            }
            Self::Relay(error) => error.fmt(f),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        Self::Identity(error.into())
    }
}

impl From<hbone::Error> for Failure {
    fn from(error: hbone::Error) -> Self {
        Self::Tunnel(error)
    }
}

impl From<relay::Error> for Failure {
    fn from(error: relay::Error) -> Self {
        Self::Relay(error)
    }
}
