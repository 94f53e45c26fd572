//! An established TLS session, made for bulk: it reads the socket in large pieces,
//! collects records, and writes them with as few system calls as it can.
//!
//! `poll_flush` really flushes. Who writes many small pieces in one go (HTTP/2) defers it; see
//! `hbone::io`.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::buffer::{Input, Output};
use super::record::{self, HEADER};
use super::traffic::{Plaintext, Traffic};
use super::transport::Transport;
use super::{Error, certified, handshake, identity_of};

/// A TLS session whose handshake is done.
pub struct Stream {
    transport: Transport,
    /// When its handshake did.
    begun: Instant,
    traffic: Traffic,
    peer: Arc<[CertificateDer<'static>]>,
    input: Input,
    /// What is left of the first record in `input`, which is open, and where.
    opened: Option<Opened>,
    output: Output,
}

/// A record that is open, in its place.
struct Opened {
    /// All of it.
    record: usize,
    /// The data in it that was not given away yet.
    data: Range<usize>,
}

impl Stream {
    /// Completes a handshake as a client. `peer` keys the session tickets.
    ///
    /// # Errors
    /// When the socket fails, the peer is not who is expected, or does not agree on `h2`.
    pub async fn connect(
        transport: impl Into<Transport>,
        config: Arc<ClientConfig>,
        peer: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(config, peer).map_err(io::Error::other)?;
        Self::establish(transport.into(), session).await
    }

    /// Completes a handshake as a server.
    ///
    /// # Errors
    /// When the socket fails, the peer is refused, or does not agree on `h2`.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Self::establish(tcp.into(), session).await
    }

    async fn establish(
        mut transport: Transport,
        session: impl handshake::Session,
    ) -> io::Result<Self> {
        let begun = Instant::now();
        let done = handshake::complete(&mut transport, session).await;
        let done = done.map_err(in_plain_words)?;
        Ok(Self {
            transport,
            begun,
            traffic: done.traffic,
            peer: done.peer,
            input: Input::new(done.read),
            opened: None,
            output: Output::new(),
        })
    }

    /// Who the peer is, by its verified certificate, settled: under the own one of the trust domain's names.
    ///
    /// A resumed session skips the chain check, so the dates are judged here, at `now`.
    ///
    /// # Errors
    /// When the peer showed no certificate, or one that is not valid at `now`.
    pub(super) fn peer_identity(
        &self,
        names: &TrustDomains,
        now: SystemTime,
    ) -> Result<Identity, Error> {
        let leaf = self.peer_certificate().ok_or(Error::UriCount(0))?;
        certified::check_dates(leaf, now)?;
        Ok(names.settle(identity_of(leaf)?))
    }

    /// Until when the peer's certificate is valid.
    ///
    /// # Errors
    /// When the peer showed no certificate, or one that is not valid at `now`.
    pub fn peer_not_after(&self, now: SystemTime) -> Result<SystemTime, Error> {
        let leaf = self.peer_certificate().ok_or(Error::UriCount(0))?;
        certified::check_dates(leaf, now)
    }

    /// The peer's leaf certificate.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.peer.first()
    }

    /// The certificates that the peer has shown, the leaf first.
    pub(super) fn peer_chain(&self) -> &Arc<[CertificateDer<'static>]> {
        &self.peer
    }

    /// When its handshake began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// The socket underneath; none when the session is in a tunnel.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        self.transport.tcp()
    }

    /// Opens the next record: into `buf` if that has room for it, else in its place. `false` when
    /// it is not all there yet.
    fn open_next(&mut self, buf: &mut ReadBuf<'_>) -> Result<bool, rustls::Error> {
        let bytes = self.input.bytes();
        let Some(length) = record::length(bytes)?.filter(|length| *length <= bytes.len()) else {
            return Ok(false);
        };
        let record = &mut bytes[..length];
        let room = record::room(length);
        if buf.remaining() >= room {
            let out = buf.initialize_unfilled_to(room);
            let n = self.traffic.receive_into(record, out)?;
            buf.advance(n);
            self.input.consume(length);
        } else {
            let n = self.traffic.receive(record)?;
            self.opened = Some(Opened {
                record: length,
                data: HEADER..HEADER + n,
            });
        }
        Ok(true)
    }

    /// Gives away what is left of the record that is open in its place.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        let n = opened.data.len().min(buf.remaining());
        let now = opened.data.start..opened.data.start + n;
        buf.put_slice(&self.input.bytes()[now]);
        opened.data.start += n;
        if opened.data.is_empty() {
            self.input.consume(opened.record);
            self.opened = None;
        }
    }
}

/// What the mesh's own verifiers object to, in their words: rustls shows them as debug output.
fn in_plain_words(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref());
    match refused {
        Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => Error::Revoked.into(),
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(reason))) => io::Error::new(
            error.kind(),
            format!("invalid peer certificate: {}", reason.0),
        ),
        _ => error,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            this.give(buf);
            if buf.remaining() == 0 || this.traffic.has_ended() {
                return Poll::Ready(Ok(()));
            }
            match this.open_next(buf) {
                Ok(true) => {}
                Ok(false) if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Ok(false) => {
                    if ready!(this.input.poll_fill(&mut this.transport, cx))? == 0 {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the peer left without an end of the TLS session",
                        )));
                    }
                }
                Err(error) => {
                    this.traffic.fail(&error, &mut this.output);
                    // The alert that explains it; the read error is what counts.
                    let _ = this.output.poll_write(&mut this.transport, cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut plaintext = Plaintext::new(bufs);
        let all = plaintext.left();
        while plaintext.left() > 0 {
            if this.output.is_full() {
                match this.output.poll_write(&mut this.transport, cx)? {
                    Poll::Ready(()) => {}
                    Poll::Pending if plaintext.left() < all => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let sent = this.traffic.send(&mut plaintext, &mut this.output);
            sent.map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(all - plaintext.left()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.output.poll_write(&mut this.transport, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ended = this.traffic.end(&mut this.output);
        ended.map_err(io::Error::other)?;
        ready!(this.output.poll_write(&mut this.transport, cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}
