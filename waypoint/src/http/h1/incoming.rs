//! A body that comes over an HTTP/1.1 connection, and gives the connection back at its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ambit_http::h1::{BodyDecoder, Framing, Piece, Side};
use tokio::time::{Sleep, sleep};

use super::client::Used;
use super::{PIECE, Reader};
use crate::http::body::{Broken, Frame};
use crate::http::desk::Desk;
use crate::http::patience::STALLED;

/// What still comes.
pub(in super::super) struct Incoming {
    /// Until the body is over.
    reader: Option<Reader>,
    decoder: BodyDecoder,
    framing: Framing,
    from: From,
}

enum From {
    Client {
        desk: Arc<Desk>,
        /// It waits for 100 before it sends.
        waits: bool,
        stalled: Option<Pin<Box<Sleep>>>,
    },
    Backend(Used),
}

impl Incoming {
    /// The body of a request: its reader goes back to the desk.
    pub(super) fn request(reader: Reader, framing: Framing, desk: Arc<Desk>, waits: bool) -> Self {
        Self {
            reader: Some(reader),
            decoder: BodyDecoder::new(framing, Side::Client),
            framing,
            from: From::Client {
                desk,
                waits,
                stalled: None,
            },
        }
    }

    /// The body of a response.
    pub(super) fn response(reader: Reader, framing: Framing, used: Used) -> Self {
        Self {
            reader: Some(reader),
            decoder: BodyDecoder::new(framing, Side::Upstream),
            framing,
            from: From::Backend(used),
        }
    }

    pub(in super::super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(in super::super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        loop {
            let Some(reader) = &mut self.reader else {
                return Poll::Ready(Ok(None));
            };
            match self.decoder.decode(&mut reader.buffer) {
                Ok(Some(Piece::Data(data))) => {
                    self.finish();
                    return Poll::Ready(Ok(Some(Frame::Data(data))));
                }
                Ok(Some(Piece::End(trailers))) => {
                    self.finish();
                    return Poll::Ready(Ok(trailers.map(Frame::Trailers)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.give_up(&error))),
            }
            if let From::Client { desk, waits, .. } = &mut self.from
                && std::mem::take(waits)
            {
                desk.body_wanted();
            }
            let Poll::Ready(read) = reader.poll_fill(cx, PIECE) else {
                ready!(self.poll_stalled(cx));
                return Poll::Ready(Err(self.give_up(&"nothing more came of it")));
            };
            match read {
                Ok(0) => {
                    if let Err(error) = self.decoder.eof() {
                        return Poll::Ready(Err(self.give_up(&error)));
                    }
                    // The connection ended with the body.
                    self.reader = None;
                }
                Ok(_) => {
                    if let From::Client { stalled, .. } = &mut self.from {
                        *stalled = None;
                    }
                }
                Err(error) => return Poll::Ready(Err(self.give_up(&error))),
            }
        }
    }

    /// A backend's time is the route's business.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let From::Client { stalled, .. } = &mut self.from else {
            return Poll::Pending;
        };
        let timer = stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        timer.as_mut().poll(cx)
    }

    fn give_up(&mut self, error: &dyn std::fmt::Display) -> Broken {
        self.reader = None;
        Broken(error.to_string())
    }

    /// Gives the connection back once all of the body has been taken.
    fn finish(&mut self) {
        if self.decoder.is_done()
            && let Some(reader) = self.reader.take()
        {
            match &mut self.from {
                From::Client { desk, .. } => desk.give_back(reader, true),
                From::Backend(used) => used.give_back(reader),
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let (Some(reader), From::Client { desk, .. }) = (self.reader.take(), &self.from) {
            desk.give_back(reader, false);
        }
    }
}
