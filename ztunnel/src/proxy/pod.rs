//! A pod that is served, and the right to act as it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_core::plan::Refusal;
use ambit_net::ca::Wanted;
use ambit_net::sys::Sockets;
use ambit_telemetry::access::Direction;
use metrics::{counter, describe_counter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Failure;

const LIMITS_REACHED: &str = "ambit_pod_limits_reached_total";
// The variables that limit, as the metric and messages name them.
const CONNECTIONS: &str = "AMBIT_CONNECTIONS_PER_POD";
const HBONE_CONNECTIONS: &str = "AMBIT_HBONE_CONNECTIONS_PER_POD";
const DNS_QUERIES: &str = "AMBIT_DNS_QUERIES_PER_POD";
const UDP_FLOWS: &str = "AMBIT_UDP_FLOWS_PER_POD";

/// A pod of this node.
#[derive(Debug)]
pub struct Pod {
    /// Its uid in discovery.
    pub uid: Arc<str>,
    /// Its namespace and name, for people.
    pub name: Arc<str>,
    /// Makes sockets in its network namespace.
    pub sockets: Sockets,
    /// The right to act as it, once discovery and the node agent agree on who it is. It cannot be
    /// turned into that of another.
    identity: OnceLock<Wanted>,
    /// Why there is none yet; wakes who waits for it.
    missing: watch::Sender<String>,
    limits: Limits,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
    hbone: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    flows: Flows,
}

/// A pod's flows of UDP, by how they begin. Each kind has room of its own: anybody can begin plaintext ones in anybody's name, which must
/// not keep out who comes with an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// The pod has sent something.
    Outbound,
    /// Plaintext has come for it.
    Plaintext,
    /// A peer has asked for a tunnel.
    Tunnel,
}

#[derive(Debug)]
struct Flows {
    outbound: Arc<Semaphore>,
    plaintext: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
}

/// What a pod may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of applications, each direction.
    pub connections: u32,
    /// HBONE connections from peers, whatever is in them.
    pub hbone_connections: u32,
    /// DNS questions that are not answered yet, and DNS clients that are connected.
    pub dns_queries: u32,
    /// Flows of UDP: outbound, of plaintext, and in tunnels of peers, each.
    pub udp_flows: u32,
}

impl Pod {
    /// A pod of which nobody has said yet who it is.
    #[must_use]
    pub fn new(uid: Arc<str>, name: Arc<str>, sockets: Sockets, limits: Limits) -> Self {
        let semaphore = |limit: u32| Arc::new(Semaphore::new(limit as usize));
        Self {
            uid,
            name,
            sockets,
            identity: OnceLock::new(),
            missing: watch::Sender::new(String::new()),
            limits,
            inbound: semaphore(limits.connections),
            outbound: semaphore(limits.connections),
            hbone: semaphore(limits.hbone_connections),
            questions: semaphore(limits.dns_queries),
            flows: Flows {
                outbound: semaphore(limits.udp_flows),
                plaintext: semaphore(limits.udp_flows),
                tunnels: semaphore(limits.udp_flows),
            },
        }
    }

    /// Says who it is: its connections go on as this identity. The first time counts.
    pub fn identify(&self, identity: Wanted) {
        if self.identity.set(identity).is_ok() {
            self.missing.send_replace(String::new());
        }
    }

    /// Says why nobody knows yet who it is.
    pub fn unidentified(&self, why: &str) {
        self.missing.send_replace(why.to_owned());
    }

    /// Who it is.
    ///
    /// # Errors
    /// Nobody has said.
    pub fn identity(&self) -> Result<&Wanted, Failure> {
        self.identity.get().ok_or_else(|| self.unknown().into())
    }

    /// Who it is; waits for at most `patience` until somebody says.
    pub(super) async fn identified(&self, patience: Duration) -> Result<&Wanted, Failure> {
        let mut missing = self.missing.subscribe();
        let said = missing.wait_for(|_| self.identity.get().is_some());
        // The sender is ours: it does not end.
        if tokio::time::timeout(patience, said).await.is_err() && self.identity.get().is_none() {
            let why = self.missing.borrow().clone();
            let text = format!(
                "pod {} has no identity after {patience:?}: {why}",
                self.name
            );
            return Err(Refusal::unavailable(text).into());
        }
        self.identity()
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
        let limit = self.limits.connections;
        take(semaphore, limit, CONNECTIONS)
    }

    /// Takes one of the HBONE connections that peers may have to the pod, for as long as the
    /// permit is held.
    pub(super) fn admit_peer(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let limit = self.limits.hbone_connections;
        take(&self.hbone, limit, HBONE_CONNECTIONS)
    }

    /// Takes one of the pod's open DNS questions, for as long as the permit is held.
    pub(super) fn admit_question(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let limit = self.limits.dns_queries;
        take(&self.questions, limit, DNS_QUERIES)
    }

    /// Takes one of the pod's flows of UDP, for as long as the permit is held. They are apart from connections.
    pub(super) fn admit_flow(&self, flow: Flow) -> Result<OwnedSemaphorePermit, Failure> {
        let flows = match flow {
            Flow::Outbound => &self.flows.outbound,
            Flow::Plaintext => &self.flows.plaintext,
            Flow::Tunnel => &self.flows.tunnels,
        };
        take(flows, self.limits.udp_flows, UDP_FLOWS)
    }

    /// HBONE connections from peers, handshakes included.
    pub(super) fn peers(&self) -> usize {
        self.limits.hbone_connections as usize - self.hbone.available_permits()
    }
}

/// Says what the metric is, and that no limit has been reached.
pub(super) fn describe() {
    describe_counter!(
        LIMITS_REACHED,
        "What pods or their peers were refused because there were as many as a pod may have, by the variable that limits them."
    );
    for variable in [CONNECTIONS, HBONE_CONNECTIONS, DNS_QUERIES, UDP_FLOWS] {
        counter!(LIMITS_REACHED, "limit" => variable).absolute(0);
    }
}

/// Takes one of the places that `variable` limits; counts when there is none.
fn take(
    places: &Arc<Semaphore>,
    limit: u32,
    variable: &'static str,
) -> Result<OwnedSemaphorePermit, Failure> {
    places.clone().try_acquire_owned().map_err(|_| {
        counter!(LIMITS_REACHED, "limit" => variable).increment(1);
        Failure::Limit { limit, variable }
    })
}
