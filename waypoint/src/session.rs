//! One tunnelled connection of a client, for its whole life.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use ambit_core::plan::GatewayTarget;

use crate::shared::Shared;

/// Who opened it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// By certificate.
    pub(crate) identity: Identity,
    /// The other end of the TLS connection.
    pub(crate) address: SocketAddr,
    /// The pod at that address, if it has this identity.
    pub(crate) workload: Option<Arc<Workload>>,
}

/// A connection that was agreed to.
pub(crate) struct Session {
    pub(crate) caller: Caller,
    pub(crate) target: GatewayTarget,
    pub(crate) shared: Arc<Shared>,
}
