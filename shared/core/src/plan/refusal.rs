//! A pure "no": one status, one response flag, one reason a person can act on.

use std::fmt;

use serde::Serialize;

/// Why a connection does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The HTTP status that a CONNECT is answered with.
    pub status: u16,
    /// For metrics and logs.
    pub flag: ResponseFlag,
    /// What happened to whom, and what to do.
    pub reason: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(status: u16, flag: ResponseFlag, reason: impl Into<String>) -> Self {
        Self {
            status,
            flag,
            reason: reason.into(),
        }
    }

    /// The request itself is wrong: status 400.
    #[must_use]
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(400, ResponseFlag::Connect, reason)
    }

    /// There is nothing to connect to: status 503.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::new(503, ResponseFlag::Connect, reason)
    }

    /// Policy forbids it: status 401.
    #[must_use]
    pub fn denied(reason: impl Into<String>) -> Self {
        Self::new(401, ResponseFlag::Deny, reason)
    }

    /// A tunnel was asked for with another method than CONNECT.
    #[must_use]
    pub fn method(method: &str) -> Self {
        let shown: String = method.chars().take(32).collect();
        Self::bad_request(format!("an HBONE tunnel is opened by CONNECT, not {shown}"))
    }

    /// The control plane has not described the local pod (yet).
    #[must_use]
    pub fn unknown_workload(name: &str) -> Self {
        Self::unavailable(format!(
            "workload {name} is not known; check the control plane connection"
        ))
    }
}

/// The reference's response flags, as dashboards expect them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum ResponseFlag {
    /// `-`: nothing went wrong.
    #[default]
    #[serde(rename = "-")]
    None,
    /// `DENY`: a policy refused.
    #[serde(rename = "DENY")]
    Deny,
    /// `CONNECT`: the upstream could not be reached.
    #[serde(rename = "CONNECT")]
    Connect,
    /// `TLS_FAILURE`: the TLS handshake failed.
    #[serde(rename = "TLS_FAILURE")]
    TlsFailure,
    /// `H2_HANDSHAKE_FAILURE`: HTTP/2 did not come up.
    #[serde(rename = "H2_HANDSHAKE_FAILURE")]
    H2HandshakeFailure,
    /// `NETWORK_POLICY`: probably a NetworkPolicy blocks port 15008.
    #[serde(rename = "NETWORK_POLICY")]
    NetworkPolicy,
    /// `IDENTITY_ERROR`: no certificate to show.
    #[serde(rename = "IDENTITY_ERROR")]
    IdentityError,
}

impl ResponseFlag {
    /// The text of metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
        }
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
