//! An endpoint that was chosen for a request, and what is counted meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::index::Endpoint;

use super::Cluster;
use crate::balance::InFlight;
use crate::breaker::Kind;
use crate::model::TrafficPolicy;
use crate::outlier::{self, Conduct};
use crate::refusal::Refusal;
use crate::retry::Outcome;

/// An endpoint for one attempt. The attempt is in flight until this is dropped: at the end of the
/// response's body, not at its head.
#[derive(Debug)]
pub struct Chosen {
    pub(super) endpoint: Endpoint,
    pub(super) in_flight: InFlight,
    pub(super) traffic: Option<Arc<TrafficPolicy>>,
    pub(super) endpoints: usize,
    pub(super) counted: Counted,
    /// The request has a connection for itself, which is counted as well.
    pub(super) connection: bool,
}

impl Chosen {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Counts the connection that the request has for itself. Waits while the service has as many as it may have.
    ///
    /// # Errors
    /// 503 (UO) when as many requests wait as may.
    pub async fn connect(&mut self) -> Result<(), Refusal> {
        if self.connection {
            return Ok(());
        }
        let cluster = &self.counted.cluster;
        let limits = self.traffic.as_ref().map(|it| &it.limits);
        match (cluster.admit(Kind::Connection, limits), limits) {
            (Err(_), Some(limits)) => {
                let _waiting = cluster.count(Kind::Pending, Some(limits))?;
                cluster.gate.connection(limits).await;
            }
            (admitted, _) => admitted?,
        }
        self.connection = true;
        Ok(())
    }

    /// Says how the attempt ended, once, when that is known: with a response's head, or none. Gives for
    /// how long the endpoint rests if this was one failure too many.
    pub fn report(&self, outcome: &Outcome, now: Instant) -> Option<Duration> {
        let conduct = Conduct::of(outcome)?;
        self.in_flight.answered(conduct == Conduct::Good, now);
        let stats = self.in_flight.stats();
        let outlier = self.traffic.as_ref()?.outlier.as_ref()?;
        if !outlier::count(outlier, stats, conduct) {
            return None;
        }
        self.counted.cluster.eject(stats, self.endpoints, now)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if self.connection {
            self.counted.cluster.gate.release(Kind::Connection);
        }
    }
}

/// One that is counted, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    pub(super) cluster: Arc<Cluster>,
    pub(super) kind: Kind,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cluster.gate.release(self.kind);
    }
}
