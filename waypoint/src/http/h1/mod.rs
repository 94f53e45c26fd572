//! Connections of HTTP/1.1, driven: the codec says what bytes mean, this moves them.

mod client;
mod incoming;
mod send;
mod server;
#[cfg(test)]
mod tests;
mod tunnel;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::io::{ReadHalf, WriteHalf};

pub(super) use client::{Connection, Failure, Head, exchange};
pub(super) use incoming::Incoming;
pub(super) use server::serve;
pub(super) use tunnel::{Carried, Raw};

/// What is read of a head at once.
const READ: usize = 8 * 1024;
/// What is read of a body at once, and about what a body holds of memory on its way.
const PIECE: usize = 64 * 1024;

/// The receiving half of a connection, and what has been read and not taken.
pub(super) struct Reader {
    half: ReadHalf,
    buffer: BytesMut,
}

impl Reader {
    fn new(half: ReadHalf, buffer: BytesMut) -> Self {
        Self { half, buffer }
    }

    /// Reads more; 0 at the end. A call that is dropped loses nothing.
    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.half.poll_fill(cx, &mut self.buffer, most)
    }

    async fn fill(&mut self, most: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, most)).await
    }

    /// Between messages: an empty buffer keeps nothing of the last one alive.
    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// The sending half.
type Writer = WriteHalf;
