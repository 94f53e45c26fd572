//! What a session runs over: a socket, or a tunnel inside another session.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::hbone::Duplex;

/// What a session runs over.
pub enum Transport {
    /// A connection of its own.
    Tcp(TcpStream),
    /// A tunnel through a gateway, which sees records alone.
    Tunnel(Box<Duplex>),
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<Duplex> for Transport {
    fn from(tunnel: Duplex) -> Self {
        Self::Tunnel(Box::new(tunnel))
    }
}

impl Transport {
    /// The socket; none of a tunnel.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tunnel(_) => None,
        }
    }

    /// Waits until something may be there to read, before memory is taken for it. A tunnel says so by reading alone.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Tunnel(_) => Poll::Ready(Ok(())),
        }
    }

    /// Writes what fits now, for last words that nobody waits for.
    pub(super) fn write_now(&mut self, bytes: &[u8]) {
        // Whoever is gone is told nothing.
        let _ = match self {
            Self::Tcp(tcp) => tcp.try_write(bytes).map(drop),
            Self::Tunnel(tunnel) => tunnel.write_all(bytes).now_or_never().unwrap_or(Ok(())),
        };
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
        }
    }
}
