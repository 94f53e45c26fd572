//! A pod that is served, and the right to act as it.

use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::plan::Refusal;
use ambit_net::ca::{CaError, CertificateStore};
use ambit_net::sys::Sockets;
use ambit_net::tls::Certified;
use ambit_telemetry::access::Direction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;

/// A pod of this node.
#[derive(Debug)]
pub struct Pod {
    /// Its uid in discovery.
    pub uid: Arc<str>,
    /// Its namespace and name, for people.
    pub name: Arc<str>,
    /// Makes sockets in its network namespace.
    pub sockets: Sockets,
    /// The right to act as it.
    pub identified: Identified,
    limit: u32,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
}

/// The right to act as one identity. It cannot be turned into that of another.
#[derive(Debug, Clone)]
pub struct Identified {
    identity: Arc<Identity>,
    certificates: CertificateStore,
}

impl Identified {
    /// The right to act as `identity`; made once a pod, where the node agent vouches for it.
    #[must_use]
    pub fn new(identity: Identity, certificates: CertificateStore) -> Self {
        Self {
            identity: Arc::new(identity),
            certificates,
        }
    }

    /// Who.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Its current certificate; waits for the first one.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn certified(&self) -> Result<Arc<Certified>, CaError> {
        self.certificates.get(&self.identity).await
    }
}

impl Pod {
    /// A pod that may have `limit` connections in each direction.
    #[must_use]
    pub fn new(
        uid: Arc<str>,
        name: Arc<str>,
        sockets: Sockets,
        identified: Identified,
        limit: u32,
    ) -> Self {
        let semaphore = || Arc::new(Semaphore::new(limit as usize));
        Self {
            uid,
            name,
            sockets,
            identified,
            limit,
            inbound: semaphore(),
            outbound: semaphore(),
        }
    }

    /// The pod has no description (any longer).
    pub(super) fn unknown(&self) -> Refusal {
        Refusal::unknown_workload(&self.name)
    }

    /// Takes one of the pod's connections, for as long as the permit is held.
    pub(super) fn admit(&self, direction: Direction) -> Result<OwnedSemaphorePermit, Failure> {
        let semaphore = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        let permit = semaphore.clone().try_acquire_owned();
        permit.map_err(|_| Failure::Limit(self.limit))
    }
}
