//! Connections of HTTP/1.1, driven: the codec says what bytes mean, this moves them.

mod client;
mod incoming;
mod server;

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::io::Io;

pub(super) use client::{Connection, Failure, Head, Keep, exchange};
pub(super) use incoming::Incoming;
pub(super) use server::serve;

/// The first read of a message.
const READ: usize = 8 * 1024;
/// Bodies are read in pieces of up to this.
const PIECE: usize = 64 * 1024;

/// The receiving half of a connection, and what has been read and not taken.
pub(super) struct Reader {
    half: ReadHalf<Io>,
    pub(super) buffer: BytesMut,
}

/// The sending half.
pub(super) type Writer = WriteHalf<Io>;

/// A connection after 101: bytes, both ways.
pub(crate) struct Raw {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl Reader {
    pub(super) fn new(half: ReadHalf<Io>, buffer: BytesMut) -> Self {
        Self { half, buffer }
    }

    /// Reads more; `false` at the end. A call that is dropped loses nothing.
    pub(super) async fn fill(&mut self, most: usize) -> io::Result<bool> {
        self.buffer.reserve(most);
        Ok(self.half.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Writes all of a buffer of slices.
pub(super) async fn write(writer: &mut Writer, mut bytes: impl Buf) -> io::Result<()> {
    writer.write_all_buf(&mut bytes).await
}

/// Copies both ways between two connections that have stopped being HTTP, until both directions end.
pub(super) async fn tunnel(one: Raw, other: Raw) {
    let (a, b) = (one, other);
    let (mut from_a, mut to_a) = (a.reader, a.writer);
    let (mut from_b, mut to_b) = (b.reader, b.writer);
    // An end that breaks ends the other: both are dropped, which resets what is not complete.
    let _ = tokio::try_join!(copy(&mut from_a, &mut to_b), copy(&mut from_b, &mut to_a));
}

async fn copy(from: &mut Reader, to: &mut Writer) -> io::Result<()> {
    loop {
        if !from.buffer.is_empty() {
            to.write_all_buf(&mut from.buffer).await?;
            to.flush().await?;
        }
        if !from.fill(PIECE).await? {
            return to.shutdown().await;
        }
    }
}
