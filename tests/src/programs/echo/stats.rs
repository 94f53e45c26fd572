//! What the process has seen, for `/stats`: tests ask here what arrived when the connection itself cannot say.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// Counters of one protocol or TCP mode.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Counters {
    /// Connections ever.
    pub(super) connections: u64,
    /// Connections now.
    pub(super) open: u64,
    /// Bytes read by connections that are over (raw TCP only).
    pub(super) received_bytes: u64,
    /// Connections that the client reset (raw TCP only).
    pub(super) resets: u64,
    /// SHA-256 of what the last finished connection sent (mode `sum`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_sha256: Option<String>,
}

/// All counters, by name.
#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<BTreeMap<&'static str, Counters>>);

impl Stats {
    pub(super) fn snapshot(&self) -> BTreeMap<&'static str, Counters> {
        self.0.lock().clone()
    }

    pub(super) fn update(&self, name: &'static str, change: impl FnOnce(&mut Counters)) {
        change(self.0.lock().entry(name).or_default());
    }
}

/// One open connection; it counts as open until this is dropped.
pub(super) struct Open {
    process: Arc<super::Process>,
    name: &'static str,
}

impl Open {
    pub(super) fn new(process: Arc<super::Process>, name: &'static str) -> Self {
        process.stats.update(name, |counters| {
            counters.connections += 1;
            counters.open += 1;
        });
        Self { process, name }
    }

    pub(super) fn finished(&self, bytes: u64, sha256: Option<String>) {
        self.process.stats.update(self.name, |counters| {
            counters.received_bytes += bytes;
            if sha256.is_some() {
                counters.last_sha256 = sha256;
            }
        });
    }

    /// The client reset it.
    pub(super) fn was_reset(&self) {
        self.process
            .stats
            .update(self.name, |counters| counters.resets += 1);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.process
            .stats
            .update(self.name, |counters| counters.open -= 1);
    }
}
