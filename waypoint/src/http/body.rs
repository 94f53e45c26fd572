//! Bodies of both directions: nothing, bytes at hand, or what still comes over a connection.
//!
//! A body is pulled: nobody reads more from a connection than whoever takes the body has room for.

mod repeatable;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambit_http::h1::Framing;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep, sleep_until};

use super::mirror::Copied;
use super::{h1, h2};

pub(super) use repeatable::{Kept, Repeatable};

/// The status of a call that took too long.
const DEADLINE_EXCEEDED: u16 = 4;

/// A part of a body.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    /// Some bytes.
    Data(Bytes),
    /// The last, when there are trailers.
    Trailers(HeaderMap),
}

/// Why a body is not complete.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the body broke off: {0}")]
pub(super) struct Broken(pub(super) String);

/// A body. Dropping it before its end gives up what it comes over.
pub(super) enum Body {
    Empty,
    Full(Bytes),
    H1(Box<h1::Incoming>),
    H2(Box<h2::Incoming>),
    /// What came of it already, then the rest.
    Replayed(VecDeque<Frame>, Box<Body>),
    /// Keeps what passes, for another attempt.
    Kept(Box<Kept>),
    /// Somebody sees every piece pass.
    Watched(Box<Body>, Box<dyn Watch>),
    /// A copy of what passes elsewhere.
    Copy(Copied, Framing),
    /// It has to be over by then.
    Until(Box<Body>, Box<Deadline>),
}

/// Sees a body pass; is dropped with it.
pub(super) trait Watch: Send + Sync {
    fn piece(&mut self, frame: &Frame);
    /// It is over.
    fn end(&mut self);
}

/// A moment, and the timer for it once somebody waits.
pub(super) struct Deadline {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    grpc: bool,
    late: bool,
}

impl Deadline {
    fn has_passed(&self) -> bool {
        !self.late && Instant::now() >= self.at
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        timer.as_mut().poll(cx)
    }

    /// How `body` ends when it is late. A call gets the status that its client would give it, as long as there can be
    /// trailers; anything else is cut off.
    fn end(&mut self, body: &mut Body) -> Result<Option<Frame>, Broken> {
        self.late = true;
        let trailers = self.grpc && !matches!(body.framing(), Framing::Length(_));
        *body = Body::Empty;
        if !trailers {
            return Err(Broken("its time was up".to_owned()));
        }
        let status = HeaderValue::from(DEADLINE_EXCEEDED);
        let trailers = [(HeaderName::from_static("grpc-status"), status)];
        Ok(Some(Frame::Trailers(trailers.into_iter().collect())))
    }
}

impl Body {
    /// It has to be over by then; `grpc` says that it is that of a call.
    pub(super) fn until(self, at: Instant, grpc: bool) -> Self {
        let deadline = Deadline {
            at,
            timer: None,
            grpc,
            late: false,
        };
        match self {
            Self::Empty | Self::Full(_) => self,
            body => Self::Until(Box::new(body), Box::new(deadline)),
        }
    }

    /// It ended because it was not over in time.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Until(_, deadline) if deadline.late)
    }

    /// The next part; `None` at the end. A call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Broken> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        match self {
            Self::Empty => Poll::Ready(Ok(None)),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Ok((!bytes.is_empty()).then_some(Frame::Data(bytes))))
            }
            Self::H1(incoming) => incoming.poll_next(cx),
            Self::H2(incoming) => incoming.poll_next(cx),
            Self::Replayed(frames, rest) => match frames.pop_front() {
                Some(frame) => Poll::Ready(Ok(Some(frame))),
                None => rest.poll_next(cx),
            },
            Self::Kept(kept) => kept.poll_next(cx),
            Self::Watched(inner, watch) => {
                let frame = ready!(inner.poll_next(cx));
                match &frame {
                    Ok(Some(frame)) => watch.piece(frame),
                    Ok(None) => watch.end(),
                    Err(_) => {}
                }
                Poll::Ready(frame)
            }
            Self::Copy(copied, _) => copied.poll_next(cx),
            Self::Until(inner, deadline) => {
                match inner.poll_next(cx) {
                    // Also one that never pauses is over in time.
                    Poll::Ready(Ok(Some(Frame::Data(_)))) if deadline.has_passed() => {}
                    Poll::Ready(frame) => return Poll::Ready(frame),
                    Poll::Pending => ready!(deadline.poll(cx)),
                }
                Poll::Ready(deadline.end(inner))
            }
        }
    }

    /// How long it is, as far as that is known before it has come.
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Empty => Framing::None,
            Self::Full(bytes) => Framing::Length(bytes.len() as u64),
            Self::H1(incoming) => incoming.framing(),
            Self::H2(incoming) => incoming.framing(),
            Self::Replayed(_, rest) => rest.framing(),
            Self::Kept(kept) => kept.framing(),
            Self::Watched(inner, _) | Self::Until(inner, _) => inner.framing(),
            Self::Copy(_, framing) => *framing,
        }
    }

    /// There is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.framing() == Framing::None
    }

    /// Reads up to `most` bytes ahead. The body as a whole, and what was read; `None` when there is more.
    pub(super) async fn read_ahead(mut self, most: usize) -> Result<(Self, Option<Bytes>), Broken> {
        let mut frames = VecDeque::new();
        let mut size = 0;
        let trailers = loop {
            match self.next().await? {
                Some(Frame::Data(data)) => {
                    size += data.len();
                    frames.push_back(Frame::Data(data));
                    if size > most {
                        return Ok((Self::Replayed(frames, Box::new(self)), None));
                    }
                }
                Some(Frame::Trailers(trailers)) => break Some(trailers),
                None => break None,
            }
        };
        let whole = joined(&frames);
        let body = match trailers {
            Some(trailers) => {
                frames.push_back(Frame::Trailers(trailers));
                // It knows the framing, and has nothing more to say.
                Self::Replayed(frames, Box::new(self))
            }
            None if whole.is_empty() => Self::Empty,
            None => Self::Full(whole.clone()),
        };
        Ok((body, Some(whole)))
    }
}

/// The data of these frames.
fn joined(frames: &VecDeque<Frame>) -> Bytes {
    let pieces = frames.iter().filter_map(|frame| match frame {
        Frame::Data(data) => Some(&**data),
        Frame::Trailers(_) => None,
    });
    Bytes::from(pieces.collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests;
