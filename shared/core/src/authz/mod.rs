//! L4 authorization: may this connection reach this workload, and which rule says so.
//!
//! Semantics are those of Istio's ambient API: DENY first; without any ALLOW policy everything
//! else is allowed; otherwise one ALLOW policy must match. Whatever is not understood denies.

mod evaluate;
mod matcher;
mod reason;
#[cfg(test)]
mod tests;

pub use evaluate::{authorize, authorize_all};
pub use matcher::{matches, matching_rule};
pub use reason::{CONVERTED, DryRunHit, Reason, STATIC_STRICT, Verdict};

use std::net::{IpAddr, SocketAddr};

use crate::identity::Identity;

/// What is known of a connection. The identity comes from a verified certificate, or from the
/// kernel for pods of the same node; never from a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Who calls; `None` for plaintext.
    pub source: Option<&'a Identity>,
    /// From where.
    pub source_ip: IpAddr,
    /// The workload's address and port.
    pub destination: SocketAddr,
}
