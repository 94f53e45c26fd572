//! An established TLS session over TCP, made for bulk: it reads the socket in large pieces,
//! collects records, and writes them with as few system calls as it can.
//!
//! `poll_flush` really flushes. Who writes many small pieces in one go (HTTP/2) defers it; see
//! `hbone::io`.

use std::io::{self, BufRead as _, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use ambit_core::identity::Identity;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Connection, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Error, certified, identity_of};

/// The read buffer starts here, and returns here when the peer is quiet.
const READ_MIN: usize = 8 * 1024;
/// And grows to this while the peer keeps filling it.
const READ_MAX: usize = 256 * 1024;
/// Encrypted bytes collected before a write waits for the socket.
const WRITE_HIGH: usize = 256 * 1024;

/// A TLS session whose handshake is done.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    session: Connection,
    input: Input,
    /// Plaintext accepted since the session's output was last empty.
    unsent: usize,
}

impl Stream {
    /// Completes a handshake as a client. `peer` keys the session tickets.
    ///
    /// # Errors
    /// When the socket fails, the peer is not who is expected, or does not agree on `h2`.
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        peer: ServerName<'static>,
    ) -> io::Result<Self> {
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(peer, tcp)
            .await
            .map_err(in_plain_words)?;
        let (tcp, session) = stream.into_inner();
        Self::established(tcp, session.into())
    }

    /// Completes a handshake as a server.
    ///
    /// # Errors
    /// When the socket fails, the peer is refused, or does not agree on `h2`.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let stream = tokio_rustls::TlsAcceptor::from(config)
            .accept(tcp)
            .await
            .map_err(in_plain_words)?;
        let (tcp, session) = stream.into_inner();
        Self::established(tcp, session.into())
    }

    fn established(tcp: TcpStream, mut session: Connection) -> io::Result<Self> {
        if session.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the TLS peer did not negotiate ALPN h2",
            ));
        }
        session.set_buffer_limit(None);
        Ok(Self {
            tcp,
            session,
            input: Input::default(),
            unsent: 0,
        })
    }

    /// Who the peer is, by its verified certificate.
    ///
    /// A resumed session skips the chain check, so the dates are judged here, at `now`.
    ///
    /// # Errors
    /// When the peer showed no certificate, or one that is not valid at `now`.
    pub fn peer_identity(&self, now: SystemTime) -> Result<Identity, Error> {
        let leaf = self.peer_certificate().ok_or(Error::UriCount(0))?;
        certified::check_dates(leaf, now)?;
        identity_of(leaf)
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
        self.session.peer_certificates()?.first()
    }

    /// The socket underneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = SocketWriter {
                tcp: &mut self.tcp,
                cx,
            };
            match self.session.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent = 0;
        Poll::Ready(Ok(()))
    }

    /// Moves buffered ciphertext into the session until it has plaintext or the buffer is empty.
    fn decrypt(&mut self) -> io::Result<()> {
        while self.session.wants_read() && !self.input.filled().is_empty() {
            let taken = self.session.read_tls(&mut self.input.filled())?;
            self.input.consume(taken);
            self.session
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(())
    }
}

/// What the mesh's own verifiers object to, in their words: rustls shows them as debug output.
fn in_plain_words(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref());
    match refused {
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
            match this.session.reader().into_first_chunk() {
                Ok([]) => return Poll::Ready(Ok(())),
                Ok(chunk) => {
                    let n = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..n]);
                    this.session.reader().consume(n);
                    if buf.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if this.input.filled().is_empty() {
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                if ready!(this.input.poll_fill(&mut this.tcp, cx))? == 0 {
                    this.session.read_tls(&mut io::empty())?;
                }
            }
            if let Err(error) = this.decrypt() {
                // The alert that explains it; the read error is what counts.
                let _ = this.poll_send(cx);
                return Poll::Ready(Err(error));
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
        if this.unsent >= WRITE_HIGH {
            ready!(this.poll_send(cx))?;
        }
        let written = this.session.writer().write_vectored(bufs)?;
        this.unsent += written;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.send_close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

/// Ciphertext read ahead. Empty, it holds no memory.
#[derive(Debug, Default)]
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    next_size: usize,
}

impl Input {
    fn filled(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }

    /// Reads into the empty buffer; 0 is the end.
    fn poll_fill(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.start = 0;
        self.end = 0;
        loop {
            ready!(self.poll_ready(tcp, cx))?;
            let size = self.next_size.max(READ_MIN);
            if self.buffer.len() != size {
                self.buffer = vec![0; size];
            }
            match tcp.try_read(&mut self.buffer) {
                Ok(n) => {
                    self.end = n;
                    if n == size {
                        self.next_size = (size * 4).min(READ_MAX);
                    } else if n < size / 4 {
                        self.next_size = (size / 4).max(READ_MIN);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_ready(&mut self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = tcp.poll_read_ready(cx);
        if ready.is_pending() {
            *self = Self::default();
        }
        ready
    }
}

/// A task's view of the socket, for rustls.
struct SocketWriter<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Write for SocketWriter<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        block(Pin::new(&mut *self.tcp).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        block(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn block(result: Poll<io::Result<usize>>) -> io::Result<usize> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
