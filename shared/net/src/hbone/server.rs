//! Accepting tunnels.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ambit_core::hbone::datagram::{self, PathError};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use super::expiry::Expiry;
use super::io::deferred;
use super::measure::{self, Side};
use super::window::{Windows, windows};
use super::{CAPSULE_PROTOCOL, Settings, Stream};
use crate::revocation::Revoked;
use crate::sys::round_trip;
use crate::tls;

/// A peer's request for a tunnel. Dropping it resets the stream.
pub struct Connect {
    request: Request<()>,
    recv: RecvStream,
    respond: SendResponse<Bytes>,
    ending: watch::Receiver<bool>,
}

/// How a connection ended that did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing came after TLS.
    #[error("the peer has not begun to speak HTTP/2 within {0:?}")]
    Silent(Duration),
    /// What came after TLS is not HTTP/2.
    #[error("the peer does not speak HTTP/2: {0}")]
    Handshake(h2::Error),
    /// It broke, or outlasted the peer's certificate.
    #[error(transparent)]
    Broken(#[from] h2::Error),
}

/// Serves one HBONE connection, of which TLS was done at `now`, until the peer leaves, or the last tunnel has ended after `drain`
/// became true, the peer's certificate expired or the connection is of age; at once when the peer's certificate is `revoked`. `on_connect` gets every
/// CONNECT and must not block; other methods are answered 400.
///
/// # Errors
/// When the handshake takes too long, the connection breaks, or tunnels outlast the peer's
/// certificate by more than [`Settings::expired_grace`].
pub async fn serve(
    stream: tls::Stream,
    settings: &Settings,
    now: SystemTime,
    mut drain: watch::Receiver<bool>,
    revoked: impl Future<Output = Revoked>,
    mut on_connect: impl FnMut(Connect),
) -> Result<(), Error> {
    // Whoever comes with a certificate that is none, or is expired, is drained at once.
    let not_after = stream.peer_not_after(now).unwrap_or(now);
    let expiry = Expiry::new(not_after, now, settings.expired_grace);
    let windows = windows(
        settings,
        stream.tcp().and_then(round_trip),
        settings.max_streams,
    );
    let begun = stream.begun();
    let (io, flusher) = deferred(stream, Side::Server);
    let mut handshake = std::pin::pin!(builder(settings, windows).handshake::<_, Bytes>(io));
    let mut connection = tokio::time::timeout(
        settings.handshake_timeout,
        poll_fn(|cx| {
            let result = handshake.as_mut().poll(cx);
            flusher.flush(cx);
            result
        }),
    )
    .await
    .map_err(|_| Error::Silent(settings.handshake_timeout))?
    .map_err(Error::Handshake)?;
    measure::ready(Side::Server, begun.elapsed());

    let mut drained = std::pin::pin!(async {
        tokio::select! {
            _ = drain.wait_for(|drain| *drain) => {}
            () = expiry.passed() => {}
            () = of_age(settings.connection_age) => {}
        }
    });
    let mut over = std::pin::pin!(expiry.over());
    let mut revoked = std::pin::pin!(async {
        let revoked = revoked.await;
        tracing::info!(%revoked, "HBONE connection closed: its peer is not believed any longer");
    });
    let ending = watch::Sender::new(false);
    let (mut draining, mut cut) = (false, false);
    loop {
        let accepted = poll_fn(|cx| {
            if !cut && revoked.as_mut().poll(cx).is_ready() {
                // A peer that does not read holds nothing up.
                return Poll::Ready(None);
            }
            if !draining && drained.as_mut().poll(cx).is_ready() {
                draining = true;
                ending.send_replace(true);
                connection.graceful_shutdown();
            }
            if draining && !cut && over.as_mut().poll(cx).is_ready() {
                cut = true;
                connection.abrupt_shutdown(Reason::INADEQUATE_SECURITY);
            }
            let accepted = connection.poll_accept(cx);
            flusher.flush(cx);
            accepted
        });
        let Some(accepted) = accepted.await else {
            return Ok(());
        };
        let (request, respond) = accepted?;
        let (head, recv) = request.into_parts();
        let connect = Connect {
            request: Request::from_parts(head, ()),
            recv,
            respond,
            ending: ending.subscribe(),
        };
        match connect.protocol() {
            _ if connect.request.method() != Method::CONNECT => {
                connect.refuse(StatusCode::BAD_REQUEST);
            }
            None | Some(datagram::CONNECT_UDP) => on_connect(connect),
            // RFC 9220 section 3.
            Some(_) => connect.refuse(StatusCode::NOT_IMPLEMENTED),
        }
    }
}

/// Waits until about `age`: connections that were opened together do not end together.
async fn of_age(age: Option<Duration>) {
    match age {
        Some(age) => tokio::time::sleep(age.mul_f64(rand::random_range(0.9..1.1))).await,
        None => std::future::pending().await,
    }
}

fn builder(settings: &Settings, windows: Windows) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(settings.frame_size)
        .max_header_list_size(settings.max_headers)
        .max_concurrent_streams(settings.max_streams);
    if settings.takes_udp {
        builder.enable_connect_protocol();
    }
    builder
}

impl Connect {
    /// Where to: the `:authority` as the peer wrote it; empty when it wrote none.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    /// Where UDP is to go, when that is what it asks for and not a connection. Only peers of a server whose settings
    /// offer it can.
    #[must_use]
    pub fn datagrams(&self) -> Option<Result<SocketAddr, PathError>> {
        self.protocol()?;
        Some(datagram::parse_path(self.request.uri().path()))
    }

    /// The `:protocol` of an extended CONNECT.
    fn protocol(&self) -> Option<&str> {
        let protocol = self.request.extensions().get::<Protocol>();
        protocol.map(Protocol::as_str)
    }

    /// What else it said. Telemetry only: identity comes from the certificate.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Becomes true when the connection takes no more tunnels: what can end in this one does well to end soon.
    #[must_use]
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.clone()
    }

    /// Answers with `status` and ends the stream.
    pub fn refuse(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        // A peer that is gone needs no answer. Once the rest is dropped, HTTP/2 follows up with
        // RST_STREAM NO_ERROR: the request's data is not wanted (RFC 9113 section 8.1).
        let _ = self.respond.send_response(response, true);
    }

    /// Agrees.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn accept(mut self, headers: HeaderMap) -> Result<Stream, h2::Error> {
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        if self.protocol().is_some() {
            let yes = HeaderValue::from_static("?1");
            response.headers_mut().insert(CAPSULE_PROTOCOL, yes);
        }
        let send = self.respond.send_response(response, false)?;
        Ok(Stream {
            send,
            recv: self.recv,
            slot: None,
        })
    }
}
