//! TCP to TCP: passthrough and same-node traffic.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::half_closed::both;
use super::{BUFFER_MAX, Counters, Error, Reader, Unfinished};

/// Joins two TCP connections until both directions have ended, or only one has and the other is idle for
/// `half_closed`.
///
/// # Errors
/// When one of them breaks, the other is then reset; or when both are given up, and reset.
pub async fn relay_tcp(
    near: TcpStream,
    far: TcpStream,
    counters: &Counters,
    half_closed: Duration,
) -> Result<(), Error> {
    let (mut near, mut far) = (Unfinished::new(near), Unfinished::new(far));
    let (near_read, near_write) = near.socket.split();
    let (far_read, far_write) = far.socket.split();
    let up = pump(near_read, far_write, |n| counters.add_sent(n));
    let down = pump(far_read, near_write, |n| counters.add_received(n));
    let up = pin!(async {
        up.await.map_err(|failure| match failure {
            Failure::Read(error) => Error::Near(error),
            Failure::Write(error) => Error::Far(error),
        })
    });
    let down = pin!(async {
        down.await.map_err(|failure| match failure {
            Failure::Read(error) => Error::Far(error),
            Failure::Write(error) => Error::Near(error),
        })
    });
    both(up, down, counters, half_closed).await?;
    near.ended = true;
    far.ended = true;
    Ok(())
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut count: impl FnMut(usize),
) -> Result<(), Failure> {
    let mut reader = Reader::new();
    loop {
        let piece = poll_fn(|cx| reader.poll_read(&mut from, BUFFER_MAX, cx)).await;
        let piece = piece.map_err(Failure::Read)?;
        if piece.is_empty() {
            break;
        }
        to.write_all(&piece).await.map_err(Failure::Write)?;
        count(piece.len());
    }
    to.shutdown().await.map_err(Failure::Write)
}
