//! One tunnelled connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, StatusCode};
use tokio::time::Sleep;

use super::error::{Status, TimedOut};
use super::pool::Slot;
use super::{Error, Stage};

/// A tunnel from the client's side: data may be sent at once, and is received when the peer has
/// agreed. If it refuses, what was sent is void and its status is the connection's error.
pub struct Opening {
    pub(super) send: SendStream<Bytes>,
    pub(super) pending: PendingResponse,
}

/// A tunnel both sides agreed on.
pub struct Stream {
    pub(super) send: SendStream<Bytes>,
    pub(super) recv: RecvStream,
    /// Occupies its place in the pool until the tunnel ends.
    pub(super) slot: Option<Arc<Slot>>,
}

impl Stream {
    /// Of any HTTP/2 connection, as an extended CONNECT opens one (RFC 8441).
    #[must_use]
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self {
            send,
            recv,
            slot: None,
        }
    }
}

impl Opening {
    /// Waits for the peer's agreement.
    ///
    /// # Errors
    /// [`Stage::Refused`] with its status, or how the stream broke.
    pub async fn established(self) -> Result<(Stream, HeaderMap), Error> {
        let (send, mut pending) = self.split();
        let (recv, headers) = std::future::poll_fn(|cx| pending.poll(cx)).await?;
        Ok((
            Stream {
                send,
                recv,
                slot: Some(pending.slot),
            },
            headers,
        ))
    }

    /// For the relay: the two directions.
    pub(crate) fn split(self) -> (SendStream<Bytes>, PendingResponse) {
        (self.send, self.pending)
    }
}

/// The receiving half of an [`Opening`].
pub(crate) struct PendingResponse {
    response: ResponseFuture,
    pub(crate) slot: Arc<Slot>,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl PendingResponse {
    pub(super) fn new(response: ResponseFuture, slot: Arc<Slot>, limit: Duration) -> Self {
        Self {
            response,
            slot,
            limit,
            deadline: Box::pin(tokio::time::sleep(limit)),
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(RecvStream, HeaderMap), Error>> {
        let reused = self.slot.reused();
        let Poll::Ready(response) = Pin::new(&mut self.response).poll(cx) else {
            ready!(self.deadline.as_mut().poll(cx));
            let error = Error::new(Stage::Response, TimedOut(self.limit));
            return Poll::Ready(Err(error.on_reused(reused)));
        };
        let response = response.map_err(|error| {
            let stage = match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Stage::Open,
                _ => Stage::Response,
            };
            Error::new(stage, error).on_reused(reused)
        })?;
        let status = response.status();
        if status != StatusCode::OK {
            let error = Error::new(Stage::Refused(status.as_u16()), Status(status.as_u16()));
            return Poll::Ready(Err(error.on_reused(reused)));
        }
        let (head, recv) = response.into_parts();
        Poll::Ready(Ok((recv, head.headers)))
    }
}

impl Stream {
    pub(crate) fn split(self) -> (SendStream<Bytes>, RecvStream, Option<Arc<Slot>>) {
        (self.send, self.recv, self.slot)
    }
}
