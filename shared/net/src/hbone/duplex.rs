//! A tunnel as two streams of bytes, for protocols that are spoken inside it.
//!
//! A reader gives room to the peer only as it takes data, a writer waits for the peer's room. A tunnel whose
//! writer is dropped before it was shut down is reset: what was cut off must not look complete.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::Slot;
use super::stream::{Opening, PendingResponse, Stream};
use crate::relay::Counters;

/// Most that is asked of the peer's room at once.
const PIECE: usize = 64 * 1024;

/// A tunnel of either side.
pub struct Duplex {
    reader: DuplexReader,
    writer: DuplexWriter,
}

/// What comes.
pub struct DuplexReader {
    receive: Receive,
    /// Received and not taken.
    rest: Bytes,
    counters: Arc<Counters>,
}

/// What goes. Dropping it before it was shut down resets the tunnel.
pub struct DuplexWriter {
    send: SendStream<Bytes>,
    ended: bool,
    counters: Arc<Counters>,
}

enum Receive {
    /// The peer has not agreed yet; what is written goes out all the same.
    Pending(PendingResponse),
    /// With its place on the connection, which ends with it.
    Open(
        RecvStream,
        #[expect(dead_code, reason = "held")] Option<Arc<Slot>>,
    ),
    Ended,
}

impl From<Stream> for Duplex {
    fn from(stream: Stream) -> Self {
        let (send, recv, slot) = stream.split();
        Self::new(send, Receive::Open(recv, slot))
    }
}

impl From<Opening> for Duplex {
    fn from(opening: Opening) -> Self {
        let (send, pending) = opening.split();
        Self::new(send, Receive::Pending(pending))
    }
}

impl Duplex {
    fn new(send: SendStream<Bytes>, receive: Receive) -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            reader: DuplexReader {
                receive,
                rest: Bytes::new(),
                counters: counters.clone(),
            },
            writer: DuplexWriter {
                send,
                ended: false,
                counters,
            },
        }
    }

    /// What it counts in: bytes sent to the peer and received from it.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.writer.counters.clone()
    }

    /// Waits for the peer's answer to CONNECT. Reading does so as well; this is for who must not write before.
    ///
    /// # Errors
    /// The tunnel was refused or broke off.
    pub async fn established(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.reader.poll_established(cx)).await
    }

    /// Its two directions.
    #[must_use]
    pub fn into_split(self) -> (DuplexReader, DuplexWriter) {
        (self.reader, self.writer)
    }
}

impl DuplexReader {
    fn poll_established(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Receive::Pending(pending) = &mut self.receive {
            let (recv, _) = ready!(pending.poll(cx)).map_err(io::Error::other)?;
            let slot = Some(pending.slot.clone());
            self.receive = Receive::Open(recv, slot);
        }
        Poll::Ready(Ok(()))
    }

    /// What has come, as it came; `None` at the end. The peer gets room for as much again.
    ///
    /// # Errors
    /// The tunnel was refused or broke off.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Ok(Some(rest)));
        }
        loop {
            match &mut self.receive {
                Receive::Pending(_) => ready!(self.poll_established(cx))?,
                Receive::Open(recv, _) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(data)) if data.is_empty() => {}
                    Some(Ok(data)) => {
                        // A stream that is over has no window to give back.
                        let _ = recv.flow_control().release_capacity(data.len());
                        self.counters.add_received(data.len());
                        return Poll::Ready(Ok(Some(data)));
                    }
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    None => self.receive = Receive::Ended,
                },
                Receive::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl AsyncRead for DuplexReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut data) = ready!(self.poll_chunk(cx))? else {
            return Poll::Ready(Ok(()));
        };
        let length = data.len().min(buf.remaining());
        buf.put_slice(&data[..length]);
        data.advance(length);
        self.rest = data;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DuplexWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, buf.len()))?;
        let piece = Bytes::copy_from_slice(&buf[..room]);
        self.send.send_data(piece, false).map_err(broken)?;
        self.counters.add_sent(room);
        Poll::Ready(Ok(room))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = bufs.iter().map(|it| it.len()).sum();
        if all == 0 {
            return Poll::Ready(Ok(0));
        }
        // Slices of a message travel in one frame.
        let room = ready!(self.poll_room(cx, all))?;
        let mut piece = Vec::with_capacity(room);
        for buf in bufs {
            let fits = buf.len().min(room - piece.len());
            piece.extend_from_slice(&buf[..fits]);
        }
        self.send.send_data(piece.into(), false).map_err(broken)?;
        self.counters.add_sent(room);
        Poll::Ready(Ok(room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.ended = true;
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl DuplexWriter {
    /// How much of `wanted` the peer has room for; at least 1.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let wanted = wanted.min(PIECE);
        self.send.reserve_capacity(wanted);
        loop {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => return Poll::Ready(Ok(room.min(wanted))),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

impl Drop for DuplexWriter {
    fn drop(&mut self) {
        if !self.ended {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

fn broken(error: h2::Error) -> io::Error {
    let kind = match error.is_reset() {
        true => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
