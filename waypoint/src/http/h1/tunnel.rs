//! A connection after 101: bytes, both ways.

use std::io;

use bytes::Buf;
use tokio::io::AsyncWriteExt;

use super::{PIECE, Reader, Writer};

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

/// Copies both ways until both directions end. An end that breaks ends the other: both are dropped, which
/// resets what is not complete.
pub(super) async fn tunnel(client: Raw, backend: Raw) -> (Carried, io::Result<()>) {
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

async fn copy(from: &mut Reader, to: &mut Writer, bytes: &mut u64) -> io::Result<()> {
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
