//! An endpoint that was chosen for a request, and what is counted meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::index::Endpoint;

use super::Cluster;
use crate::balance::InFlight;
use crate::breaker::Kind;
use crate::model::traffic::Outlier;
use crate::outlier::{self, Conduct};
use crate::retry::Outcome;

/// An endpoint for one attempt. The attempt is in flight until this is dropped: at the end of the
/// response's body, not at its head.
#[derive(Debug)]
pub struct Chosen {
    pub(super) endpoint: Endpoint,
    pub(super) in_flight: InFlight,
    pub(super) outlier: Option<Outlier>,
    pub(super) endpoints: usize,
    pub(super) counted: Counted,
}

impl Chosen {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Says how the attempt ended, once, when that is known: with a response's head, or none. Gives for
    /// how long the endpoint rests if this was one failure too many.
    pub fn report(&self, outcome: &Outcome, now: Instant) -> Option<Duration> {
        let conduct = Conduct::of(outcome)?;
        self.in_flight.answered(conduct == Conduct::Good, now);
        let stats = self.in_flight.stats();
        if !outlier::count(self.outlier.as_ref()?, stats, conduct) {
            return None;
        }
        self.counted.cluster.eject(stats, self.endpoints, now)
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
