//! One system call for everything an HTTP/2 connection writes in a turn.
//!
//! HTTP/2 flushes after every frame. [`Deferred`] ignores that; [`Flushing`] polls the connection
//! and flushes once afterwards. Both live in the same task, so the lock is never contended.
//!
//! A turn reads before it writes, and what answers a PING goes ahead of a request that waits to be sent. To a
//! server that drains, the answer says that no request is on its way any more (RFC 9113 section 6.8): it
//! would be lost. So a turn after a new stream writes first.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls;

/// The stream as the HTTP/2 connection sees it.
pub(super) struct Deferred(Arc<Mutex<Shared>>);

/// The other end of a [`Deferred`].
pub(super) struct Flusher(Arc<Mutex<Shared>>);

struct Shared {
    stream: tls::Stream,
    /// Nothing can be read: [`Flushing`] polls again in the same turn.
    writes_only: bool,
}

pub(super) fn deferred(stream: tls::Stream) -> (Deferred, Flusher) {
    let shared = Arc::new(Mutex::new(Shared {
        stream,
        writes_only: false,
    }));
    (Deferred(shared.clone()), Flusher(shared))
}

impl Flusher {
    /// Writes what has been collected. An error shows at the connection's next read or write.
    pub(super) fn flush(&self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.0.lock().stream).poll_flush(cx);
    }
}

/// A client's connection whose writes are flushed after every turn.
pub(super) struct Flushing<C> {
    pub(super) connection: C,
    pub(super) flusher: Flusher,
    /// Streams were opened since the last turn, on the thread of this task.
    pub(super) opened: Arc<AtomicBool>,
}

impl<C: Future + Unpin> Future for Flushing<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        if self.opened.swap(false, Ordering::Relaxed) {
            self.flusher.0.lock().writes_only = true;
            let ended = Pin::new(&mut self.connection).poll(cx);
            self.flusher.0.lock().writes_only = false;
            if ended.is_ready() {
                return ended;
            }
        }
        let result = Pin::new(&mut self.connection).poll(cx);
        self.flusher.flush(cx);
        result
    }
}

impl AsyncRead for Deferred {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        match shared.writes_only {
            true => Poll::Pending,
            false => Pin::new(&mut shared.stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Deferred {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.lock().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.lock().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_shutdown(cx)
    }
}
