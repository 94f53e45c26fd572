//! Mutual TLS between identities.
//!
//! TLS 1.3 only, AES-GCM only, post-quantum key exchange preferred. A peer is who its
//! certificate says: exactly one SPIFFE URI, from our own roots. A client accepts only the
//! identities it expects; a server accepts its own trust domain.

mod buffer;
mod certified;
mod chain;
mod config;
mod handshake;
mod record;
mod shown;
#[cfg(test)]
mod spoiled;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod traffic;
mod transport;
mod verify;

use std::io;

use ambit_core::identity::IdentityError;

pub use certified::Certified;
pub(crate) use certified::time;
pub use chain::{Chain, ChainJudge, Proven};
pub use config::{plain_client_config, plain_server_config, provider};
pub use shown::{Shown, pem};
pub use stream::Stream;
pub use transport::Transport;
pub use verify::identity_of;

/// What is wrong with a certificate or a peer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The PEM text cannot be read.
    #[error("{what}: {reason}")]
    Pem {
        /// What was read.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The chain has no leaf or no root.
    #[error("the certificate chain is too short: {0} certificates, a leaf and a root are needed")]
    ShortChain(usize),
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    X509(String),
    /// Not exactly one URI subject alternative name.
    #[error(
        "a certificate of the mesh has exactly one URI subject alternative name, this one has {0}"
    )]
    UriCount(usize),
    /// The URI is no identity of the mesh.
    #[error("{uri:?}: {source}")]
    Identity {
        /// The URI.
        uri: String,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The peer has shown a certificate that its issuer has revoked.
    #[error("the peer's certificate is revoked")]
    Revoked,
    /// The key and the certificate do not fit, or TLS refuses them.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Whether an error of a handshake is that the peer's certificate is revoked.
#[must_use]
pub fn is_revoked(error: &io::Error) -> bool {
    let of_ours = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(of_ours, Some(Error::Revoked))
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
