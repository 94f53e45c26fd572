//! The TCP modes.

use std::io;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::command::{Command, Mode};
use super::socket::Socket;
use super::stats::Open;
use super::{Process, received};
use crate::programs::pattern::{self, Digest};

/// A connection starts with a small buffer, so that ten thousand idle ones are cheap, and gets this one when it is busy.
const BUSY_BUFFER: usize = 256 * 1024;
const IDLE_BUFFER: usize = 4 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(
    process: &Process,
    mut socket: Socket,
    command: Command,
    open: &Open,
) -> io::Result<()> {
    match command.mode {
        Mode::Echo => echo(&mut socket, open).await?,
        Mode::Info => {
            let about = received::about_connection(process, socket.ends()?);
            socket.write_all(format!("{about}\n").as_bytes()).await?;
            echo(&mut socket, open).await?;
        }
        Mode::Discard => {
            drain(&mut socket, open, None).await?;
        }
        Mode::Count => {
            let bytes = drain(&mut socket, open, None).await?;
            answer(&mut socket, &json!({ "bytes": bytes })).await?;
        }
        Mode::Sum => {
            let mut digest = Digest::default();
            let bytes = drain(&mut socket, open, Some(&mut digest)).await?;
            let sha256 = digest.finish();
            open.finished(0, Some(sha256.clone()));
            answer(&mut socket, &json!({ "bytes": bytes, "sha256": sha256 })).await?;
        }
        Mode::Source => return source(socket, command.size).await,
        Mode::HalfClose => {
            socket.shutdown().await?;
            let mut digest = Digest::default();
            drain(&mut socket, open, Some(&mut digest)).await?;
            open.finished(0, Some(digest.finish()));
            return Ok(());
        }
        Mode::Reset => {
            socket.reset().trigger();
            return Ok(());
        }
        Mode::Hang => {
            socket.gone().await;
            return Ok(());
        }
    }
    socket.shutdown().await
}

async fn answer(socket: &mut Socket, value: &serde_json::Value) -> io::Result<()> {
    socket.write_all(format!("{value}\n").as_bytes()).await
}

/// Reads until the end, calling nothing for empty reads; the buffer grows once a read fills it. What was read is counted at the
/// end, also of a connection that breaks.
struct Reader<'a> {
    open: &'a Open,
    buffer: Vec<u8>,
    total: u64,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.open.finished(self.total, None);
    }
}

impl<'a> Reader<'a> {
    fn new(open: &'a Open) -> Self {
        Self {
            open,
            buffer: vec![0; IDLE_BUFFER],
            total: 0,
        }
    }

    async fn next(&mut self, socket: &mut Socket) -> io::Result<Option<&[u8]>> {
        let read = socket.read(&mut self.buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        self.total += read as u64;
        if read == self.buffer.len() && read < BUSY_BUFFER {
            self.buffer.resize(BUSY_BUFFER, 0);
        }
        Ok(Some(&self.buffer[..read]))
    }
}

async fn echo(socket: &mut Socket, open: &Open) -> io::Result<()> {
    let mut reader = Reader::new(open);
    while let Some(bytes) = reader.next(socket).await? {
        socket.write_all(bytes).await?;
    }
    Ok(())
}

async fn drain(
    socket: &mut Socket,
    open: &Open,
    mut digest: Option<&mut Digest>,
) -> io::Result<u64> {
    let mut reader = Reader::new(open);
    while let Some(bytes) = reader.next(socket).await? {
        if let Some(digest) = &mut digest {
            digest.update(bytes);
        }
    }
    Ok(reader.total)
}

async fn source(mut socket: Socket, size: Option<u64>) -> io::Result<()> {
    let size = size.unwrap_or(u64::MAX);
    let mut sent = 0;
    while sent < size {
        let piece = pattern::piece(sent, (size - sent).min(BUSY_BUFFER as u64));
        socket.write_all(&piece).await?;
        sent += piece.len() as u64;
    }
    socket.shutdown().await?;
    // Closing with unread bytes would reset what the client has not read yet.
    let mut scratch = [0; IDLE_BUFFER];
    while socket.read(&mut scratch).await? > 0 {}
    Ok(())
}
