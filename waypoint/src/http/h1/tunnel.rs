//! A connection after 101: bytes, both ways.

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;

use super::{PIECE, Reader, Writer};
use crate::http::record::Record;
use crate::io::{self, Io};

/// One side of it.
pub(crate) struct Raw {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

/// Bytes that were carried, also when it broke off.
#[derive(Debug, Default, Clone, Copy)]
pub(in super::super) struct Carried {
    pub(in super::super) up: u64,
    pub(in super::super) down: u64,
}

impl Raw {
    /// The side of a client whose connection is nothing else from now on.
    pub(in super::super) fn new(io: Io) -> Self {
        let (reader, writer) = io::split(io);
        Self {
            reader: Reader::new(reader, BytesMut::new()),
            writer,
        }
    }

    /// Carries bytes between this client and a backend to the end, and tells how it went.
    pub(in super::super) async fn carry(self, backend: Self, mut record: Box<Record>) {
        let (carried, ended) = tunnel(self, backend).await;
        record.carried(carried);
        match ended {
            Ok(()) => record.complete(),
            Err(error) => record.broke(&error),
        }
    }
}

/// Copies both ways until both directions end. An end that breaks ends the other: both are dropped, which
/// resets what is not complete.
async fn tunnel(client: Raw, backend: Raw) -> (Carried, std::io::Result<()>) {
    let (mut from_client, mut to_client) = (client.reader, client.writer);
    let (mut from_backend, mut to_backend) = (backend.reader, backend.writer);
    let mut carried = Carried::default();
    let Carried { up, down } = &mut carried;
    let ended = tokio::try_join!(
        copy(&mut from_client, &mut to_backend, up),
        copy(&mut from_backend, &mut to_client, down)
    );
    (carried, ended.map(drop))
}

async fn copy(from: &mut Reader, to: &mut Writer, bytes: &mut u64) -> std::io::Result<()> {
    loop {
        let size = from.buffer.remaining() as u64;
        if size > 0 {
            to.write_all_buf(&mut from.buffer).await?;
            to.flush().await?;
            *bytes += size;
            // An idle tunnel holds no buffer.
            from.rest();
        }
        if from.fill(PIECE).await? == 0 {
            return to.shutdown().await;
        }
    }
}
