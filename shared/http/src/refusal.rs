//! A pure "no" to a request: one status, one flag, one reason a person can act on.

use std::fmt;

/// Why a request is answered by the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The HTTP status of the answer; a gRPC request gets the code of [`Refusal::grpc_status`].
    pub status: u16,
    /// For metrics and logs.
    pub flag: Flag,
    /// What happened to whom, and what to do. For the log; the client sees [`Refusal::status`].
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(status: u16, flag: Flag, reason: impl Into<String>) -> Self {
        Self {
            status,
            flag,
            reason: reason.into(),
        }
    }

    /// The gRPC status code for the HTTP status (gRPC's "HTTP to gRPC status code mapping", and
    /// UNIMPLEMENTED for a route that is not there, UNAVAILABLE for a backend that is not).
    #[must_use]
    pub fn grpc_status(&self) -> u8 {
        match self.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 500 | 502 | 503 => 14,
            504 => 4,
            413 | 431 => 8,
            _ => 2,
        }
    }
}

/// Response flags, as Envoy's users know them. Which of them no request of ours has, and why, is in ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub enum Flag {
    /// `-`: nothing went wrong on our side.
    #[default]
    None,
    NoHealthyUpstream,
    UpstreamConnectionFailure,
    UpstreamOverflow,
    NoRouteFound,
    NoClusterFound,
    RetriesExhausted,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamProtocolError,
    LocalReset,
    DownstreamClosed,
    DownstreamProtocolError,
    RateLimited,
    RateLimitServiceError,
    ExternalAuthDenied,
    PolicyDenied,
    InvalidEnvoyHeaders,
    DurationTimeout,
    DelayInjected,
    FaultInjected,
}

impl Flag {
    /// The text of metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamOverflow => "UO",
            Self::NoRouteFound => "NR",
            Self::NoClusterFound => "NC",
            Self::RetriesExhausted => "URX",
            Self::UpstreamReset => "UC",
            Self::UpstreamTimeout => "UT",
            Self::UpstreamProtocolError => "UPE",
            Self::LocalReset => "LR",
            Self::DownstreamClosed => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::RateLimited => "RL",
            Self::RateLimitServiceError => "RLSE",
            Self::ExternalAuthDenied => "UAEX",
            Self::PolicyDenied => "RBAC",
            Self::InvalidEnvoyHeaders => "IH",
            Self::DurationTimeout => "DT",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
