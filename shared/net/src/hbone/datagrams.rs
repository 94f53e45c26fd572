//! A tunnel that carries UDP: a datagram a capsule (RFC 9298).
//!
//! Nothing waits: a datagram for which the peer has no room is not sent. A tunnel that is dropped before it was finished is
//! reset.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ambit_core::hbone::datagram::{Capsules, encode};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::pool::Slot;
use super::stream::{Opening, PendingResponse, Stream};
use crate::relay::Error;

/// A stream that has just been asked for has no room before its connection's next turn. So much is kept for it until then:
/// the first datagrams of a flow are often all there are.
const EARLY: usize = 96 << 10;

/// A tunnel of either side.
pub struct Datagrams {
    send: SendStream<Bytes>,
    receive: Receive,
    capsules: Capsules,
    /// Octets that may yet be sent without room.
    early: usize,
    finished: bool,
}

enum Receive {
    /// The peer has not agreed yet; what is sent goes out all the same.
    Pending(PendingResponse),
    /// With its place on the connection, which ends with it.
    Open(
        RecvStream,
        #[expect(dead_code, reason = "held")] Option<Arc<Slot>>,
    ),
}

impl From<Stream> for Datagrams {
    fn from(stream: Stream) -> Self {
        let (send, recv, slot) = stream.split();
        Self::new(send, Receive::Open(recv, slot), 0)
    }
}

impl From<Opening> for Datagrams {
    fn from(opening: Opening) -> Self {
        let (send, pending) = opening.split();
        Self::new(send, Receive::Pending(pending), EARLY)
    }
}

impl Datagrams {
    fn new(send: SendStream<Bytes>, receive: Receive, early: usize) -> Self {
        Self {
            send,
            receive,
            capsules: Capsules::default(),
            early,
            finished: false,
        }
    }

    /// Sends a datagram, if the peer has room for it now. Whether it was sent.
    ///
    /// # Errors
    /// The tunnel has ended; [`Datagrams::receive`] tells how.
    pub fn send(&mut self, payload: &[u8]) -> Result<bool, Error> {
        let Some(capsule) = encode(payload) else {
            return Ok(false);
        };
        self.send.reserve_capacity(capsule.len());
        if self.send.capacity() < capsule.len() {
            let Some(left) = self.early.checked_sub(capsule.len()) else {
                // The room of the connection is for those who can use it.
                self.send.reserve_capacity(0);
                return Ok(false);
            };
            self.early = left;
        }
        let sent = self.send.send_data(capsule.into(), false);
        sent.map(|()| true).map_err(Error::Stream)
    }

    /// The next datagram; `None` when the peer has ended the tunnel. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The tunnel was refused or broke off, or what came is no capsules.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, Error> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, Error>> {
        loop {
            if let Some(payload) = self.capsules.take()? {
                return Poll::Ready(Ok(Some(payload)));
            }
            match &mut self.receive {
                Receive::Pending(pending) => {
                    let (recv, _) = ready!(pending.poll(cx))?;
                    let slot = Some(pending.slot.clone());
                    self.receive = Receive::Open(recv, slot);
                }
                Receive::Open(recv, _) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(data)) => {
                        // A stream that is over has no window to give back.
                        let _ = recv.flow_control().release_capacity(data.len());
                        self.capsules.put(&data);
                    }
                    Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                        return Poll::Ready(Ok(None));
                    }
                    Some(Err(error)) => return Poll::Ready(Err(Error::Stream(error))),
                    None => {
                        self.capsules.end()?;
                        return Poll::Ready(Ok(None));
                    }
                },
            }
        }
    }

    /// Ends the tunnel in order, both ways: nothing that the peer would send is wanted any more.
    pub fn finish(&mut self) {
        self.finished = true;
        self.send.send_reset(Reason::NO_ERROR);
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        if !self.finished {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
