//! HBONE connections to peers, shared by the streams of one pod.
//!
//! Streams are spread over a few connections, then packed up to a limit (ours or the peer's), then more are opened
//! ([`places`]). The first stream of a connection is sent before the peer has said its limit; the next ones wait for that.
//!
//! A peer on another network is reached through a gateway: its connection is a TLS session of its own inside a tunnel that the
//! gateway relays (double HBONE), and is shared by streams as any other.

mod places;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ambit_core::identity::Identity;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h2::PingPong;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{HeaderMap, Request};
use tokio::sync::watch;

use super::client::{Dialed, Reached};
use super::io::Distance;
use super::{Duplex, Error, Opening, PendingResponse, Settings, Stage, client};
use crate::sys::Sockets;
use crate::tls::{Certified, Transport};
#[cfg(any(test, feature = "testing"))]
pub use places::testing::live;
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

/// A peer and how it is reached: all that pins who a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) target: Target,
    /// What is asked for a tunnel to it.
    pub(super) gateway: Option<Target>,
}

/// The connections of one pod. Dropping it closes them once their streams end.
pub struct Pool {
    sockets: Sockets,
    settings: Settings,
    peers: Peers<Way, Requests>,
}

/// What opens the streams of a connection. Nobody else can, so the connection ends with it.
pub(crate) struct Requests {
    requests: SendRequest<Bytes>,
    /// Told of every new stream.
    opened: Arc<AtomicBool>,
    distance: Distance,
    /// The place of the tunnel that the connection is in, if it is in one.
    outer: Option<Arc<Slot>>,
    /// The peer's settings are known, or will not be.
    settled: watch::Sender<bool>,
}

impl Carrier for Requests {
    /// None once the connection around it is going away: that one ends when its streams have, this one's among them.
    fn limit(&self) -> usize {
        match &self.outer {
            Some(outer) if outer.connection().carrier.is_leaving() => 0,
            _ => self.requests.current_max_send_streams(),
        }
    }
}

impl Requests {
    /// Waits until the peer has said whether it carries UDP, and says so.
    async fn takes_udp(&self) -> bool {
        let mut settled = self.settled.subscribe();
        // The sender is our own: it does not end.
        let _ = settled.wait_for(|settled| *settled).await;
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Whether the peer has said that it takes nothing new, or the connection has ended.
    fn is_leaving(&self) -> bool {
        let mut requests = self.requests.clone();
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(requests.poll_ready(&mut nobody), Poll::Ready(Err(_)))
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
        self: &Arc<Self>,
        target: &Target,
        certificate: &Arc<Certified>,
        authority: &str,
        headers: HeaderMap,
    ) -> Result<Opening, Error> {
        let way = Way {
            target: target.clone(),
            gateway: None,
        };
        let request = client::connect_request(authority, headers)?;
        self.open_by(way, certificate, request).await
    }

    /// Asks `target`, by way of `gateway` if one is given, for a tunnel that carries UDP to `destination`.
    ///
    /// # Errors
    /// As [`Pool::open`] and [`Pool::open_through`], and when the peer carries no UDP.
    pub async fn open_datagrams(
        self: &Arc<Self>,
        gateway: Option<&Target>,
        target: &Target,
        certificate: &Arc<Certified>,
        destination: SocketAddr,
        headers: HeaderMap,
    ) -> Result<Opening, Error> {
        let way = Way {
            target: target.clone(),
            gateway: gateway.cloned(),
        };
        let request = client::connect_udp_request(target.address, destination, headers)?;
        self.open_by(way, certificate, request).await
    }

    /// As [`Pool::open`], by a connection to `target` that `gateway` relays, which is asked for `target`'s address and must prove to
    /// be who it is as well. It sees neither `authority` nor `headers`.
    ///
    /// # Errors
    /// As [`Pool::open`]; [`Error::gateway`] tells whether it was the gateway that failed.
    pub async fn open_through(
        self: &Arc<Self>,
        gateway: &Target,
        target: &Target,
        certificate: &Arc<Certified>,
        authority: &str,
        headers: HeaderMap,
    ) -> Result<Opening, Error> {
        let way = Way {
            target: target.clone(),
            gateway: Some(gateway.clone()),
        };
        let request = client::connect_request(authority, headers)?;
        self.open_by(way, certificate, request).await
    }

    async fn open_by(
        self: &Arc<Self>,
        way: Way,
        certificate: &Arc<Certified>,
        request: Request<()>,
    ) -> Result<Opening, Error> {
        if certificate.not_after() <= certificate.now() {
            return Err(Error::new(Stage::Tls, OwnCertificateExpired));
        }
        let extended = request.extensions().get::<Protocol>().is_some();
        let peer = self.peers.peer(&way);
        loop {
            let slot = self.slot(&peer, &way, certificate).await?;
            let connection = slot.connection();
            // What has ended before it could say so is found to have ended below.
            if extended && !connection.carrier.takes_udp().await && !connection.carrier.is_leaving()
            {
                return Err(Error::new(Stage::Http2, NoUdp));
            }
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

    /// No new streams to `address`, or through it: its endpoint is gone. Streams that run may finish.
    pub fn evict(&self, address: SocketAddr) {
        let through = |gateway: &Target| gateway.address == address;
        self.peers.evict(|way| {
            way.target.address == address || way.gateway.as_ref().is_some_and(through)
        });
    }

    /// Streams to `target`, reached directly, that have not ended.
    #[must_use]
    pub fn streams(&self, target: &Target) -> usize {
        self.peers.streams(&Way {
            target: target.clone(),
            gateway: None,
        })
    }

    /// Open connections, for telemetry.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peers.connections()
    }

    /// A place on a connection, opening one when needed.
    async fn slot(
        self: &Arc<Self>,
        peer: &Arc<Peer<Requests>>,
        way: &Way,
        certificate: &Arc<Certified>,
    ) -> Result<Slot, Error> {
        let limits = Limits {
            streams: self.settings.streams_per_connection,
            spread: self.settings.spread,
        };
        let limit = self.settings.handshake_timeout;
        peer.slot(
            limits,
            || certificate.now(),
            || {
                let reaching = match &way.gateway {
                    None => directly(self.sockets.clone(), way.target.address).boxed(),
                    Some(gateway) => self.clone().relayed(
                        gateway.clone(),
                        way.target.address,
                        certificate.clone(),
                    ),
                };
                let dialed = client::dial(
                    self.settings.clone(),
                    way.clone(),
                    certificate.clone(),
                    reaching,
                );
                async move { Ok(drive(dialed.await?, limit)) }.boxed()
            },
        )
        .await
    }

    /// A tunnel to `address` that `gateway` relays. The type is written out, because a connection inside one is opened as one is.
    fn relayed(
        self: Arc<Self>,
        gateway: Target,
        address: SocketAddr,
        certificate: Arc<Certified>,
    ) -> BoxFuture<'static, Result<Reached, Error>> {
        Box::pin(async move {
            let authority = address.to_string();
            let opening = self.open(&gateway, &certificate, &authority, HeaderMap::new());
            let at_gateway = |error: Error| error.at_gateway(gateway.address);
            let opening = opening.await.map_err(at_gateway)?;
            let outer = opening.pending.slot.clone();
            let mut tunnel = Duplex::from(opening);
            // What becomes of it now is the gateway's doing, later the peer's.
            let established = tunnel.established().await;
            established.map_err(|error| at_gateway(Error::in_tunnel(error)))?;
            Ok(Reached {
                outer: Some(outer),
                transport: tunnel.into(),
            })
        })
    }
}

async fn directly(sockets: Sockets, address: SocketAddr) -> Result<Reached, Error> {
    let connected = sockets.connect_to_proxy(address).await;
    let tcp = connected.map_err(|error| Error::new(Stage::Connect, error))?;
    Ok(Reached {
        transport: Transport::Tcp(tcp),
        outer: None,
    })
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
        distance,
        pings,
        not_after,
        outer,
        driver,
    } = dialed;
    let requests = Requests {
        requests,
        opened,
        distance,
        outer,
        settled: watch::Sender::new(false),
    };
    let connection = Connection::new(requests, not_after);
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
    let settled = client::settled(pings, &connection.carrier.requests, limit).await;
    connection.carrier.settled.send_replace(true);
    settled
}

#[derive(Debug, thiserror::Error)]
#[error("our own certificate has expired")]
struct OwnCertificateExpired;

#[derive(Debug, thiserror::Error)]
#[error("the peer carries no UDP (SETTINGS_ENABLE_CONNECT_PROTOCOL is not 1)")]
struct NoUdp;

/// Closes what nobody used for `idle` and measures how far the others lead, until the pool is gone.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.peers.sweep(idle);
        let mut open = Vec::new();
        pool.peers.visit(|it| open.push(it.distance.clone()));
        open.iter().for_each(Distance::measure);
    }
}
