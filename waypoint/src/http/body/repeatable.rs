//! The body of a request that several attempts may need.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ambit_http::h1::Framing;
use ambit_http::retry::Replay;
use http::HeaderMap;
use parking_lot::Mutex;

use super::{Body, Broken, Frame};

/// Gives every attempt the whole body, as long as what was sent of it is kept. Clones are the same.
#[derive(Clone)]
pub(in super::super) struct Repeatable(Option<Arc<Mutex<Store>>>);

struct Store {
    replay: Replay,
    rest: Option<Body>,
    /// Came at its end.
    trailers: Option<HeaderMap>,
    /// Of the whole body, whatever is left of it.
    framing: Framing,
    received: u64,
    broken: bool,
    /// Nobody needs it any more.
    closed: bool,
}

/// What of the body an attempt has not seen yet; it goes back when the attempt is over.
pub(in super::super) struct Kept {
    inner: Body,
    framing: Framing,
    store: Arc<Mutex<Store>>,
}

impl Repeatable {
    /// Keeps up to `most` bytes.
    pub(in super::super) fn new(body: Body, most: usize) -> Self {
        if matches!(body, Body::Empty) {
            return Self(None);
        }
        Self(Some(Arc::new(Mutex::new(Store {
            replay: Replay::new(most),
            framing: body.framing(),
            rest: Some(body),
            trailers: None,
            received: 0,
            broken: false,
            closed: false,
        }))))
    }

    /// Whether an attempt can have the whole body.
    pub(in super::super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|store| {
            let store = store.lock();
            store.rest.is_some() && store.replay.is_whole()
        })
    }

    /// Whether the client has broken it off.
    pub(in super::super) fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|store| store.lock().broken)
    }

    /// Bytes that came of it.
    pub(in super::super) fn received(&self) -> u64 {
        self.0.as_ref().map_or(0, |store| store.lock().received)
    }

    /// There will be no other attempt: what is kept is let go, and what has not been read of the body goes
    /// with the last attempt.
    pub(in super::super) fn close(&self) {
        if let Some(store) = &self.0 {
            let mut store = store.lock();
            store.closed = true;
            store.replay.drop_all();
            let rest = store.rest.take();
            drop(store);
            drop(rest);
        }
    }

    /// The body for the next attempt.
    pub(in super::super) fn body(&self) -> Body {
        let Some(shared) = &self.0 else {
            return Body::Empty;
        };
        let mut store = shared.lock();
        let inner = store.rest.take().unwrap_or(Body::Empty);
        let pieces = store.replay.pieces().iter().cloned().map(Frame::Data);
        let trailers = store.trailers.clone().map(Frame::Trailers);
        let seen: VecDeque<Frame> = pieces.chain(trailers).collect();
        let kept = Body::Kept(Box::new(Kept {
            inner,
            framing: store.framing,
            store: shared.clone(),
        }));
        match seen.is_empty() {
            true => kept,
            false => Body::Replayed(seen, Box::new(kept)),
        }
    }
}

impl Kept {
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        let frame = ready!(self.inner.poll_next(cx));
        match &frame {
            Ok(Some(Frame::Data(piece))) => {
                let mut store = self.store.lock();
                store.received += piece.len() as u64;
                store.replay.push(piece);
            }
            Ok(Some(Frame::Trailers(trailers))) => {
                self.store.lock().trailers = Some(trailers.clone());
            }
            Ok(None) => {}
            Err(_) => self.store.lock().broken = true,
        }
        Poll::Ready(frame)
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Nothing of it is still on its way.
    pub(in super::super) fn is_at_hand(&self) -> bool {
        matches!(self.inner, Body::Empty | Body::Full(_))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let rest = std::mem::replace(&mut self.inner, Body::Empty);
        let mut store = self.store.lock();
        if !store.closed {
            store.rest = Some(rest);
        }
    }
}
