//! Connections of HTTP/1.1 between two requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::IDLE;
use crate::http::h1::Connection;

/// Idle connections of HTTP/1.1 on a shelf, and in all.
const MOST: usize = 256;
const MOST_IN_ALL: usize = 4096;

/// Idle connections of HTTP/1.1 to one backend for one caller.
pub(super) struct Shelf {
    /// The one that was used last at the end.
    idle: Mutex<VecDeque<(Instant, Connection)>>,
    in_all: Arc<AtomicUsize>,
}

impl Shelf {
    /// An empty one; `in_all` counts what is on it and on all others.
    pub(super) fn new(in_all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            in_all,
        })
    }

    /// The connection that was used last and has not ended.
    fn take(&self, now: Instant) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle.lock().pop_back()?;
            self.in_all.fetch_sub(1, Ordering::Relaxed);
            if now.saturating_duration_since(since) < IDLE && connection.is_fresh() {
                return Some(connection);
            }
        }
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST && self.in_all.load(Ordering::Relaxed) < MOST_IN_ALL {
            idle.push_back((Instant::now(), connection));
            self.in_all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps those; whether any are left.
    pub(super) fn retain(&self, keep: impl Fn(&Instant) -> bool) -> bool {
        let mut idle = self.idle.lock();
        let before = idle.len();
        idle.retain(|(since, _)| keep(since));
        self.in_all
            .fetch_sub(before - idle.len(), Ordering::Relaxed);
        !idle.is_empty()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.in_all
            .fetch_sub(self.idle.get_mut().len(), Ordering::Relaxed);
    }
}

/// Where a connection of HTTP/1.1 comes from, and goes when its response has been read.
pub(in super::super) struct Place(Option<Arc<Shelf>>);

impl Place {
    /// On that shelf.
    pub(super) fn on(shelf: Arc<Shelf>) -> Self {
        Self(Some(shelf))
    }

    /// It is not kept.
    pub(in super::super) fn none() -> Self {
        Self(None)
    }

    /// The connection that was used last and has not ended.
    pub(in super::super) fn take(&self, now: Instant) -> Option<Connection> {
        self.0.as_ref()?.take(now)
    }

    pub(in super::super) fn keep(self, connection: Connection) {
        if let Some(shelf) = self.0 {
            shelf.put(connection);
        }
    }
}
