//! One HBONE connection from the client's side: TCP, TLS, HTTP/2.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use ambit_core::hbone::datagram;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{Ping, PingPong};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::TimedOut;
use super::expiry::Expiry;
use super::io::{Distance, Flushing, deferred};
use super::measure::{self, Side};
use super::pool::{Slot, Way};
use super::window::{Windows, windows};
use super::{CAPSULE_PROTOCOL, Error, Settings, Stage};
use crate::sys::round_trip;
use crate::tls::{self, Certified, Transport};

/// A connection that takes streams.
pub(super) struct Dialed<D> {
    pub(super) requests: SendRequest<Bytes>,
    /// To be set whenever a stream was opened.
    pub(super) opened: Arc<AtomicBool>,
    pub(super) distance: Distance,
    /// For [`settled`].
    pub(super) pings: PingPong,
    /// Until when the certificates of both ends are valid.
    pub(super) not_after: SystemTime,
    /// The place of the tunnel that it is in, if it is in one.
    pub(super) outer: Option<Arc<Slot>>,
    /// The connection's work; ends with it.
    pub(super) driver: D,
}

/// What a connection begins with.
pub(super) struct Reached {
    pub(super) transport: Transport,
    /// The place of the tunnel that it is in, if it is in one.
    pub(super) outer: Option<Arc<Slot>>,
}

/// How the peer is reached.
pub(super) type Reaching = BoxFuture<'static, Result<Reached, Error>>;

/// Connects to the end of `way`.
pub(super) async fn dial(
    settings: Settings,
    way: Way,
    certificate: Arc<Certified>,
    reaching: Reaching,
) -> Result<Dialed<impl Future<Output = ()> + Send + 'static>, Error> {
    let begun = Instant::now();
    let deadline = Deadline {
        at: begun + settings.handshake_timeout,
        settings: &settings,
    };
    let Way { target, gateway } = way;
    let config = certificate
        .client_config(&target.identities)
        .map_err(|error| Error::new(Stage::Tls, error))?;
    let Reached { transport, outer } = match timeout_at(deadline.at, reaching).await {
        Ok(reached) => reached?,
        Err(_) => {
            let late = Error::new(Stage::Connect, TimedOut(settings.handshake_timeout));
            return Err(match &gateway {
                Some(gateway) => late.at_gateway(gateway.address),
                None => late,
            });
        }
    };
    let peer = ServerName::IpAddress(target.address.ip().into());
    let tls = deadline
        .run(Stage::Tls, tls::Stream::connect(transport, config, peer))
        .await?;
    let refused = |error| Error::new(Stage::Tls, error);
    certificate.check(&tls).map_err(refused)?;
    let revoked = certificate.until_revoked(&tls);
    let now = certificate.now();
    let not_after = tls
        .peer_not_after(now)
        .map_err(refused)?
        .min(certificate.not_after());
    // It ends with the tunnel that it is in.
    let not_after = match &outer {
        Some(outer) => not_after.min(outer.connection().not_after()),
        None => not_after,
    };
    let expiry = Expiry::new(not_after, now, settings.expired_grace);
    let streams = u32::try_from(settings.streams_per_connection).unwrap_or(u32::MAX);
    let windows = windows(&settings, tls.tcp().and_then(round_trip), streams);
    let (io, flusher) = deferred(tls, Side::Client);
    let distance = flusher.distance();
    let (requests, mut connection) = deadline
        .run(
            Stage::Http2,
            builder(&settings, windows).handshake::<_, Bytes>(io),
        )
        .await?;
    measure::ready(Side::Client, begun.elapsed());
    let pings = connection.ping_pong().expect("nobody has taken it");
    let opened = Arc::<AtomicBool>::default();
    let turns = Flushing {
        connection,
        flusher,
        opened: opened.clone(),
    };
    let driver = async move {
        let ended = tokio::select! {
            ended = turns => ended,
            () = expiry.over() => {
                tracing::info!(peer = %target.address, "HBONE connection closed: a certificate of it has expired");
                return;
            }
            revoked = revoked => {
                tracing::info!(peer = %target.address, %revoked, "HBONE connection closed: its peer is not believed any longer");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %target.address, %error, "HBONE connection ended");
        }
    };
    Ok(Dialed {
        requests,
        opened,
        distance,
        pings,
        not_after,
        outer,
        driver,
    })
}

/// Waits until `requests` knows how many streams the peer takes. Its SETTINGS say so; they are the first that it
/// sends (RFC 9113 section 3.4), so they have come when it has answered a PING.
///
/// # Errors
/// When the connection ends, the answer takes longer than `limit`, or the peer takes no streams.
pub(super) async fn settled(
    mut pings: PingPong,
    requests: &SendRequest<Bytes>,
    limit: Duration,
) -> Result<(), Error> {
    let Ok(answer) = timeout(limit, pings.ping(Ping::opaque())).await else {
        return Err(Error::new(Stage::Http2, TimedOut(limit)));
    };
    if let Err(ended) = answer {
        return Err(Error::new(Stage::Http2, cause(requests, ended).await));
    }
    match requests.current_max_send_streams() {
        0 => Err(Error::new(Stage::Http2, NoStreams)),
        _ => Ok(()),
    }
}

/// What ended the connection of `requests`.
async fn cause(requests: &SendRequest<Bytes>, ended: h2::Error) -> h2::Error {
    let mut requests = requests.clone();
    let ready = std::future::poll_fn(|cx| requests.poll_ready(cx)).await;
    ready.err().unwrap_or(ended)
}

#[derive(Debug, thiserror::Error)]
#[error("the peer takes no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0)")]
struct NoStreams;

/// `CONNECT authority`.
pub(super) fn connect_request(authority: &str, headers: HeaderMap) -> Result<Request<()>, Error> {
    let uri: Uri = authority
        .parse()
        .map_err(|error| Error::new(Stage::Open, error))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// An extended CONNECT of `peer` for UDP to `target` (RFC 9298 section 3.4).
pub(super) fn connect_udp_request(
    peer: SocketAddr,
    target: SocketAddr,
    headers: HeaderMap,
) -> Result<Request<()>, Error> {
    let uri = format!("https://{peer}{}", datagram::path(target));
    let mut request = connect_request(&uri, headers)?;
    request
        .extensions_mut()
        .insert(Protocol::from_static(datagram::CONNECT_UDP));
    let headers = request.headers_mut();
    headers.insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
    Ok(request)
}

struct Deadline<'a> {
    at: Instant,
    settings: &'a Settings,
}

impl Deadline<'_> {
    async fn run<T, E>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        match timeout_at(self.at, work).await {
            Ok(result) => result.map_err(|error| Error::new(stage, error)),
            Err(_) => Err(Error::new(stage, TimedOut(self.settings.handshake_timeout))),
        }
    }
}

fn builder(settings: &Settings, windows: Windows) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(settings.frame_size)
        .max_header_list_size(settings.max_headers)
        // Until the peer says how many it takes; see `settled`.
        .initial_max_send_streams(1)
        .enable_push(false);
    builder
}
