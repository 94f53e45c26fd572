//! Frames (RFC 9113 sections 4.1 and 6), as far as header blocks are concerned.

use std::borrow::Cow;

use super::Unreadable;

pub(super) const HEADERS: u8 = 1;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// Bytes of a frame's payload: SETTINGS_MAX_FRAME_SIZE where nobody has set another.
pub(super) const MAX_PAYLOAD: usize = 16_384;
/// Bytes of the priority in HEADERS.
const DEPENDENCY: usize = 5;

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// That of the frame which begins here, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3, ..] = bytes else {
            return None;
        };
        Some(Self {
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            // The first bit means nothing.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    /// Bytes of the frame, with its head.
    pub(super) fn frame_length(&self) -> usize {
        HEAD + self.length
    }

    /// No CONTINUATION follows these HEADERS, or this CONTINUATION.
    pub(super) fn ends_block(&self) -> bool {
        self.flags & END_HEADERS != 0
    }
}

/// A header block, whatever frames it came in.
pub(super) struct Block<'a> {
    head: Head,
    priority: &'a [u8],
    /// Its representations.
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> Block<'a> {
    /// Reads HEADERS and what CONTINUATION follows them. `frames` are whole and belong together.
    pub(super) fn read(frames: &'a [u8]) -> Result<Self, Unreadable> {
        let (head, mut payload, mut rest) = split(frames)?;
        let mut padding = 0;
        if head.flags & PADDED != 0 {
            let (first, after) = payload.split_first().ok_or(Unreadable)?;
            (padding, payload) = (usize::from(*first), after);
        }
        let mut priority = &payload[..0];
        if head.flags & PRIORITY != 0 {
            (priority, payload) = payload.split_at_checked(DEPENDENCY).ok_or(Unreadable)?;
        }
        let length = payload.len().checked_sub(padding).ok_or(Unreadable)?;
        let mut bytes = Cow::Borrowed(&payload[..length]);
        while !rest.is_empty() {
            let (_, more, after) = split(rest)?;
            bytes.to_mut().extend_from_slice(more);
            rest = after;
        }
        Ok(Self {
            head,
            priority,
            bytes,
        })
    }

    /// It came in more than one frame.
    pub(super) fn is_joined(&self) -> bool {
        matches!(self.bytes, Cow::Owned(_))
    }

    /// The stream depends on itself (RFC 7540 section 5.3.1), which resets it.
    pub(super) fn depends_on_itself(&self) -> bool {
        let Some((on, _)) = self.priority.split_first_chunk::<4>() else {
            return false;
        };
        u32::from_be_bytes(*on) & 0x7fff_ffff == self.head.stream
    }

    /// One frame with all of it, if it fits.
    pub(super) fn joined(&self) -> Option<Vec<u8>> {
        self.write(self.priority, &self.bytes)
    }

    /// One frame of the same stream with another block, if it fits.
    pub(super) fn with(&self, block: &[u8]) -> Option<Vec<u8>> {
        self.write(&[], block)
    }

    fn write(&self, priority: &[u8], block: &[u8]) -> Option<Vec<u8>> {
        let length = priority.len() + block.len();
        let [_, l0, l1, l2] = u32::try_from(length).ok()?.to_be_bytes();
        let mut flags = self.head.flags & END_STREAM | END_HEADERS;
        if !priority.is_empty() {
            flags |= PRIORITY;
        }
        let mut frame = Vec::with_capacity(HEAD + length);
        frame.extend_from_slice(&[l0, l1, l2, HEADERS, flags]);
        frame.extend_from_slice(&self.head.stream.to_be_bytes());
        frame.extend_from_slice(priority);
        frame.extend_from_slice(block);
        (length <= MAX_PAYLOAD).then_some(frame)
    }
}

/// The first frame, its payload, and what follows it.
fn split(frames: &[u8]) -> Result<(Head, &[u8], &[u8]), Unreadable> {
    let head = Head::parse(frames).ok_or(Unreadable)?;
    let (frame, rest) = frames
        .split_at_checked(head.frame_length())
        .ok_or(Unreadable)?;
    Ok((head, &frame[HEAD..], rest))
}
