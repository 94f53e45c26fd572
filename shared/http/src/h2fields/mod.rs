//! Keeps what is no HTTP/2 field from ending the connection of the client that sent it: its stream alone is reset
//! (RFC 9113 sections 8.1.1 and 8.2.1).
//!
//! The `h2` crate (0.4) resets the stream of a message that is malformed. But names and values that are none (upper
//! case, empty, CR, LF, NUL and the like) and unknown pseudo-fields are to it a block that cannot be decoded, for which it
//! ends the connection. A [`Sieve`] stands before it and reads along: the heads of frames, and the representations in header
//! blocks (RFC 7541). A block that `h2` can decode goes on as it came. Of one with a fault only that goes on which changes
//! the dynamic table, with harmless entries of the same size in place of faulty ones, and at its end a field that
//! `h2` resets the stream for. So both ends of the compression stay in step. Which entries were replaced is known
//! here: a block that refers to one of them is faulty in its turn.
//!
//! A block in several frames goes on as one if it fits: malformed before its last frame, it would end the connection, or
//! not be noticed. The same is done for a stream that depends on itself, which `h2` resets without decoding its block.
//!
//! Nothing gets through that `h2` alone would refuse. What goes on unchanged or joined is still `h2`'s to judge, and has not
//! come in more frames than `h2` takes; what was changed, `h2` resets for the field at its end. Nothing is judged that cannot be
//! followed: a broken frame or block, one above the bounds, a fault that no entry of the same size can replace. From there
//! on all bytes go on as they came; `h2` ends the connection for them, or answers 431. Had an entry been replaced that can
//! still be referred to, a frame that is none goes first, and that ends the connection.
//!
//! Of a connection it holds one block at most ([`BOUND`]), and between blocks no more than the sizes of the entries of the
//! dynamic table.

mod block;
mod frame;
mod huffman;
mod item;
mod table;
#[cfg(test)]
mod tests;
mod text;

use bytes::BytesMut;
use frame::{CONTINUATION, END_HEADERS, HEADERS, Head, MAX_PAYLOAD, PUSH_PROMISE};
use table::Table;

/// Bytes of the frames of one header block. A waypoint takes no more of decoded fields either.
pub const BOUND: usize = 64 * 1024;
/// CONTINUATION frames of one block: `h2` takes these, however little it takes of a block.
const CONTINUATIONS: usize = 5;
/// What comes before the first frame (RFC 9113 section 3.4).
const PREFACE: u64 = 24;
/// HEADERS of no stream, which end a connection (RFC 9113 section 6.2).
const NO_FRAME: [u8; frame::HEAD] = [0, 0, 0, HEADERS, END_HEADERS, 0, 0, 0, 0];

/// Something that cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

/// Looks through all that a client sends on one connection, from the first byte on.
///
/// Bytes that go on straight away are not copied. Those that do not are kept until [`Sieve::taken`] gives them back, before
/// the next are looked at.
#[derive(Debug)]
pub struct Sieve {
    /// Bytes that go on unseen.
    unseen: u64,
    /// The frames of the block that is under way, and what there is of the current frame.
    held: Vec<u8>,
    /// Where the current frame begins in `held`.
    mark: usize,
    /// How long the current frame is as far as is known: at first its head.
    length: usize,
    continuations: usize,
    /// What goes on.
    out: BytesMut,
    table: Table,
}

/// What becomes of a frame.
enum Way {
    /// It has no fields.
    On,
    /// It is one of a header block.
    Held,
}

impl Default for Sieve {
    fn default() -> Self {
        Self {
            unseen: PREFACE,
            held: Vec::new(),
            mark: 0,
            length: frame::HEAD,
            continuations: 0,
            out: BytesMut::new(),
            table: Table::default(),
        }
    }
}

impl Sieve {
    /// Looks at the next bytes, and says how many of them, from the first, go on as they are. It has taken the others:
    /// see [`Sieve::taken`].
    #[must_use]
    pub fn look(&mut self, chunk: &[u8]) -> usize {
        let mut straight = 0;
        let mut rest = chunk;
        while !rest.is_empty() {
            let (length, goes_on) = self.step(rest);
            let (front, back) = rest.split_at(length);
            match goes_on {
                true if self.out.is_empty() => straight += length,
                true => self.out.extend_from_slice(front),
                false => {}
            }
            rest = back;
        }
        straight
    }

    /// What was taken and goes on now, at most `room` bytes; empty when there is nothing.
    pub fn taken(&mut self, room: usize) -> BytesMut {
        match self.out.len() <= room {
            // The buffer goes with its last bytes.
            true => std::mem::take(&mut self.out),
            false => self.out.split_to(room),
        }
    }

    /// The client sends nothing more: what is held goes on as it is.
    pub fn end(&mut self) {
        self.release();
    }

    /// Deals with some bytes at the front of `rest`: how many, and whether they go on as they are.
    fn step(&mut self, rest: &[u8]) -> (usize, bool) {
        if self.unseen > 0 {
            let length = usize::try_from(self.unseen).map_or(rest.len(), |it| it.min(rest.len()));
            self.unseen -= length as u64;
            return (length, true);
        }
        let whole = match Head::parse(rest) {
            Some(head) if self.held.is_empty() => match self.way(&head) {
                Err(Unreadable) => {
                    self.give_up(self.table.is_stained());
                    return (0, true);
                }
                Ok(Way::On) => {
                    self.unseen = head.frame_length() as u64;
                    return (0, true);
                }
                Ok(Way::Held) if head.ends_block() => rest.get(..head.frame_length()),
                Ok(Way::Held) => None,
            },
            _ => None,
        };
        match whole {
            Some(frame) => (frame.len(), !self.settle(frame)),
            None => (self.hold(rest), false),
        }
    }

    /// What to do with a frame, told by its head.
    fn way(&self, head: &Head) -> Result<Way, Unreadable> {
        let first = Head::parse(&self.held).filter(|_| self.mark > 0);
        match (head.kind, first) {
            _ if head.length > MAX_PAYLOAD => Err(Unreadable),
            (CONTINUATION, Some(first))
                if head.stream == first.stream
                    && self.continuations < CONTINUATIONS
                    && self.mark + head.frame_length() <= BOUND =>
            {
                Ok(Way::Held)
            }
            // Clients have the odd numbers (RFC 9113 section 5.1.1).
            (HEADERS, None) if head.stream % 2 == 1 => Ok(Way::Held),
            (HEADERS | CONTINUATION | PUSH_PROMISE, None) | (_, Some(_)) => Err(Unreadable),
            (_, None) => Ok(Way::On),
        }
    }

    /// Takes what is missing of the current frame, or of its head, as far as it is there. Says how much that was.
    fn hold(&mut self, rest: &[u8]) -> usize {
        let missing = self.mark + self.length - self.held.len();
        let length = missing.min(rest.len());
        self.held.extend_from_slice(&rest[..length]);
        if length == missing
            && let Some(head) = Head::parse(&self.held[self.mark..])
        {
            self.complete(&head);
        }
        length
    }

    /// The head of the current frame, or all of it, is held.
    fn complete(&mut self, head: &Head) {
        if self.held.len() == self.mark + frame::HEAD {
            match self.way(head) {
                Err(Unreadable) => {
                    self.give_up(self.table.is_stained());
                    return self.release();
                }
                Ok(Way::On) => {
                    self.unseen = head.length as u64;
                    return self.release();
                }
                Ok(Way::Held) if head.length > 0 => {
                    self.length = head.frame_length();
                    return;
                }
                Ok(Way::Held) => {}
            }
        }
        self.continuations += usize::from(head.kind == CONTINUATION);
        self.length = frame::HEAD;
        self.mark = self.held.len();
        if head.ends_block() {
            let frames = std::mem::take(&mut self.held);
            if !self.settle(&frames) {
                self.out.extend_from_slice(&frames);
            }
            self.release();
        }
    }

    /// Judges the frames of a block. Says whether other bytes go on in their place.
    fn settle(&mut self, frames: &[u8]) -> bool {
        let stained = self.table.is_stained();
        match block::sift(frames, &mut self.table) {
            Ok(None) => false,
            Ok(Some(frame)) => {
                self.out.extend_from_slice(&frame);
                true
            }
            Err(Unreadable) => {
                self.give_up(stained);
                false
            }
        }
    }

    /// From here on everything goes on unseen.
    fn give_up(&mut self, stained: bool) {
        self.unseen = u64::MAX;
        if stained {
            self.out.extend_from_slice(&NO_FRAME);
        }
    }

    /// What is held goes on as it is.
    fn release(&mut self) {
        self.out.extend_from_slice(&std::mem::take(&mut self.held));
        self.mark = 0;
        self.length = frame::HEAD;
        self.continuations = 0;
    }
}
