//! Which connection a stream is placed on, and when another is opened: the book alone. What a connection is, and how one is
//! opened, is the pool's.
//!
//! A connection is opened by a task of its own: no lock is held meanwhile, and a caller that gives up does not take it away
//! from the others. Whoever finds no room waits for the one step that is under way.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::{Error, Stage};

/// What carries the streams of a connection.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Streams that the peer takes at once, as far as it has said.
    fn limit(&self) -> usize;
}

/// How streams are spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Streams on one connection.
    pub(super) streams: usize,
    /// Connections to one peer over which streams are spread before they share.
    pub(super) spread: usize,
}

/// A connection in the book.
pub(crate) struct Connection<C> {
    pub(super) carrier: C,
    /// No new streams from then on: a certificate of it expires.
    not_after: SystemTime,
    active: AtomicUsize,
    served: AtomicBool,
    closed: AtomicBool,
    idle_since: Mutex<Instant>,
}

/// A connection that was opened.
pub(super) struct Opened<C, S> {
    pub(super) connection: Arc<Connection<C>>,
    /// Done once its peer has said how many streams it takes.
    pub(super) settled: S,
}

/// A stream's place on a connection.
pub(crate) struct Slot<C> {
    connection: Arc<Connection<C>>,
    reused: bool,
}

/// The connections of one pod, by whom they lead to.
pub(super) struct Peers<K, C>(Mutex<HashMap<K, Arc<Peer<C>>>>);

/// The connections to one peer.
pub(super) struct Peer<C>(Mutex<State<C>>);

struct State<C> {
    connections: Vec<Arc<Connection<C>>>,
    /// What those wait for who find no room: a connection that is dialled, then how many streams it takes.
    opening: Option<Step>,
}

/// A task whose result all who wait for it share.
type Step = Shared<BoxFuture<'static, Result<(), Error>>>;

impl<C> Connection<C> {
    /// From when on it takes nothing new.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn new(carrier: C, not_after: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            not_after,
            active: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        })
    }

    /// It takes no more streams.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    fn is_idle(&self, at_least: Duration) -> bool {
        self.active() == 0 && self.idle_since.lock().elapsed() >= at_least
    }
}

impl<C> Slot<C> {
    /// The connection had carried streams before this one.
    pub(crate) fn reused(&self) -> bool {
        self.reused
    }

    pub(crate) fn connection(&self) -> &Arc<Connection<C>> {
        &self.connection
    }
}

impl<C> Drop for Slot<C> {
    fn drop(&mut self) {
        if self.connection.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.connection.idle_since.lock() = Instant::now();
        }
    }
}

impl<K, C> Default for Peers<K, C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, C: Carrier> Peers<K, C> {
    pub(super) fn peer(&self, key: &K) -> Arc<Peer<C>> {
        let mut peers = self.0.lock();
        if let Some(peer) = peers.get(key) {
            return peer.clone();
        }
        peers.entry(key.clone()).or_default().clone()
    }

    /// No new streams to whom `is_gone` names. Streams that run may finish.
    pub(super) fn evict(&self, is_gone: impl Fn(&K) -> bool) {
        self.0.lock().retain(|key, _| !is_gone(key));
    }

    /// Streams to a peer that have not ended.
    pub(super) fn streams(&self, key: &K) -> usize {
        let peer = self.0.lock().get(key).cloned();
        peer.map_or(0, |peer| {
            let state = peer.0.lock();
            state.connections.iter().map(|it| it.active()).sum()
        })
    }

    /// Connections that may be open.
    pub(super) fn connections(&self) -> usize {
        let peers = self.0.lock();
        let open = peers.values().map(|peer| peer.0.lock().connections.len());
        open.sum()
    }

    /// Shows all that may be open.
    pub(super) fn visit(&self, mut see: impl FnMut(&C)) {
        for peer in self.0.lock().values() {
            for connection in &peer.0.lock().connections {
                see(&connection.carrier);
            }
        }
    }

    /// Lets go of connections that are closed or have had no stream for `idle`, and of peers that have none.
    pub(super) fn sweep(&self, idle: Duration) {
        self.0.lock().retain(|_, peer| {
            let mut state = peer.0.lock();
            state
                .connections
                .retain(|connection| !connection.is_closed() && !connection.is_idle(idle));
            !state.connections.is_empty() || state.opening.is_some() || Arc::strong_count(peer) > 1
        });
    }
}

impl<C> Default for Peer<C> {
    fn default() -> Self {
        Self(Mutex::new(State {
            connections: Vec::new(),
            opening: None,
        }))
    }
}

impl<C: Carrier> Peer<C> {
    /// A place on a connection that is good by the `clock`; `open` is called when one more is needed, and what it returns is run by a task.
    ///
    /// # Errors
    /// How the opening of the connection failed that was waited for.
    pub(super) async fn slot<S>(
        self: &Arc<Self>,
        limits: Limits,
        clock: impl Fn() -> SystemTime,
        open: impl Fn() -> BoxFuture<'static, Result<Opened<C, S>, Error>>,
    ) -> Result<Slot<C>, Error>
    where
        S: Future<Output = Result<(), Error>> + Send + 'static,
    {
        loop {
            let (taken, opening) = {
                let mut state = self.0.lock();
                state
                    .connections
                    .retain(|connection| !connection.is_closed());
                let (taken, more) = state.take(limits, clock());
                if (taken.is_none() || more) && state.opening.is_none() {
                    state.opening = Some(self.add(open()));
                }
                (taken, state.opening.clone())
            };
            match (taken, opening) {
                (Some(slot), _) => return Ok(slot),
                (None, Some(opening)) => opening.await?,
                (None, None) => {}
            }
        }
    }

    /// Takes a connection into the book once it is open, then waits until its peer has said how many streams it takes.
    fn add<S>(self: &Arc<Self>, opened: BoxFuture<'static, Result<Opened<C, S>, Error>>) -> Step
    where
        S: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let owner = Arc::downgrade(self);
        step(async move {
            let result = opened.await;
            // The pool is gone, and with it whoever wanted this.
            let Some(peer) = owner.upgrade() else {
                return Ok(());
            };
            let mut state = peer.0.lock();
            state.opening = None;
            let Opened {
                connection,
                settled,
            } = result?;
            state.connections.push(connection.clone());
            state.opening = Some(step(settle(owner, connection, settled)));
            Ok(())
        })
    }
}

fn step(work: impl Future<Output = Result<(), Error>> + Send + 'static) -> Step {
    tokio::spawn(work)
        .map(|joined| joined.unwrap_or_else(|error| Err(Error::new(Stage::Connect, error))))
        .boxed()
        .shared()
}

/// A connection that does not learn how many streams it may have takes no more.
async fn settle<C>(
    owner: Weak<Peer<C>>,
    connection: Arc<Connection<C>>,
    settled: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let settled = settled.await;
    if settled.is_err() {
        connection.close();
    }
    if let Some(peer) = owner.upgrade() {
        peer.0.lock().opening = None;
    }
    settled
}

impl<C: Carrier> State<C> {
    /// The less busy of the first few connections with room; and whether another should be opened
    /// beside it. The later ones are left to fall idle: the frames of streams on one connection
    /// travel together.
    fn take(&mut self, limits: Limits, now: SystemTime) -> (Option<Slot<C>>, bool) {
        let with_room = self.connections.iter().filter(|connection| {
            let limit = limits.streams.min(connection.carrier.limit());
            connection.not_after > now && connection.active() < limit
        });
        let few = with_room.take(limits.spread.max(1));
        let Some(best) = few.min_by_key(|connection| connection.active()) else {
            return (None, false);
        };
        let active = best.active.fetch_add(1, Ordering::AcqRel);
        let slot = Slot {
            connection: best.clone(),
            reused: best.served.swap(true, Ordering::AcqRel),
        };
        let spread = active > 0 && self.connections.len() < limits.spread;
        (Some(slot), spread)
    }
}

#[cfg(any(test, feature = "testing"))]
pub(super) mod testing;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_happens_every_stream_has_its_place(
            history in proptest::collection::vec(any::<u8>(), 0..122),
        ) {
            super::testing::live(&history);
        }
    }
}
