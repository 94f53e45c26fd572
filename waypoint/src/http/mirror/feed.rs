//! The body of a copy, handed over piece by piece as long as its mirror keeps up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use super::UnderWay;
use crate::http::body::{Broken, Frame, Watch};

/// Bytes of a body that may wait for a mirror.
const BEHIND: usize = 1 << 20;
/// Those that may wait for all mirrors of one worker.
const ALL_BEHIND: usize = 64 << 20;
/// What a piece takes beside its bytes.
const PIECE: usize = 128;
/// Both ends of a copy's body.
pub(in super::super) fn feed(all: &Arc<UnderWay>) -> (Feed, Copied) {
    let (sender, pieces) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting {
        bytes: AtomicUsize::new(0),
        all: all.clone(),
    });
    let feed = Feed {
        pieces: Some(sender),
        waiting: waiting.clone(),
    };
    (feed, Copied { pieces, waiting })
}

/// Hands pieces on as long as the mirror keeps up.
pub(in super::super) struct Feed {
    pieces: Option<mpsc::UnboundedSender<Option<Frame>>>,
    waiting: Arc<Waiting>,
}

/// The body of a copy. `None` is its end.
pub(in super::super) struct Copied {
    pieces: mpsc::UnboundedReceiver<Option<Frame>>,
    waiting: Arc<Waiting>,
}

/// Bytes between the two.
#[derive(Debug)]
struct Waiting {
    bytes: AtomicUsize,
    all: Arc<UnderWay>,
}

impl Waiting {
    /// More wait, unless that is too much.
    fn add(&self, bytes: usize) -> bool {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.all.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = own <= BEHIND && all <= ALL_BEHIND;
        if !fits {
            self.take(bytes);
        }
        fits
    }

    fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.all.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Nobody waits for what is left.
impl Drop for Copied {
    fn drop(&mut self) {
        self.pieces.close();
        while let Ok(frame) = self.pieces.try_recv() {
            self.waiting.take(size(frame.as_ref()));
        }
    }
}

/// What a piece holds.
fn size(frame: Option<&Frame>) -> usize {
    PIECE
        + match frame {
            Some(Frame::Data(data)) => data.len(),
            Some(Frame::Trailers(_)) | None => 0,
        }
}

impl Feed {
    fn send(&mut self, frame: Option<Frame>) {
        let Some(pieces) = &self.pieces else { return };
        let size = size(frame.as_ref());
        if !self.waiting.add(size) {
            self.pieces = None;
        } else if pieces.send(frame).is_err() {
            self.waiting.take(size);
            self.pieces = None;
        }
    }
}

impl Watch for Feed {
    fn piece(&mut self, frame: &Frame) {
        self.send(Some(frame.clone()));
    }

    fn end(&mut self) {
        self.send(None);
        self.pieces = None;
    }
}

impl Copied {
    pub(in super::super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, Broken>> {
        let Some(frame) = ready!(self.pieces.poll_recv(cx)) else {
            return Poll::Ready(Err(Broken("the copy fell behind".to_owned())));
        };
        self.waiting.take(size(frame.as_ref()));
        Poll::Ready(Ok(frame))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_copy_is_given_up_when_too_much_waits_for_it() {
        let all = Arc::default();
        let piece = Frame::Data(Bytes::from(vec![0; 64 * 1024]));
        let (mut fast, mut taken) = feed(&all);
        for _ in 0..100 {
            fast.piece(&piece);
            let frame = std::future::poll_fn(|cx| taken.poll_next(cx)).await;
            assert!(matches!(frame, Ok(Some(Frame::Data(_)))), "{frame:?}");
        }
        fast.end();
        let end = std::future::poll_fn(|cx| taken.poll_next(cx)).await;
        assert!(matches!(end, Ok(None)), "{end:?}");
        assert_eq!(all.waiting.load(Ordering::Relaxed), 0);

        let (mut slow, mut taken) = feed(&all);
        for _ in 0..100 {
            slow.piece(&piece);
        }
        let mut got = 0;
        let end = loop {
            match std::future::poll_fn(|cx| taken.poll_next(cx)).await {
                Ok(Some(_)) => got += 1,
                other => break other,
            }
        };
        assert!(end.is_err(), "{end:?}");
        assert_eq!(got, BEHIND / (64 * 1024) - 1, "and what each takes beside");
        assert_eq!(all.waiting.load(Ordering::Relaxed), 0, "all was taken");

        // A mirror that is gone leaves nothing behind while the request goes on.
        let (mut slow, taken) = feed(&all);
        slow.piece(&piece);
        drop(taken);
        slow.piece(&piece);
        assert_eq!(all.waiting.load(Ordering::Relaxed), 0, "all is given back");
    }
}
