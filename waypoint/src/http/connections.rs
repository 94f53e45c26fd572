//! Connections to backends between requests. Requests share one only if they come from the same
//! caller: the destination judges a connection by who stands behind it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use ambit_core::identity::Identity;
use parking_lot::Mutex;

use super::h1::{Connection, Keep};
use super::h2::Client;

/// A connection nobody needs for this long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Kept for one backend and caller.
const MOST: usize = 128;
const SWEEP: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) caller: Identity,
    /// Connections stay with the thread that reads and writes them.
    pub(super) worker: ThreadId,
}

#[derive(Default)]
pub(super) struct Connections {
    h1: Mutex<Idle>,
    h2: Mutex<HashMap<Key, Client>>,
}

#[derive(Default)]
struct Idle {
    kept: HashMap<Key, Vec<(Instant, Connection)>>,
    swept: Option<Instant>,
}

impl Connections {
    /// The connection that was used last and has not ended.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.h1.lock().kept.get_mut(key)?.pop()?;
            if since.elapsed() < IDLE && connection.is_fresh() {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back once its response has been read.
    pub(super) fn keep(self: &Arc<Self>, key: Key) -> Keep {
        let connections = Arc::downgrade(self);
        Arc::new(move |connection| {
            if let Some(connections) = connections.upgrade() {
                connections.put(&key, connection);
            }
        })
    }

    fn put(&self, key: &Key, connection: Connection) {
        let now = Instant::now();
        let mut idle = self.h1.lock();
        idle.sweep(now);
        let kept = match idle.kept.get_mut(key) {
            Some(kept) => kept,
            None => idle.kept.entry(key.clone()).or_default(),
        };
        if kept.len() < MOST {
            kept.push((now, connection));
        }
    }

    pub(super) fn client(&self, key: &Key) -> Option<Client> {
        self.h2.lock().get(key).cloned()
    }

    pub(super) fn set_client(&self, key: Key, client: Client) {
        self.h2.lock().insert(key, client);
    }

    /// The connection takes no more requests.
    pub(super) fn forget_client(&self, key: &Key) {
        self.h2.lock().remove(key);
    }
}

impl Idle {
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now - swept < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.kept.retain(|_, kept| {
            kept.retain(|(since, _)| now - *since < IDLE);
            !kept.is_empty()
        });
    }
}
