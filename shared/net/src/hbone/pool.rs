//! HBONE connections to peers, shared by the streams of one pod.
//!
//! A connection is opened by a task of its own: no lock is held meanwhile, and a caller that
//! gives up does not take it away from the others. Streams are spread over a few connections,
//! then packed up to a limit (ours or the peer's), then more are opened. The first stream of a connection
//! is sent before the peer has said its limit; the next ones wait for that.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use ambit_core::identity::Identity;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use h2::PingPong;
use h2::client::SendRequest;
use http::HeaderMap;
use parking_lot::Mutex;

use super::client::Dialed;
use super::{Error, Opening, PendingResponse, Settings, Stage, client};
use crate::sys::Sockets;
use crate::tls::Certified;

/// A peer: where it is and whom it must prove to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its HBONE address.
    pub address: SocketAddr,
    /// One of these.
    pub identities: Arc<[Identity]>,
}

/// The connections of one pod. Dropping it closes them once their streams end.
pub struct Pool {
    sockets: Sockets,
    settings: Settings,
    peers: Mutex<HashMap<Target, Arc<Peer>>>,
}

#[derive(Default)]
struct Peer {
    state: Mutex<PeerState>,
}

#[derive(Default)]
struct PeerState {
    connections: Vec<Arc<Connection>>,
    /// What those wait for who find no room: a connection that is dialled, then how many streams it takes.
    opening: Option<Step>,
}

/// A task whose result all who wait for it share.
type Step = Shared<BoxFuture<'static, Result<(), Error>>>;

struct Connection {
    requests: SendRequest<Bytes>,
    /// Told of every new stream.
    opened: Arc<AtomicBool>,
    /// No new streams from then on: a certificate of it expires.
    not_after: SystemTime,
    active: AtomicUsize,
    served: AtomicBool,
    closed: AtomicBool,
    idle_since: Mutex<Instant>,
}

impl Connection {
    fn new<D>(dialed: &Dialed<D>) -> Self {
        Self {
            requests: dialed.requests.clone(),
            opened: dialed.opened.clone(),
            not_after: dialed.not_after,
            active: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    fn idle(&self, at_least: Duration) -> bool {
        self.active.load(Ordering::Acquire) == 0 && self.idle_since.lock().elapsed() >= at_least
    }
}

/// A stream's place on a connection.
pub(crate) struct Slot(Arc<Connection>, bool);

impl Slot {
    /// The connection had carried streams before this one.
    pub(crate) fn reused(&self) -> bool {
        self.1
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.idle_since.lock() = Instant::now();
        }
    }
}

impl Pool {
    /// A pool that connects with `sockets`. Idle connections are closed by a task that ends with
    /// the pool. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(sockets: Sockets, settings: Settings) -> Arc<Self> {
        let pool = Arc::new(Self {
            sockets,
            settings,
            peers: Mutex::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&pool), pool.settings.idle_timeout));
        pool
    }

    /// Asks `target` for a tunnel to `authority`, as the identity of `certificate`.
    ///
    /// # Errors
    /// When no connection can be had or the request cannot be sent; see [`Error::nothing_sent`].
    pub async fn open(
        &self,
        target: &Target,
        certificate: &Arc<Certified>,
        authority: &str,
        headers: HeaderMap,
    ) -> Result<Opening, Error> {
        let request = client::connect_request(authority, headers)?;
        if certificate.not_after() <= SystemTime::now() {
            return Err(Error::new(Stage::Tls, OwnCertificateExpired));
        }
        let peer = self.peer(target);
        loop {
            let slot = self.slot(&peer, target, certificate).await?;
            let mut requests = slot.0.requests.clone();
            let sent = match std::future::poll_fn(|cx| requests.poll_ready(cx)).await {
                Ok(()) => requests.send_request(request.clone(), false),
                Err(error) => Err(error),
            };
            match sent {
                Ok((response, send)) => {
                    slot.0.opened.store(true, Ordering::Relaxed);
                    return Ok(Opening {
                        send,
                        pending: PendingResponse::new(
                            response,
                            Arc::new(slot),
                            self.settings.answer_timeout,
                        ),
                    });
                }
                // The connection was going away: nothing was sent, another will do.
                Err(error) => {
                    slot.0.closed.store(true, Ordering::Release);
                    if !slot.reused() {
                        return Err(Error::new(Stage::Open, error));
                    }
                }
            }
        }
    }

    /// No new streams to `address`: its endpoint is gone. Streams that run may finish.
    pub fn evict(&self, address: SocketAddr) {
        self.peers
            .lock()
            .retain(|target, _| target.address != address);
    }

    /// Streams to `target` that have not ended.
    #[must_use]
    pub fn streams(&self, target: &Target) -> usize {
        let peer = self.peers.lock().get(target).cloned();
        peer.map_or(0, |peer| {
            let state = peer.state.lock();
            let active = |it: &Arc<Connection>| it.active.load(Ordering::Acquire);
            state.connections.iter().map(active).sum()
        })
    }

    /// Open connections, for telemetry.
    #[must_use]
    pub fn connections(&self) -> usize {
        let peers = self.peers.lock();
        peers
            .values()
            .map(|peer| peer.state.lock().connections.len())
            .sum()
    }

    fn peer(&self, target: &Target) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(target) {
            return peer.clone();
        }
        peers.entry(target.clone()).or_default().clone()
    }

    /// A place on a connection, opening one when needed.
    async fn slot(
        &self,
        peer: &Arc<Peer>,
        target: &Target,
        certificate: &Arc<Certified>,
    ) -> Result<Slot, Error> {
        loop {
            let (taken, opening) = {
                let mut state = peer.state.lock();
                state
                    .connections
                    .retain(|connection| !connection.closed.load(Ordering::Acquire));
                let (taken, more) = state.take(&self.settings);
                if (taken.is_none() || more) && state.opening.is_none() {
                    state.opening = Some(self.open_connection(peer, target, certificate));
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

    fn open_connection(
        &self,
        peer: &Arc<Peer>,
        target: &Target,
        certificate: &Arc<Certified>,
    ) -> Step {
        let dialed = client::dial(
            self.sockets.clone(),
            self.settings.clone(),
            target.clone(),
            certificate.clone(),
        );
        let owner = Arc::downgrade(peer);
        let limit = self.settings.handshake_timeout;
        step(async move {
            let result = dialed.await;
            // The pool is gone, and with it whoever wanted this.
            let Some(peer) = owner.upgrade() else {
                return Ok(());
            };
            let mut state = peer.state.lock();
            state.opening = None;
            let (connection, pings) = drive(result?);
            state.connections.push(connection.clone());
            state.opening = Some(step(settle(owner, connection, pings, limit)));
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

/// Runs a connection in a task of its own for as long as somebody can open streams on it, or has some.
fn drive<D>(dialed: Dialed<D>) -> (Arc<Connection>, PingPong)
where
    D: Future<Output = ()> + Send + 'static,
{
    let connection = Arc::new(Connection::new(&dialed));
    // The connection alone can open streams.
    let Dialed { driver, pings, .. } = dialed;
    // Weak: the driver ends when nobody else can open streams any more.
    let driven = Arc::downgrade(&connection);
    tokio::spawn(async move {
        driver.await;
        if let Some(connection) = driven.upgrade() {
            connection.closed.store(true, Ordering::Release);
        }
    });
    (connection, pings)
}

/// Waits until a new connection knows how many streams its peer takes; one that does not learn it takes no more.
async fn settle(
    owner: Weak<Peer>,
    connection: Arc<Connection>,
    pings: PingPong,
    limit: Duration,
) -> Result<(), Error> {
    let settled = client::settled(pings, &connection.requests, limit).await;
    if settled.is_err() {
        connection.closed.store(true, Ordering::Release);
    }
    if let Some(peer) = owner.upgrade() {
        peer.state.lock().opening = None;
    }
    settled
}

impl PeerState {
    /// The less busy of the first few connections with room; and whether another should be opened
    /// beside it. The later ones are left to fall idle: the frames of streams on one connection
    /// travel together.
    fn take(&mut self, settings: &Settings) -> (Option<Slot>, bool) {
        let now = SystemTime::now();
        let active = |connection: &Connection| connection.active.load(Ordering::Acquire);
        let with_room = self.connections.iter().filter(|connection| {
            let limit = settings
                .streams_per_connection
                .min(connection.requests.current_max_send_streams());
            connection.not_after > now && active(connection) < limit
        });
        let few = with_room.take(settings.spread.max(1));
        let Some(best) = few.min_by_key(|connection| active(connection)) else {
            return (None, false);
        };
        let active = active(best);
        best.active.fetch_add(1, Ordering::AcqRel);
        let reused = best.served.swap(true, Ordering::AcqRel);
        let spread = active > 0 && self.connections.len() < settings.spread;
        (Some(Slot(best.clone(), reused)), spread)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("our own certificate has expired")]
struct OwnCertificateExpired;

/// Closes what nobody used for `idle`, until the pool is gone.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.peers.lock().retain(|_, peer| {
            let mut state = peer.state.lock();
            state.connections.retain(|connection| {
                !connection.closed.load(Ordering::Acquire) && !connection.idle(idle)
            });
            !state.connections.is_empty() || state.opening.is_some() || Arc::strong_count(peer) > 1
        });
    }
}
