//! The connections that run, by number.
//!
//! A connection is registered before it is judged. A policy change publishes the new index
//! first and judges what is registered afterwards, so none can slip between the two.

mod connection;
mod judge;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_core::index::Index;
use ambit_telemetry::access::AccessLog;
use ambit_telemetry::metrics::Traffic;
use parking_lot::Mutex;

pub use connection::{Connection, Details, Ends, Open};
pub use judge::{Asked, Claim, Planned, judge};

/// Independent locks, so that workers do not wait for each other.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<u64, Arc<Connection>>>;

/// All connections of the process, and how their ends are reported.
pub struct Connections {
    shards: [Shard; SHARDS],
    next: AtomicU64,
    traffic: Arc<Traffic>,
    log: AccessLog,
}

impl Connections {
    /// No connections; they will count in `traffic` and be written to `log`.
    #[must_use]
    pub fn new(traffic: Arc<Traffic>, log: AccessLog) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicU64::new(0),
            traffic,
            log,
        })
    }

    /// Registers a connection.
    #[must_use]
    pub fn open(self: &Arc<Self>, ends: Ends) -> Open {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(id, ends));
        self.shard(id).lock().insert(id, connection.clone());
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
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().values().cloned());
        }
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, id: u64) {
        let mut shard = self.shard(id).lock();
        shard.remove(&id);
        // A crowd that has left must not hold its room.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(32);
        }
    }

    fn shard(&self, id: u64) -> &Shard {
        &self.shards[id as usize % SHARDS]
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
