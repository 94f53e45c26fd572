//! TCP throughput and integrity.
//!
//! Each stream asks the echo server for a TCP mode by its first line. Sent bytes count when the server has confirmed
//! them, so that full socket buffers on the way are not taken for throughput.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engine;
use super::failure::{Failure, Stage};
use super::options::{Bulk, Direction};
use super::record::Errors;
use super::report::{Report, Transfer, round};
use super::target::{self, Resolved};
use crate::programs::echo::command::{Command, Mode};
use crate::programs::pattern::{self, Digest, Verifier};

const BUFFER: usize = 256 * 1024;

pub(super) fn run(arguments: &Bulk) -> anyhow::Result<Report> {
    let resolved = target::resolve(&arguments.address, arguments.family, arguments.timeout)?;
    let streams = arguments.streams as usize;
    let threads = engine::threads(arguments.threads, streams);
    let start = Instant::now();
    let job = Job {
        direction: arguments.direction,
        bytes: arguments.bytes,
        end: arguments
            .bytes
            .is_none()
            .then(|| start + arguments.duration),
        checksum: arguments.checksum,
        timeout: arguments.timeout,
    };
    let parts = engine::on_threads(threads, |thread| {
        let resolved = resolved.clone();
        async move {
            let tasks: Vec<_> = (thread..streams)
                .step_by(threads)
                .map(|_| {
                    let resolved = resolved.clone();
                    tokio::task::spawn_local(async move { job.stream(&resolved).await })
                })
                .collect();
            let mut outcomes = Vec::new();
            for task in tasks {
                outcomes.push(task.await.context("a stream panicked")?);
            }
            Ok(outcomes)
        }
    })?;
    let elapsed = start.elapsed();
    let mut transfer = Transfer {
        streams: arguments.streams,
        ..Transfer::default()
    };
    let mut errors = Errors::default();
    for outcome in parts.into_iter().flatten() {
        match outcome {
            Ok(moved) => {
                transfer.sent_bytes += moved.sent;
                transfer.received_bytes += moved.received;
            }
            Err(failure) => errors.add(failure),
        }
    }
    let bits = (transfer.sent_bytes + transfer.received_bytes) as f64 * 8.0;
    transfer.gbit_per_second = round(bits / elapsed.as_secs_f64() / 1e9);
    transfer.verified = arguments.checksum && errors.total == 0;
    Ok(Report {
        mode: "bulk",
        target: arguments.address.to_string(),
        seconds: round(elapsed.as_secs_f64()),
        transfer: Some(transfer),
        errors,
        ..Report::default()
    })
}

/// What every stream does.
#[derive(Debug, Clone, Copy)]
struct Job {
    direction: Direction,
    bytes: Option<u64>,
    end: Option<Instant>,
    checksum: bool,
    timeout: Duration,
}

/// What a stream has moved.
#[derive(Debug, Default)]
struct Moved {
    sent: u64,
    received: u64,
}

/// The server's word on what it received.
#[derive(Debug, Deserialize)]
struct Confirmation {
    bytes: u64,
    #[serde(default)]
    sha256: Option<String>,
}

impl Job {
    async fn stream(self, resolved: &Resolved) -> Result<Moved, Failure> {
        let mut stream = resolved.connect().await?;
        let mode = match self.direction {
            Direction::Send if self.checksum => Mode::Sum,
            Direction::Send => Mode::Count,
            Direction::Receive => Mode::Source,
            Direction::Both => Mode::Echo,
        };
        let size = self.bytes.filter(|_| mode == Mode::Source);
        let line = Command { mode, size }.line();
        let started = stream.write_all(line.as_bytes()).await;
        started.map_err(|error| Failure::io(Stage::Send, &error))?;
        match self.direction {
            Direction::Send => self.send(&mut stream).await,
            Direction::Receive => {
                let received = self.receive(&mut stream).await?;
                self.check_length("received", received, self.bytes)?;
                Ok(Moved { sent: 0, received })
            }
            Direction::Both => {
                let (mut reader, mut writer) = stream.split();
                let (sent, received) =
                    tokio::try_join!(self.write(&mut writer), self.receive(&mut reader))?;
                self.check_length("received", received, Some(sent.0))?;
                Ok(Moved {
                    sent: sent.0,
                    received,
                })
            }
        }
    }

    async fn send(self, stream: &mut TcpStream) -> Result<Moved, Failure> {
        let (sent, digest) = self.write(stream).await?;
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(self.timeout, stream.read_to_end(&mut answer));
        match reading.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Failure::io(Stage::Receive, &error)),
            Err(_) => return Err(Failure::timeout(Stage::Receive)),
        }
        let text = String::from_utf8_lossy(&answer);
        if text.is_empty() {
            return Err(Failure::closed_early(Stage::Receive));
        }
        let confirmed: Confirmation = serde_json::from_str(&text)
            .map_err(|error| Failure::malformed(format!("{error}: {text:?}")))?;
        self.check_length("the server received", confirmed.bytes, Some(sent))?;
        if self.checksum && confirmed.sha256 != Some(digest.finish()) {
            return Err(Failure::corrupted("the server's SHA-256 differs from ours"));
        }
        Ok(Moved { sent, received: 0 })
    }

    /// Writes the pattern and ends our side.
    async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(u64, Digest), Failure> {
        let failed = |error: std::io::Error| Failure::io(Stage::Send, &error);
        let mut digest = Digest::default();
        let mut sent = 0;
        while !self.is_over(sent) {
            let left = self.bytes.map_or(u64::MAX, |bytes| bytes - sent);
            let piece = pattern::piece(sent, left.min(BUFFER as u64));
            match tokio::time::timeout(self.timeout, stream.write_all(&piece)).await {
                Ok(result) => result.map_err(failed)?,
                Err(_) => return Err(Failure::timeout(Stage::Send)),
            }
            if self.checksum {
                digest.update(&piece);
            }
            sent += piece.len() as u64;
        }
        stream.shutdown().await.map_err(failed)?;
        Ok((sent, digest))
    }

    /// Reads to the server's end; a timed stream that only receives stops when its time is over.
    async fn receive(self, stream: &mut (impl AsyncRead + Unpin)) -> Result<u64, Failure> {
        let mut buffer = vec![0; BUFFER];
        let mut verifier = Verifier::default();
        let mut received = 0;
        while self.direction == Direction::Both || self.bytes.is_some() || !self.is_over(received) {
            let read = match tokio::time::timeout(self.timeout, stream.read(&mut buffer)).await {
                Ok(result) => result.map_err(|error| Failure::io(Stage::Receive, &error))?,
                Err(_) => return Err(Failure::timeout(Stage::Receive)),
            };
            if read == 0 {
                break;
            }
            if self.checksum {
                verifier.update(&buffer[..read]);
            }
            received += read as u64;
        }
        match verifier.mismatch() {
            Some(at) => Err(Failure::corrupted(format!(
                "byte {at} of the stream differs"
            ))),
            None => Ok(received),
        }
    }

    fn is_over(self, moved: u64) -> bool {
        match self.bytes {
            Some(bytes) => moved >= bytes,
            None => self.end.is_some_and(|end| Instant::now() >= end),
        }
    }

    fn check_length(self, what: &str, got: u64, expected: Option<u64>) -> Result<(), Failure> {
        match expected {
            Some(expected) if expected != got => Err(Failure::corrupted(format!(
                "{what} {got} bytes instead of {expected}"
            ))),
            _ => Ok(()),
        }
    }
}
