//! How an attempt ended.

use http::HeaderMap;

use crate::refusal::{Flag, Refusal};

/// How an attempt ended, as far as another one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No connection: refused, unreachable, TLS or the tunnel's CONNECT failed.
    NotConnected,
    /// The backend did not act on it, and says so or cannot have: REFUSED_STREAM, a stream above
    /// the GOAWAY's last, a kept connection that was gone before the request was written.
    Unsent,
    /// The connection or stream was reset after the request was sent, before a response.
    Lost,
    /// What came was no response.
    Malformed,
    /// The attempt's deadline has passed before a response.
    TimedOut,
    /// A response's head. `grpc` is its `grpc-status`, which a response without a body carries in
    /// its head (Trailers-Only).
    Response {
        #[allow(missing_docs)]
        status: u16,
        #[allow(missing_docs)]
        grpc: Option<u8>,
    },
}

impl Outcome {
    /// A response's head.
    #[must_use]
    pub fn response(status: u16, headers: &HeaderMap) -> Self {
        let grpc = headers.get("grpc-status");
        let grpc = grpc.and_then(|it| it.to_str().ok()?.parse().ok());
        Self::Response { status, grpc }
    }

    /// The status that retries and outlier ejection judge: of a gRPC response that failed, the HTTP
    /// status that means the same.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Response {
                status: 200,
                grpc: Some(code),
            } => Some(grpc_as_http(*code)),
            Self::Response { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The backend has certainly not acted on it: what is sent again arrives once.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::NotConnected | Self::Unsent)
    }

    /// The flag it has by itself.
    #[must_use]
    pub fn flag(&self) -> Flag {
        match self {
            Self::NotConnected => Flag::UpstreamConnectionFailure,
            Self::Unsent | Self::Lost => Flag::UpstreamReset,
            Self::Malformed => Flag::UpstreamProtocolError,
            Self::TimedOut => Flag::UpstreamTimeout,
            Self::Response { .. } => Flag::None,
        }
    }

    /// What the client gets when it stands; `None`: the response. `flag` is the verdict's, `reason`
    /// what the connection says. Whatever it was, 503 says that the budget for retries is spent.
    #[must_use]
    pub fn refusal(&self, flag: Flag, reason: &str) -> Option<Refusal> {
        let (status, what) = match self {
            _ if flag == Flag::UpstreamOverflow => (503, "the backend's retry budget is spent"),
            Self::NotConnected => (503, "the backend cannot be reached"),
            Self::Unsent => (503, "the backend did not take the request"),
            Self::Lost => (503, "the backend ended the connection without a response"),
            Self::Malformed => (502, "the backend's answer is no response"),
            Self::TimedOut => (504, "the backend did not respond in time"),
            Self::Response { .. } => return None,
        };
        let reason = match reason {
            "" => what.to_owned(),
            reason => format!("{what}: {reason}"),
        };
        Some(Refusal::new(status, flag, reason))
    }
}

/// The HTTP status that means about the same as a gRPC status code, so that a route's codes hold
/// for both (the mapping of google.rpc.Code).
#[must_use]
pub fn grpc_as_http(code: u8) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
