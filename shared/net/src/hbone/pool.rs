//! HBONE connections to peers, shared by the streams of one pod.
//!
//! Streams are spread over a few connections, then packed up to a limit (ours or the peer's), then more are opened
//! ([`places`]). The first stream of a connection is sent before the peer has said its limit; the next ones wait for that.

mod places;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use bytes::Bytes;
use futures_util::FutureExt;
use h2::PingPong;
use h2::client::SendRequest;
use http::HeaderMap;

use super::client::Dialed;
use super::{Error, Opening, PendingResponse, Settings, Stage, client};
use crate::sys::Sockets;
use crate::tls::Certified;
use places::{Carrier, Connection, Limits, Opened, Peer, Peers};

/// A stream's place on a connection.
pub(crate) type Slot = places::Slot<Requests>;

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
    peers: Peers<Target, Requests>,
}

/// What opens the streams of a connection. Nobody else can, so the connection ends with it.
pub(crate) struct Requests {
    requests: SendRequest<Bytes>,
    /// Told of every new stream.
    opened: Arc<AtomicBool>,
}

impl Carrier for Requests {
    fn limit(&self) -> usize {
        self.requests.current_max_send_streams()
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
            peers: Peers::default(),
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
        let peer = self.peers.peer(target);
        loop {
            let slot = self.slot(&peer, target, certificate).await?;
            let connection = slot.connection();
            let mut requests = connection.carrier.requests.clone();
            let sent = match std::future::poll_fn(|cx| requests.poll_ready(cx)).await {
                Ok(()) => requests.send_request(request.clone(), false),
                Err(error) => Err(error),
            };
            match sent {
                Ok((response, send)) => {
                    connection.carrier.opened.store(true, Ordering::Relaxed);
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
                    connection.close();
                    if !slot.reused() {
                        return Err(Error::new(Stage::Open, error));
                    }
                }
            }
        }
    }

    /// No new streams to `address`: its endpoint is gone. Streams that run may finish.
    pub fn evict(&self, address: SocketAddr) {
        self.peers.evict(|target| target.address == address);
    }

    /// Streams to `target` that have not ended.
    #[must_use]
    pub fn streams(&self, target: &Target) -> usize {
        self.peers.streams(target)
    }

    /// Open connections, for telemetry.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peers.connections()
    }

    /// A place on a connection, opening one when needed.
    async fn slot(
        &self,
        peer: &Arc<Peer<Requests>>,
        target: &Target,
        certificate: &Arc<Certified>,
    ) -> Result<Slot, Error> {
        let limits = Limits {
            streams: self.settings.streams_per_connection,
            spread: self.settings.spread,
        };
        let limit = self.settings.handshake_timeout;
        peer.slot(limits, || {
            let dialed = client::dial(
                self.sockets.clone(),
                self.settings.clone(),
                target.clone(),
                certificate.clone(),
            );
            async move { Ok(drive(dialed.await?, limit)) }.boxed()
        })
        .await
    }
}

/// Runs a connection in a task of its own for as long as somebody can open streams on it, or has some.
fn drive<D>(
    dialed: Dialed<D>,
    limit: Duration,
) -> Opened<Requests, impl Future<Output = Result<(), Error>> + Send + 'static>
where
    D: Future<Output = ()> + Send + 'static,
{
    let Dialed {
        requests,
        opened,
        pings,
        not_after,
        driver,
    } = dialed;
    let connection = Connection::new(Requests { requests, opened }, not_after);
    // Weak: the driver ends when nobody else can open streams any more.
    let driven = Arc::downgrade(&connection);
    tokio::spawn(async move {
        driver.await;
        if let Some(connection) = driven.upgrade() {
            connection.close();
        }
    });
    let settled = settled(pings, connection.clone(), limit);
    Opened {
        connection,
        settled,
    }
}

/// Waits until a new connection knows how many streams its peer takes.
async fn settled(
    pings: PingPong,
    connection: Arc<Connection<Requests>>,
    limit: Duration,
) -> Result<(), Error> {
    client::settled(pings, &connection.carrier.requests, limit).await
}

#[derive(Debug, thiserror::Error)]
#[error("our own certificate has expired")]
struct OwnCertificateExpired;

/// Closes what nobody used for `idle`, until the pool is gone.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.peers.sweep(idle);
    }
}
