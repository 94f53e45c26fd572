//! The certificate authority: its material, who may ask for what, and signing.

mod change;
pub mod files;
pub mod follow;
pub mod machine;
pub mod material;
pub mod permission;
pub mod publish;
pub mod request;
pub mod secret;
pub mod service;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use material::Authority;

/// The authority that signs now. Another one takes its place when its material changes.
pub type Signing = watch::Receiver<Arc<Authority>>;

/// Who signs the certificates of workloads.
#[derive(Debug, Clone)]
pub enum Certificates<S> {
    /// This process, with this.
    Here(S),
    /// Somebody else.
    Elsewhere(External),
}

/// Another authority with the same API, such as cert-manager's istio-csr, which publishes its roots as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// `https://HOST:PORT`, which proxies have as CA_ADDRESS.
    pub address: String,
    /// The folder of this server's certificate and key, signed by that authority.
    pub folder: PathBuf,
    /// Names by which proxies ask this server.
    pub names: Vec<String>,
}
