//! A body, sent on a stream as the peer has room for it.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::http::body::{Body, Broken, Frame};
use crate::http::patience::unless_stalled;

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    /// Where it came from broke off.
    Source(Broken),
    /// Where it goes to does not take it any more.
    Sink,
}

/// Sends a body, which resets the stream with `broken` if it breaks off. `passed` is told of every part.
pub(super) async fn send(
    mut stream: SendStream<Bytes>,
    body: &mut Body,
    broken: Reason,
    mut passed: impl FnMut(&Frame),
) -> Result<(), Unsent> {
    loop {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = body.poll_next(cx) {
                return Poll::Ready(Ok(frame));
            }
            // Looked at only while there is nothing to send: a peer that left ends the body as well.
            stream.poll_reset(cx).map(Err)
        });
        let frame = frame.await;
        if let Ok(Ok(Some(frame))) = &frame {
            passed(frame);
        }
        match frame {
            Ok(Ok(Some(Frame::Data(data)))) => {
                let last = matches!(body, Body::Empty);
                room_and_send(&mut stream, data, last).await?;
                if last {
                    return Ok(());
                }
            }
            Ok(Ok(Some(Frame::Trailers(trailers)))) => {
                return stream.send_trailers(trailers).map_err(|_| Unsent::Sink);
            }
            Ok(Ok(None)) => {
                return stream
                    .send_data(Bytes::new(), true)
                    .map_err(|_| Unsent::Sink);
            }
            Ok(Err(error)) => {
                stream.send_reset(broken);
                return Err(Unsent::Source(error));
            }
            // The peer has all it wants.
            Err(Ok(Reason::NO_ERROR)) => return Ok(()),
            Err(_) => return Err(Unsent::Sink),
        }
    }
}

async fn room_and_send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
) -> Result<(), Unsent> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match room(stream).await {
            Some(Ok(room)) => {
                let piece = data.split_to(room.min(data.len()));
                let end = last && data.is_empty();
                stream.send_data(piece, end).map_err(|_| Unsent::Sink)?;
            }
            Some(Err(_)) | None => return Err(Unsent::Sink),
        }
    }
    Ok(())
}

/// The peer's room; a peer that gives none for too long has none.
async fn room(stream: &mut SendStream<Bytes>) -> Option<Result<usize, h2::Error>> {
    unless_stalled(poll_fn(|cx| stream.poll_capacity(cx)))
        .await
        .flatten()
}
