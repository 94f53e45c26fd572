//! A tunnel as a stream of bytes, for protocols that are spoken inside it.
//!
//! A reader gives room to the peer only as it takes data, a writer waits for the peer's room. A tunnel that
//! is dropped before both directions have ended is reset: what was cut off must not look complete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::Slot;
use super::stream::{Opening, PendingResponse, Stream};

/// Most that is asked of the peer's room at once.
const PIECE: usize = 64 * 1024;

/// A tunnel of either side.
pub struct Duplex {
    send: SendStream<Bytes>,
    receive: Receive,
    /// Received and not taken.
    rest: Bytes,
    send_ended: bool,
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
        Self {
            send,
            receive: Receive::Open(recv, slot),
            rest: Bytes::new(),
            send_ended: false,
        }
    }
}

impl From<Opening> for Duplex {
    fn from(opening: Opening) -> Self {
        let (send, pending) = opening.split();
        Self {
            send,
            receive: Receive::Pending(pending),
            rest: Bytes::new(),
            send_ended: false,
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.rest.is_empty() {
                let length = this.rest.len().min(buf.remaining());
                buf.put_slice(&this.rest[..length]);
                this.rest.advance(length);
                if let Receive::Open(recv, _) = &mut this.receive {
                    // A stream that is over has no window to give back.
                    let _ = recv.flow_control().release_capacity(length);
                }
                return Poll::Ready(Ok(()));
            }
            match &mut this.receive {
                Receive::Pending(pending) => {
                    let (recv, _) = ready!(pending.poll(cx)).map_err(io::Error::other)?;
                    let slot = Some(pending.slot.clone());
                    this.receive = Receive::Open(recv, slot);
                }
                Receive::Open(recv, _) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(data)) => this.rest = data,
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    None => {
                        this.receive = Receive::Ended;
                        return Poll::Ready(Ok(()));
                    }
                },
                Receive::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = buf.len().min(PIECE);
        self.send.reserve_capacity(wanted);
        let room = loop {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => break room.min(wanted),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let piece = Bytes::copy_from_slice(&buf[..room]);
        self.send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(room))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs.iter().filter(|it| !it.is_empty()).collect::<Vec<_>>()[..] {
            [] => Poll::Ready(Ok(0)),
            [one] => self.poll_write(cx, one),
            // Slices of a message travel in one frame.
            ref several => {
                let together = several
                    .iter()
                    .map(|it| &it[..])
                    .collect::<Vec<_>>()
                    .concat();
                self.poll_write(cx, &together)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.send_ended {
            self.send_ended = true;
            self.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        if !self.send_ended {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    let kind = match error.is_reset() {
        true => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
