//! A client's socket: replays the bytes that detection read, and can be closed with a reset.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Asks for the connection to be closed with RST instead of FIN.
#[derive(Debug, Clone, Default)]
pub(super) struct Reset(Arc<(AtomicBool, Notify)>);

impl Reset {
    /// From now on closing the socket resets the connection; wakes [`Reset::wanted`].
    pub(super) fn trigger(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify_one();
    }

    /// Waits until somebody triggers.
    pub(super) async fn wanted(&self) {
        self.0.1.notified().await;
    }

    fn is_wanted(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }
}

/// The two ends of a connection, IPv4 in its own form on dual-stack sockets too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
}

/// The socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    head: BytesMut,
    reset: Reset,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: BytesMut::new(),
            reset: Reset::default(),
        }
    }

    pub(super) fn ends(&self) -> io::Result<Ends> {
        Ok(Ends {
            remote: canonical(self.stream.peer_addr()?),
            local: canonical(self.stream.local_addr()?),
        })
    }

    pub(super) fn reset(&self) -> Reset {
        self.reset.clone()
    }

    /// Bytes read by [`Socket::read_head`] and not yet taken.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Drops the first `count` bytes of the head.
    pub(super) fn skip(&mut self, count: usize) {
        self.head.advance(count);
    }

    /// Reads more bytes into the head, at most up to `limit`; false at the end of the stream.
    pub(super) async fn read_head(&mut self, limit: usize) -> io::Result<bool> {
        let room = limit.saturating_sub(self.head.len()).max(1);
        self.head.reserve(room);
        let read = (&mut self.stream)
            .take(room as u64)
            .read_buf(&mut self.head)
            .await?;
        Ok(read > 0)
    }

    /// Waits until the peer has sent something or is gone, without reading it.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.head.is_empty() {
            self.stream.readable().await
        } else {
            Ok(())
        }
    }

    /// Waits until the peer has ended its stream or the connection broke, reading nothing.
    pub(super) async fn gone(&self) {
        let interest = Interest::READABLE | Interest::ERROR;
        while let Ok(ready) = self.stream.ready(interest).await {
            if ready.is_error() || ready.is_read_closed() {
                return;
            }
            // Data that stays unread would keep the socket ready: forget it, so that only news wakes us.
            let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.stream.try_io(Interest::READABLE, forget);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.is_wanted() {
            // Nothing can be done when the connection is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.head.is_empty() {
            let count = self.head.len().min(buffer.remaining());
            buffer.put_slice(&self.head.split_to(count));
            if self.head.is_empty() {
                self.head = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
