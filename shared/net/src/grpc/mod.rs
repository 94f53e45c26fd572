//! gRPC to the control plane: how discovery and the certificate authority are reached.
//!
//! A connection is TLS 1.3 to a server whose certificate chains to the configured roots and
//! names the host of the address. Roots and token are files that others rotate, so they are read
//! anew for every connection and every call. Plain HTTP is for loopback only: a bearer token
//! never leaves the machine unencrypted.

mod address;
mod channel;
mod machine;
mod token;
mod trust;

#[cfg(test)]
pub(crate) mod testing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use address::{Address, AddressError};
pub use channel::ConnectError;
pub(crate) use channel::{Connection, connect, is_local};
pub use machine::Machine;
pub(crate) use token::TokenError;
pub(crate) use trust::{TrustError, roots};

/// A control-plane endpoint and how to be accepted by it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it is.
    pub address: Address,
    /// PEM file of the root certificates it is verified with; read for every connection.
    pub roots: PathBuf,
    /// File of the bearer token; read for every stream and call. None: no authorization is sent.
    pub token: Option<PathBuf>,
    /// Sent as gRPC metadata `clusterid`.
    pub cluster_id: String,
    /// More gRPC metadata, name and value.
    pub headers: Vec<(String, String)>,
    /// Bound on name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The machine that connects, if it is one without a kubelet.
    pub machine: Option<Arc<Machine>>,
}

impl Remote {
    /// An endpoint with the usual time limits, without token and without further metadata.
    #[must_use]
    pub fn new(address: Address, roots: impl Into<PathBuf>) -> Self {
        Self {
            address,
            roots: roots.into(),
            token: None,
            cluster_id: "Kubernetes".to_owned(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            machine: None,
        }
    }
}
