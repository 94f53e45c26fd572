//! Moving bytes between a TCP connection and a tunnel, or between two TCP connections.
//!
//! Idle connections hold no buffer: one is taken when the socket has data, grows while it is
//! filled, and is given up when the socket runs dry. Half-close and reset are carried across; what is half
//! closed and idle for long is given up.

mod half_closed;
mod tcp;
mod tunnel;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ambit_core::hbone::datagram::CapsuleError;
use bytes::{BufMut, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

pub use tcp::relay_tcp;
pub use tunnel::{Far, relay_tunnel};

use crate::hbone;

/// Bytes moved so far; read it while the relay runs.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    /// Bytes from the near side (the first argument of a relay) to the far side.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes from the far side to the near side.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// So many more from the near side to the far side.
    pub fn add_sent(&self, n: usize) {
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// So many more from the far side to the near side.
    pub fn add_received(&self, n: usize) {
        self.received.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// How a relay broke. A relay that ends well returns nothing: both sides closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The near TCP connection.
    #[error("near side: {0}")]
    Near(#[source] io::Error),
    /// The far TCP connection.
    #[error("far side: {0}")]
    Far(#[source] io::Error),
    /// The tunnel was not agreed on.
    #[error(transparent)]
    Tunnel(#[from] hbone::Error),
    /// The tunnel broke, or the peer reset it.
    #[error("tunnel: {0}")]
    Stream(#[source] h2::Error),
    /// What came in a tunnel that carries UDP is no capsules.
    #[error("tunnel: {0}")]
    Capsules(#[from] CapsuleError),
    /// One direction had ended, and nothing came the other way for so long.
    #[error("half closed, and idle for {0:?}")]
    HalfClosed(Duration),
}

/// The first read of a connection, and of every burst.
const BUFFER_MIN: usize = 4 * 1024;
/// Reads grow to this.
const BUFFER_MAX: usize = 256 * 1024;

/// Reads a socket in pieces that grow with the traffic.
struct Reader {
    buffer: BytesMut,
    size: usize,
}

impl Reader {
    fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            size: BUFFER_MIN,
        }
    }

    /// The next piece, at most `limit` bytes; empty is the end. While nothing is there, no buffer
    /// is kept.
    ///
    /// tokio's own `poll_read` knows that a read that left room has emptied the socket; with
    /// `try_read` every turn would end in a system call that says so.
    fn poll_read(
        &mut self,
        socket: &mut ReadHalf<'_>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<BytesMut>> {
        if self.poll_readable(socket, cx)?.is_pending() {
            return Poll::Pending;
        }
        let size = self.size.min(limit);
        self.buffer.reserve(size);
        let mut space = (&mut self.buffer).limit(size);
        let n = match pin!(socket.read_buf(&mut space)).poll(cx) {
            Poll::Ready(n) => n?,
            Poll::Pending => {
                self.buffer = BytesMut::new();
                return Poll::Pending;
            }
        };
        if n == self.size {
            self.size = (self.size * 4).min(BUFFER_MAX);
        } else if n < self.size / 4 {
            self.size = (self.size / 4).max(BUFFER_MIN);
        }
        Poll::Ready(Ok(self.buffer.split()))
    }

    /// Whether there is something to read; if not, the buffer is given up.
    fn poll_readable(
        &mut self,
        socket: &ReadHalf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let readable = socket.as_ref().poll_read_ready(cx);
        if readable.is_pending() {
            self.buffer = BytesMut::new();
        }
        readable
    }
}

/// A connection that is reset when it is dropped before both directions have ended: what was cut
/// off, by an error or by whoever stopped the relay, must not look complete.
struct Unfinished {
    socket: TcpStream,
    ended: bool,
}

impl Unfinished {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            ended: false,
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only on a socket that is gone already.
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
