//! Handshakes of peers that came to nothing, by reason.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_net::tls;

use super::Failure;

/// Counts them.
#[derive(Debug, Default)]
pub struct Handshakes {
    limit: AtomicU64,
    timeout: AtomicU64,
    identity: AtomicU64,
    revoked: AtomicU64,
    tls: AtomicU64,
    http2: AtomicU64,
}

impl Handshakes {
    pub(super) fn count(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Limit { .. } => &self.limit,
            Failure::Handshake(error) if error.kind() == io::ErrorKind::TimedOut => &self.timeout,
            Failure::Handshake(error) if tls::is_revoked(error) => &self.revoked,
            Failure::Handshake(_) => &self.tls,
            Failure::Http2(_) => &self.http2,
            // There is nobody to act as: no description yet, or no certificate.
            _ => &self.identity,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, by the value of the label `reason`.
    #[must_use]
    pub fn failed(&self) -> [(&'static str, u64); 6] {
        let all = [
            ("limit", &self.limit),
            ("timeout", &self.timeout),
            ("identity", &self.identity),
            ("revoked", &self.revoked),
            ("tls", &self.tls),
            ("http2", &self.http2),
        ];
        all.map(|(reason, counter)| (reason, counter.load(Ordering::Relaxed)))
    }
}
