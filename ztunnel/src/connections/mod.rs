//! The connections that run, by number.
//!
//! A connection is registered before it is judged. A policy change publishes the new index
//! first and judges what is registered afterwards, so none can slip between the two.

mod connection;
mod judge;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ambit_core::index::Index;
use ambit_proxy::{Denials, Registry};
use ambit_telemetry::access::AccessLog;
use ambit_telemetry::metrics::Traffic;

pub use connection::{Connection, Details, Ends, Open, describe};
pub use judge::{Asked, Claim, Planned, judge};

/// All connections of the process, and how their ends are reported.
pub struct Connections {
    running: Registry<Arc<Connection>>,
    traffic: Arc<Traffic>,
    log: AccessLog,
    denials: Denials,
}

impl Connections {
    /// No connections; they will count in `traffic` and be written to `log`.
    #[must_use]
    pub fn new(traffic: Arc<Traffic>, log: AccessLog) -> Arc<Self> {
        Arc::new(Self {
            running: Registry::default(),
            traffic,
            log,
            denials: Denials::default(),
        })
    }

    /// Registers a connection.
    #[must_use]
    pub fn open(self: &Arc<Self>, ends: Ends) -> Open {
        let id = self.running.number();
        let connection = Arc::new(Connection::new(id, ends));
        self.running.insert(id, connection.clone());
        Open::new(self.clone(), connection)
    }

    /// Judges every connection with a claim by `index`, and closes the ones it denies.
    pub fn judge_again(&self, index: &Index) {
        for connection in self.all() {
            connection.judge_again(index);
        }
    }

    /// Brings the byte counters of running connections up to date, before they are read.
    pub fn count_bytes(&self) {
        for connection in self.all() {
            connection.count_bytes();
        }
    }

    /// Every connection, at this moment.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.running.all()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who was denied whom.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    fn remove(&self, id: u64) {
        self.running.remove(id);
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
