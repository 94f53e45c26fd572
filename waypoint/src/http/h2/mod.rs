//! Connections of HTTP/2, driven by the `h2` crate.

mod client;
mod incoming;
mod server;

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::body::{Body, Frame};

pub(super) use client::{Client, connect};
pub(super) use incoming::Incoming;
pub(super) use server::serve;

/// Bytes one stream may have in flight towards us: what a slow reader can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes all streams of a connection may have in flight.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams a peer may open on one connection.
const MAX_STREAMS: u32 = 1024;
/// Decoded bytes of a head.
const MAX_HEADERS: u32 = 64 * 1024;

/// Why a body was not sent to its end.
pub(super) enum Unsent {
    /// Where it came from broke off.
    Source(String),
    /// Where it goes to does not take it any more.
    Sink,
}

/// Sends a body as the peer has room for it. A body that breaks off resets the stream.
pub(super) async fn send(mut stream: SendStream<Bytes>, mut body: Body) -> Result<(), Unsent> {
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.next() => frame,
            reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => {
                return match reset {
                    // The peer has all it wants.
                    Ok(Reason::NO_ERROR) => Ok(()),
                    Ok(_) => Err(Unsent::Sink),
                    Err(_) => Err(Unsent::Sink),
                };
            }
        };
        match frame {
            Ok(Some(Frame::Data(data))) => room_and_send(&mut stream, data).await?,
            Ok(Some(Frame::Trailers(trailers))) => {
                return stream.send_trailers(trailers).map_err(|_| Unsent::Sink);
            }
            Ok(None) => {
                return stream
                    .send_data(Bytes::new(), true)
                    .map_err(|_| Unsent::Sink);
            }
            Err(error) => {
                stream.send_reset(Reason::CANCEL);
                return Err(Unsent::Source(error.to_string()));
            }
        }
    }
}

async fn room_and_send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Unsent> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        match room {
            Some(Ok(room)) => {
                let piece = data.split_to(room.min(data.len()));
                stream.send_data(piece, false).map_err(|_| Unsent::Sink)?;
            }
            Some(Err(_)) | None => return Err(Unsent::Sink),
        }
    }
    Ok(())
}
