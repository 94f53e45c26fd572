//! Memory between the socket and the session.
//!
//! A thread has one large buffer for each direction, which its sessions use in turns: they
//! need it while they are at work and seldom beyond. A session holds memory of its own only for
//! what the socket does not take or has not brought in full.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::record::{FRAGMENT, OVERHEAD};
use super::transport::Transport;

/// What one read may bring, and what is collected before a write waits for the socket.
const LARGE: usize = 256 * 1024;

thread_local! {
    static SPARE_INPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SPARE_OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's large buffer, or another when that is in use.
fn borrow(spare: &'static std::thread::LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    let mut buffer = spare.take();
    buffer.resize(LARGE, 0);
    buffer
}

fn give_back(spare: &'static std::thread::LocalKey<Cell<Vec<u8>>>, buffer: Vec<u8>) {
    if buffer.len() == LARGE {
        spare.set(buffer);
    }
}

/// Records that were read, of which the last may not be all there.
pub(super) struct Input {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

impl Input {
    /// Begins with what was read already.
    pub(super) fn new(read: Vec<u8>) -> Self {
        Self {
            filled: 0..read.len(),
            buffer: read,
        }
    }

    /// What is there.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled.clone()]
    }

    /// Forgets the first `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        self.filled.start += n;
    }

    /// Reads more; 0 is the end. Until there is more, no more than the rest is held.
    pub(super) fn poll_fill(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let readable = transport.poll_read_ready(cx)?;
        if readable.is_pending() {
            self.hold_rest_only();
            return Poll::Pending;
        }
        if self.buffer.len() == LARGE {
            self.buffer.copy_within(self.filled.clone(), 0);
        } else {
            let mut large = borrow(&SPARE_INPUT);
            large[..self.filled.len()].copy_from_slice(&self.buffer[self.filled.clone()]);
            self.buffer = large;
        }
        self.filled = 0..self.filled.len();
        let mut space = ReadBuf::new(&mut self.buffer[self.filled.end..]);
        let read = Pin::new(transport).poll_read(cx, &mut space);
        let n = space.filled().len();
        if read.is_pending() {
            self.hold_rest_only();
        }
        ready!(read)?;
        self.filled.end += n;
        Poll::Ready(Ok(n))
    }

    fn hold_rest_only(&mut self) {
        if self.buffer.len() == LARGE {
            let rest = self.buffer[self.filled.clone()].to_vec();
            self.filled = 0..rest.len();
            give_back(&SPARE_INPUT, std::mem::replace(&mut self.buffer, rest));
        }
    }
}

/// Records to be written.
pub(super) struct Output {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            filled: 0..0,
        }
    }

    /// What waits to be written.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.filled.len()
    }

    /// Whether enough has been collected.
    pub(super) fn is_full(&self) -> bool {
        self.filled.end + FRAGMENT + OVERHEAD > LARGE
    }

    /// Room for `length` more bytes, which will be written.
    pub(super) fn extend(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = borrow(&SPARE_OUTPUT);
        }
        let start = self.filled.end;
        self.filled.end += length;
        if self.filled.end > self.buffer.len() {
            self.buffer.resize(self.filled.end, 0);
        }
        &mut self.buffer[start..self.filled.end]
    }

    /// Writes everything.
    pub(super) fn poll_write(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.filled.is_empty() {
            let bytes = &self.buffer[self.filled.clone()];
            let n = ready!(Pin::new(&mut *transport).poll_write(cx, bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.filled.start += n;
        }
        self.filled = 0..0;
        give_back(&SPARE_OUTPUT, std::mem::take(&mut self.buffer));
        Poll::Ready(Ok(()))
    }
}
