//! One system call for everything an HTTP/2 connection writes in a turn.
//!
//! HTTP/2 flushes after every frame. [`Deferred`] ignores that; [`Flushing`] polls the connection
//! and flushes once afterwards. Both live in the same task, so the lock is free but while [`Distance`] is measured.
//!
//! A turn reads before it writes, and what answers a PING goes ahead of a request that waits to be sent. To a
//! server that drains, the answer says that no request is on its way any more (RFC 9113 section 6.8): it
//! would be lost. So a turn after a new stream writes first.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Leaving;
use super::measure::{self, Side};
use crate::sys::round_trip;
use crate::tls;

/// The stream as the HTTP/2 connection sees it.
pub(super) struct Deferred(Arc<Mutex<Shared>>);

/// The other end of a [`Deferred`]. What is measured of a connection at its end is measured when this is dropped.
pub(super) struct Flusher(Arc<Mutex<Shared>>);

/// Tells how far the peer is, while the connection is there.
#[derive(Clone)]
pub(super) struct Distance(Weak<Mutex<Shared>>);

struct Shared {
    stream: tls::Stream,
    /// Nothing can be read: [`Flushing`] polls again in the same turn.
    writes_only: bool,
    /// Of a server.
    leaving: Option<Leaving>,
}

pub(super) fn deferred(stream: tls::Stream, side: Side) -> (Deferred, Flusher) {
    let shared = Arc::new(Mutex::new(Shared {
        stream,
        writes_only: false,
        leaving: (side == Side::Server).then(Leaving::default),
    }));
    (Deferred(shared.clone()), Flusher(shared))
}

impl Flusher {
    /// Writes what has been collected. An error shows at the connection's next read or write.
    pub(super) fn flush(&self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.0.lock().stream).poll_flush(cx);
    }

    pub(super) fn distance(&self) -> Distance {
        Distance(Arc::downgrade(&self.0))
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.0.lock().measure();
    }
}

impl Distance {
    /// Measures it now, unless the connection is at work.
    pub(super) fn measure(&self) {
        if let Some(shared) = self.0.upgrade()
            && let Some(shared) = shared.try_lock()
        {
            shared.measure();
        }
    }
}

impl Shared {
    fn measure(&self) {
        if let Some(time) = self.stream.tcp().and_then(round_trip) {
            measure::round_trip(time);
        }
    }

    /// Reads along what a server writes.
    fn written(&mut self, bytes: &[u8]) {
        if let Some(leaving) = &mut self.leaving {
            leaving.pass(bytes, measure::reached);
        }
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
        let mut shared = self.0.lock();
        let written = ready!(Pin::new(&mut shared.stream).poll_write(cx, buf))?;
        shared.written(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.lock();
        let written = ready!(Pin::new(&mut shared.stream).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let taken = left.min(buf.len());
            shared.written(&buf[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
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
