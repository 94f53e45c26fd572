//! What was sent of a request's body, kept so that it can be sent again.

use bytes::Bytes;

/// Bytes that are kept of a body by default. A longer body is streamed like any other, but a
/// failure after that much of it is final.
pub const DEFAULT_REPLAY: usize = 64 * 1024;

/// The pieces that were sent. They are shared with whoever sends them, not copied.
#[derive(Debug)]
pub struct Replay {
    pieces: Vec<Bytes>,
    size: usize,
    most: usize,
    lost: bool,
}

impl Replay {
    /// Keeps up to `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            pieces: Vec::new(),
            size: 0,
            most,
            lost: false,
        }
    }

    /// A piece is sent for the first time. Whatever was kept is let go once it is too much.
    pub fn push(&mut self, piece: &Bytes) {
        if piece.is_empty() || self.lost {
            return;
        }
        self.size = self.size.saturating_add(piece.len());
        if self.size > self.most {
            self.drop_all();
            return;
        }
        self.pieces.push(piece.clone());
    }

    /// All that was sent is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lost
    }

    /// What was sent, to be sent again before what comes next of the body. Empty when it is not
    /// whole.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// No other attempt is possible: the memory is given back, and nothing more kept.
    pub fn drop_all(&mut self) {
        self.pieces = Vec::new();
        self.lost = true;
    }
}
