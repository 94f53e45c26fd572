//! Why a tunnel could not be opened: where it failed and whose side it was.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A failed attempt to open a tunnel. Cheap to clone: all who waited for one connection get it.
#[derive(Clone)]
pub struct Error {
    stage: Stage,
    /// The connection had carried streams before.
    reused: bool,
    /// It was the tunnel to or through this gateway that could not be had.
    gateway: Option<SocketAddr>,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TCP to the peer.
    Connect,
    /// The TLS handshake, certificates included.
    Tls,
    /// The HTTP/2 handshake.
    Http2,
    /// Opening the stream; nothing of it was processed by the peer.
    Open,
    /// Waiting for the response.
    Response,
    /// The peer answered with this status instead of 200.
    Refused(u16),
}

impl Error {
    pub(super) fn new(
        stage: Stage,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            stage,
            reused: false,
            gateway: None,
            source: Arc::from(source.into()),
        }
    }

    pub(super) fn on_reused(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }

    /// The same, of the tunnel that `gateway` was asked for.
    pub(super) fn at_gateway(self, gateway: SocketAddr) -> Self {
        Self {
            gateway: Some(gateway),
            ..self
        }
    }

    /// What a tunnel says of its end, as it was said there.
    pub(super) fn in_tunnel(error: std::io::Error) -> Self {
        let inner = error.get_ref().and_then(|it| it.downcast_ref::<Self>());
        match inner.cloned() {
            Some(inner) => inner,
            None => Self::new(Stage::Response, error),
        }
    }

    /// The gateway to another network that the tunnel failed at, if it did not fail behind it.
    #[must_use]
    pub fn gateway(&self) -> Option<SocketAddr> {
        self.gateway
    }

    /// Whether it was that gateway's fault, and not what it said of the peer: that it does not lead there (404), or that the peer
    /// takes no connection (503).
    #[must_use]
    pub fn is_gateways_own(&self) -> bool {
        self.gateway.is_some() && !matches!(self.stage, Stage::Refused(404 | 503))
    }

    /// How far it came.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the application on the other side cannot have seen anything of what was sent.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.stage != Stage::Response || self.gateway.is_some()
    }

    /// Whether the connection had carried streams before: it may have been going away.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether another endpoint may be tried: the peer has seen nothing of the stream.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        let early = matches!(
            self.stage,
            Stage::Connect | Stage::Tls | Stage::Http2 | Stage::Open
        );
        early || self.gateway.is_some()
    }
}

impl Error {
    /// Whether the peer did not answer in time, as when a packet filter drops what we send.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        let source: &(dyn std::error::Error + 'static) = &*self.source;
        source.is::<TimedOut>()
            || source
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reused = if self.reused {
            " (reused connection)"
        } else {
            ""
        };
        if let Some(gateway) = self.gateway {
            write!(f, "gateway {gateway}: ")?;
        }
        match self.stage {
            Stage::Refused(status) => write!(f, "the peer answered {status}{reused}"),
            stage => write!(f, "{stage} failed{reused}: {}", self.source),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connecting"),
            Self::Tls => f.write_str("the TLS handshake"),
            Self::Http2 => f.write_str("the HTTP/2 handshake"),
            Self::Open => f.write_str("opening the stream"),
            Self::Response => f.write_str("waiting for the response"),
            Self::Refused(status) => write!(f, "the request ({status})"),
        }
    }
}

/// The source of [`Stage::Refused`].
#[derive(Debug, thiserror::Error)]
#[error("status {0}")]
pub(super) struct Status(pub(super) u16);

/// The source of a handshake or an answer that took too long.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct TimedOut(pub(super) std::time::Duration);
