//! The two directions of a connection, which a request and a response use at the same time.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ambit_net::hbone::{DuplexReader, DuplexWriter};
use bytes::BytesMut;
use tokio::io::{self as tokio_io, AsyncReadExt, AsyncWrite};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Io;

/// What comes.
pub(crate) enum ReadHalf {
    Tunnel(DuplexReader),
    Tcp(OwnedReadHalf),
    Other(tokio_io::ReadHalf<Io>),
}

/// What goes.
pub(crate) enum WriteHalf {
    Tunnel(DuplexWriter),
    Tcp(OwnedWriteHalf),
    Other(tokio_io::WriteHalf<Io>),
    /// It was given to somebody else.
    Gone,
}

impl WriteHalf {
    /// Stands where a half was that somebody else has now.
    pub(crate) fn gone() -> Self {
        Self::Gone
    }
}

/// Takes a connection apart.
pub(crate) fn split(io: Io) -> (ReadHalf, WriteHalf) {
    match io {
        Io::Tunnel(io) => {
            let (reader, writer) = io.into_split();
            (ReadHalf::Tunnel(reader), WriteHalf::Tunnel(writer))
        }
        Io::Tcp(io) => {
            let (reader, writer) = io.into_split();
            (ReadHalf::Tcp(reader), WriteHalf::Tcp(writer))
        }
        io => {
            let (reader, writer) = tokio_io::split(io);
            (ReadHalf::Other(reader), WriteHalf::Other(writer))
        }
    }
}

impl ReadHalf {
    /// Reads what is there, `most` bytes or what came in one piece; 0 is the end. While there is nothing, no
    /// memory is held for it.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tunnel(reader) => {
                let Some(piece) = ready!(reader.poll_chunk(cx))? else {
                    return Poll::Ready(Ok(0));
                };
                buffer.extend_from_slice(&piece);
                Poll::Ready(Ok(piece.len()))
            }
            Self::Tcp(reader) => {
                ready!(reader.as_ref().poll_read_ready(cx))?;
                let held = buffer.capacity() > 0;
                buffer.reserve(most);
                // Unlike `try_read`, this one remembers that a read that was not filled has taken everything.
                let read = pin!(reader.read_buf(buffer)).poll(cx);
                if read.is_pending() && !held {
                    *buffer = BytesMut::new();
                }
                read
            }
            Self::Other(reader) => {
                buffer.reserve(most);
                // A read that is given up has taken nothing.
                pin!(reader.read_buf(buffer)).poll(cx)
            }
        }
    }
}

macro_rules! each {
    ($self:expr, $half:ident => $body:expr) => {
        match $self.get_mut() {
            WriteHalf::Tunnel($half) => $body,
            WriteHalf::Tcp($half) => $body,
            WriteHalf::Other($half) => $body,
            WriteHalf::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    };
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, half => Pin::new(half).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, half => Pin::new(half).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tunnel(half) => half.is_write_vectored(),
            Self::Tcp(half) => half.is_write_vectored(),
            Self::Other(half) => half.is_write_vectored(),
            Self::Gone => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, half => Pin::new(half).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, half => Pin::new(half).poll_shutdown(cx))
    }
}
