//! Certificates: who signs them, and the store that always has the current one.
//!
//! [`CaClient`] asks a certificate authority that speaks Istio's protocol. [`CertificateStore`]
//! keeps one certificate for each wanted identity, renews it in time and hands it out; when to
//! sign what is `ambit_core::rotation`. [`Kept`] has what an earlier process had while the authority is gone.
//!
//! It must never hand out an expired certificate, and never one of another identity.

mod client;
mod csr;
mod driver;
mod kept;
mod roots;
mod snapshot;
mod store;
mod wanted;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use ambit_core::identity::Identity;

pub use client::{CaClient, CaConfig, WORKLOAD_ENTRY};
pub use driver::Driver;
pub use kept::Kept;
pub use roots::follow_roots;
pub use snapshot::{Entry, Standing};
pub use store::{CertificateStore, Settings};
pub use wanted::Wanted;

use crate::grpc::{Address, ConnectError};
use crate::tls::{self, Certified};

/// Makes certificates.
pub trait Signer: Send + Sync + 'static {
    /// A new key and a certificate for `identity`, valid from now on.
    fn sign(&self, identity: &Identity) -> impl Future<Output = Result<Certified, CaError>> + Send;
}

/// Why there is no certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CaError {
    /// The authority could not be reached.
    #[error("cannot reach the certificate authority {0}")]
    Connect(#[from] ConnectError),
    /// It answered with an error.
    #[error("the certificate authority {address} does not sign for {identity}: {status}")]
    Refused {
        /// Who was asked.
        address: Address,
        /// For whom.
        identity: Identity,
        /// Its gRPC status code and message.
        status: String,
    },
    /// It did not answer.
    #[error("the certificate authority {address} did not answer within {after:?}")]
    Silent {
        /// Who was asked.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// No key or request could be made.
    #[error("cannot make a certificate request for {identity}: {reason}")]
    Request {
        /// For whom.
        identity: Identity,
        /// What failed.
        reason: String,
    },
    /// What it answered is no certificate for the key that was made.
    #[error("the certificate authority's answer for {identity} is of no use: {source}")]
    Answer {
        /// For whom.
        identity: Identity,
        /// What is wrong with it.
        source: tls::Error,
    },
    /// It signed for somebody else.
    #[error("asked for a certificate of {asked}, the certificate authority signed one of {got}")]
    WrongIdentity {
        /// Who was asked for.
        asked: Identity,
        /// Who the certificate names.
        got: Identity,
    },
    /// The certificate is expired on arrival: a clock is wrong.
    #[error(
        "the new certificate of {identity} has expired already: compare the clocks of this \
         machine and of the certificate authority"
    )]
    Expired {
        /// For whom.
        identity: Identity,
    },
    /// The certificate is good only in a while: a clock is wrong.
    #[error(
        "the new certificate of {identity} is not valid before {ahead:?} from now: compare the clocks of this \
         machine and of the certificate authority; the earlier one is used meanwhile"
    )]
    Early {
        /// For whom.
        identity: Identity,
        /// In how long it is.
        ahead: Duration,
    },
    /// No attempt came to an end within the time a caller waits.
    #[error("no certificate of {identity} yet after {waited:?}")]
    NotYet {
        /// For whom.
        identity: Identity,
        /// How long was waited.
        waited: Duration,
    },
    /// The driver of the store is gone: the process is shutting down.
    #[error("certificates are no longer issued: shutting down")]
    Stopped,
}
