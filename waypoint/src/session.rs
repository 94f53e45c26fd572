//! One tunnelled connection of a client, for its whole life.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use ambit_core::plan::GatewayTarget;
use ambit_http::headers;

use crate::ending::Ending;
use crate::http::LastSeries;
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
    /// What its requests say of it.
    pub(crate) peer: headers::Peer,
    pub(crate) target: GatewayTarget,
    pub(crate) shared: Arc<Shared>,
    pub(crate) ending: Ending,
    /// Where its last request was counted.
    pub(crate) series: LastSeries,
}

impl Session {
    pub(crate) fn new(
        caller: Caller,
        target: GatewayTarget,
        shared: Arc<Shared>,
        ending: Ending,
    ) -> Arc<Self> {
        let peer = headers::Peer::new(caller.address.ip());
        Arc::new(Self {
            peer: peer.verified(&shared.me, &caller.identity),
            caller,
            target,
            shared,
            ending,
            series: LastSeries::default(),
        })
    }
}
