//! TCP to an HTTP/2 stream.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::half_closed::both;
use super::{Counters, Error, Reader, Unfinished};
use crate::hbone::{Opening, PendingResponse, Slot, Stream};

/// The tunnel's side of a relay.
pub enum Far {
    /// Not yet agreed on: data is sent at once.
    Opening(Opening),
    /// Agreed on.
    Established(Stream),
}

/// Joins a TCP connection and a tunnel until both directions have ended, or only one has and the other is idle for
/// `half_closed`. `on_response` sees the peer's response headers once, when it agrees.
///
/// # Errors
/// When the tunnel is refused or one side breaks, the other is then reset; or when both are given up, and reset.
pub async fn relay_tunnel(
    near: TcpStream,
    far: Far,
    counters: &Counters,
    half_closed: Duration,
    on_response: impl FnOnce(&HeaderMap),
) -> Result<(), Error> {
    let (mut send, mut receive) = match far {
        Far::Opening(opening) => {
            let (send, pending) = opening.split();
            (send, Receive::Pending(pending))
        }
        Far::Established(stream) => {
            let (send, recv, slot) = stream.split();
            (send, Receive::Open(recv, slot))
        }
    };
    let mut near = Unfinished::new(near);
    let result = {
        let (read, write) = near.socket.split();
        let mut broken = None;
        let ended = {
            let up = pin!(async {
                match upstream(read, &mut send, counters).await {
                    // The receiving half knows why: a status, a reset, or an orderly end.
                    Err(Error::Stream(error)) => broken = Some(error),
                    ended => ended?,
                }
                Ok(())
            });
            let down = pin!(downstream(&mut receive, write, counters, on_response));
            both(up, down, counters, half_closed).await
        };
        ended.and_then(|()| match broken {
            // The peer has answered in full and wants no more (RFC 9113 section 8.1).
            Some(error) if error.reason() != Some(Reason::NO_ERROR) => Err(Error::Stream(error)),
            _ => Ok(()),
        })
    };
    match &result {
        Ok(()) => near.ended = true,
        Err(Error::Near(_) | Error::HalfClosed(_)) => send.send_reset(Reason::CANCEL),
        Err(_) => send.send_reset(Reason::NO_ERROR),
    }
    result
}

enum Receive {
    Pending(PendingResponse),
    Open(
        RecvStream,
        #[allow(dead_code, reason = "held until the tunnel ends")] Option<Arc<Slot>>,
    ),
}

async fn upstream(
    mut near: ReadHalf<'_>,
    send: &mut SendStream<Bytes>,
    counters: &Counters,
) -> Result<(), Error> {
    let mut reader = Reader::new();
    loop {
        let (piece, room) = reader.next(&mut near, send).await?;
        if piece.is_empty() {
            break;
        }
        let sent = piece.len();
        counters.add_sent(sent);
        send.send_data(piece.freeze(), false)
            .map_err(Error::Stream)?;
        if sent < room {
            // The socket is empty: the connection's window is for those with data.
            send.reserve_capacity(0);
        }
    }
    send.send_data(Bytes::new(), true).map_err(Error::Stream)
}

impl Reader {
    /// Waits for data, then for room in the tunnel, then reads as much as there is room for.
    /// Gives the piece, empty at the end, and how long it could have been.
    async fn next(
        &mut self,
        near: &mut ReadHalf<'_>,
        send: &mut SendStream<Bytes>,
    ) -> Result<(BytesMut, usize), Error> {
        loop {
            poll_fn(|cx| self.poll_readable_or_reset(near, send, cx)).await?;
            send.reserve_capacity(self.size);
            let room = room(send).await?;
            match poll_fn(|cx| Poll::Ready(self.poll_read(near, room, cx))).await {
                Poll::Ready(piece) => return Ok((piece.map_err(Error::Near)?, room)),
                // It was not there after all.
                Poll::Pending => send.reserve_capacity(0),
            }
        }
    }

    /// A peer that resets the stream while we wait for the near side ends the wait.
    fn poll_readable_or_reset(
        &mut self,
        near: &ReadHalf<'_>,
        send: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Poll::Ready(readable) = self.poll_readable(near, cx) {
            return Poll::Ready(readable.map_err(Error::Near));
        }
        match send.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => Poll::Ready(Err(Error::Stream(reason.into()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::Stream(error))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// How much the tunnel takes now; waits until it takes something.
async fn room(send: &mut SendStream<Bytes>) -> Result<usize, Error> {
    loop {
        // `poll_capacity` tells only of additions: what is there already comes first.
        let room = send.capacity();
        if room > 0 {
            return Ok(room);
        }
        match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(added) => added.map_err(Error::Stream)?,
            None => return Err(Error::Stream(Reason::STREAM_CLOSED.into())),
        };
    }
}

async fn downstream(
    receive: &mut Receive,
    mut near: WriteHalf<'_>,
    counters: &Counters,
    on_response: impl FnOnce(&HeaderMap),
) -> Result<(), Error> {
    if let Receive::Pending(pending) = receive {
        let (recv, headers) = poll_fn(|cx| pending.poll(cx)).await?;
        on_response(&headers);
        *receive = Receive::Open(recv, Some(pending.slot.clone()));
    }
    let Receive::Open(recv, _) = receive else {
        return Ok(());
    };
    while let Some(data) = recv.data().await {
        let data = data.map_err(Error::Stream)?;
        near.write_all(&data).await.map_err(Error::Near)?;
        counters.add_received(data.len());
        recv.flow_control()
            .release_capacity(data.len())
            .map_err(Error::Stream)?;
    }
    near.shutdown().await.map_err(Error::Near)
}
