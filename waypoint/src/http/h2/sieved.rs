//! What a client sends, before `h2` reads it.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambit_http::h2fields::Sieve;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose reader sees no field that is none: see [`ambit_http::h2fields`]. What is written goes on as it is.
pub(super) struct Sieved<T> {
    io: T,
    sieve: Sieve,
}

impl<T> Sieved<T> {
    /// Nothing has been read from `io` yet.
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            sieve: Sieve::default(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Sieved<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, sieve } = self.get_mut();
        let before = buf.filled().len();
        loop {
            buf.put_slice(&sieve.taken(buf.remaining()));
            // To return with nothing would be the end.
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut *io).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                sieve.end();
                buf.put_slice(&sieve.taken(buf.remaining()));
                return Poll::Ready(Ok(()));
            }
            let straight = sieve.look(read);
            buf.set_filled(before + straight);
            if straight > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Sieved<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
