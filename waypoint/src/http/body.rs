//! Bodies of both directions: nothing, bytes at hand, or what still comes over a connection.
//!
//! A body is pulled: nobody reads more from a connection than whoever takes the body has room for.

use std::collections::VecDeque;
use std::sync::Arc;

use ambit_http::h1::Framing;
use ambit_http::retry::Replay;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{h1, h2};

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
    /// What was sent of another attempt, then the rest.
    Replayed(VecDeque<Bytes>, Box<Body>),
    /// Keeps what passes, for another attempt.
    Kept(Box<Kept>),
    /// Somebody sees every piece pass.
    Watched(Box<Body>, Box<dyn Watch>),
    /// A copy of what passes elsewhere: `None` is its end.
    Copy(mpsc::Receiver<Option<Frame>>, Framing),
    /// It has to be over by then.
    Until(Box<Body>, Instant),
}

/// Sees a body pass; is dropped with it.
pub(super) trait Watch: Send {
    fn piece(&mut self, frame: &Frame);
    /// It is over, or broke off.
    fn end(&mut self, result: Result<(), &Broken>);
}

impl Body {
    /// The next part; `None` at the end. A call that is dropped loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Broken> {
        match self {
            Self::Empty => Ok(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Ok((!bytes.is_empty()).then_some(Frame::Data(bytes)))
            }
            Self::H1(incoming) => incoming.next().await,
            Self::H2(incoming) => incoming.next().await,
            Self::Replayed(pieces, rest) => match pieces.pop_front() {
                Some(piece) => Ok(Some(Frame::Data(piece))),
                None => Box::pin(rest.next()).await,
            },
            Self::Kept(kept) => {
                let frame = Box::pin(kept.inner.next()).await?;
                if let Some(Frame::Data(piece)) = &frame {
                    kept.store.lock().replay.push(piece);
                }
                Ok(frame)
            }
            Self::Watched(inner, watch) => {
                let frame = Box::pin(inner.next()).await;
                match &frame {
                    Ok(Some(frame)) => watch.piece(frame),
                    Ok(None) => watch.end(Ok(())),
                    Err(error) => watch.end(Err(error)),
                }
                frame
            }
            Self::Copy(pieces, _) => match pieces.recv().await {
                Some(frame) => Ok(frame),
                None => Err(Broken("the copy fell behind".to_owned())),
            },
            Self::Until(inner, deadline) => {
                match timeout_at(*deadline, Box::pin(inner.next())).await {
                    Ok(frame) => frame,
                    Err(_) => Err(Broken("its time was up".to_owned())),
                }
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
            // A body that has begun to come still says how long it is in all.
            Self::Replayed(_, rest) => rest.framing(),
            Self::Kept(kept) => kept.inner.framing(),
            Self::Watched(inner, _) | Self::Until(inner, _) => inner.framing(),
            Self::Copy(_, framing) => *framing,
        }
    }

    /// There is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.framing() == Framing::None
    }
}

/// A request body that several attempts may need.
pub(super) struct Repeatable(Arc<Mutex<Store>>);

struct Store {
    replay: Replay,
    rest: Option<Body>,
}

pub(super) struct Kept {
    inner: Body,
    store: Arc<Mutex<Store>>,
}

impl Repeatable {
    pub(super) fn new(body: Body, most: usize) -> Self {
        Self(Arc::new(Mutex::new(Store {
            replay: Replay::new(most),
            rest: Some(body),
        })))
    }

    /// Whether an attempt can have the whole body.
    pub(super) fn is_whole(&self) -> bool {
        let store = self.0.lock();
        store.rest.is_some() && store.replay.is_whole()
    }

    /// The body for the next attempt.
    pub(super) fn body(&self) -> Body {
        let mut store = self.0.lock();
        let rest = store.rest.take().unwrap_or(Body::Empty);
        if matches!(rest, Body::Empty) {
            store.rest = Some(Body::Empty);
            return Body::Empty;
        }
        let pieces: VecDeque<Bytes> = store.replay.pieces().iter().cloned().collect();
        drop(store);
        let kept = Body::Kept(Box::new(Kept {
            inner: rest,
            store: self.0.clone(),
        }));
        match pieces.is_empty() {
            true => kept,
            false => Body::Replayed(pieces, Box::new(kept)),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let rest = std::mem::replace(&mut self.inner, Body::Empty);
        self.store.lock().rest = Some(rest);
    }
}
