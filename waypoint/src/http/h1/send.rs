//! A message, written: its head, then its body as it comes.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use ambit_http::h1::{BodyEncoder, EncodeError, Frame as Encoded};
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::AsyncWriteExt;

use super::Writer;
use crate::http::body::{Body, Broken, Frame};
use crate::http::patience::unless_stalled;

/// A piece this short goes out with the head.
const TOGETHER: usize = 16 * 1024;

/// Why a message was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Where the body comes from broke off.
    #[error("{0}")]
    Source(#[from] Broken),
    /// Where it goes to does not take it.
    #[error("{0}")]
    Sink(#[from] io::Error),
    /// It is not as long as it said.
    #[error("{0}")]
    Length(#[from] EncodeError),
}

/// Writes a head that has been encoded to `out`, and the body after it. Head and what is there of the body
/// leave together; a body that is not there yet does not hold the head up. `passed` is told of every
/// part of the body.
pub(super) async fn send(
    writer: &mut Writer,
    out: &mut BytesMut,
    mut encoder: BodyEncoder,
    body: &mut Body,
    mut passed: impl FnMut(&Frame),
) -> Result<(), SendError> {
    loop {
        let next = poll_fn(|cx| match body.poll_next(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if out.has_remaining() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let frame = match next.await {
            None => {
                write(writer, out).await?;
                continue;
            }
            Some(frame) => frame,
        };
        if let Ok(Some(frame)) = &frame {
            passed(frame);
        }
        let (encoded, last) = match frame {
            Ok(Some(Frame::Data(data))) => {
                match body {
                    // Nothing follows: the end goes with it.
                    Body::Empty => (take(&mut encoder).last(data)?, true),
                    _ => (encoder.data(data)?, false),
                }
            }
            Ok(Some(Frame::Trailers(trailers))) => (take(&mut encoder).end(Some(&trailers))?, true),
            Ok(None) => (take(&mut encoder).end(None)?, true),
            Err(error) => {
                // What came before is not lost.
                write(writer, out).await?;
                return Err(error.into());
            }
        };
        push(writer, out, encoded).await?;
        if last {
            return Ok(writer.flush().await?);
        }
    }
}

fn take(encoder: &mut BodyEncoder) -> BodyEncoder {
    std::mem::replace(encoder, BodyEncoder::nothing())
}

async fn push(writer: &mut Writer, out: &mut BytesMut, encoded: Encoded) -> io::Result<()> {
    if out.has_remaining() && encoded.remaining() <= TOGETHER {
        out.put(encoded);
        return write(writer, out).await;
    }
    if !encoded.has_remaining() {
        return write(writer, out).await;
    }
    write(writer, &mut out.chain(encoded)).await
}

/// Writes all of a buffer. One slice costs the kernel less than a list of one.
pub(super) async fn write(writer: &mut Writer, bytes: &mut impl Buf) -> io::Result<()> {
    let (slice, all) = (bytes.chunk().len(), bytes.remaining());
    if all == 0 {
        return Ok(());
    }
    let written = match slice == all {
        true => unless_stalled(writer.write_all(bytes.chunk())).await,
        false => unless_stalled(writer.write_all_buf(bytes)).await,
    };
    written.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    // Nothing is left of what was one slice either.
    bytes.advance(bytes.remaining());
    Ok(())
}
