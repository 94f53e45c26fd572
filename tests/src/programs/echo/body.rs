//! Bodies: the request's, read and summed up, and the response's, streamed from the pattern.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use super::received::{BodySummary, QUOTED_BODY, fields};
use super::socket::Reset;
use crate::programs::pattern::{self, Digest};

/// Longest piece of a streamed response.
const PIECE: u64 = 64 * 1024;

/// A response that ends with a reset of its stream.
#[derive(Debug, thiserror::Error)]
#[error("the request asked for a reset")]
pub(super) struct Aborted;

/// Reads a request body to its end, at most at `rate` bytes a second.
pub(super) async fn summarize(
    mut body: hyper::body::Incoming,
    rate: Option<u64>,
) -> hyper::Result<BodySummary> {
    let mut summary = BodySummary::default();
    let mut digest = Digest::default();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame?.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    summary.trailers = fields(trailers);
                }
                continue;
            }
        };
        digest.update(&frame);
        summary.bytes += frame.len() as u64;
        if text.len() <= QUOTED_BODY {
            text.extend_from_slice(&frame[..frame.len().min(QUOTED_BODY + 1 - text.len())]);
        }
        if let Some(rate) = rate {
            tokio::time::sleep(time_for(frame.len() as u64, rate)).await;
        }
    }
    summary.sha256 = digest.finish();
    if text.len() <= QUOTED_BODY {
        summary.text = String::from_utf8(text).ok();
    }
    Ok(summary)
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

/// How a streamed body is cut off.
#[derive(Debug)]
pub(super) struct CutOff {
    /// After so many bytes.
    pub(super) after: u64,
    /// The connection's reset on HTTP/1.1; on HTTP/2 an error of the body resets the stream.
    pub(super) connection: Option<Reset>,
}

/// The pattern as a body.
#[derive(Debug)]
pub(super) struct PatternBody {
    sent: u64,
    size: u64,
    rate: Option<u64>,
    cut_off: Option<CutOff>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl PatternBody {
    pub(super) fn new(size: u64, rate: Option<u64>, cut_off: Option<CutOff>) -> Self {
        Self {
            sent: 0,
            size,
            rate,
            cut_off,
            wait: None,
        }
    }
}

impl Body for PatternBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        let mut limit = self.size - self.sent;
        if let Some(cut_off) = &self.cut_off {
            limit = cut_off.after.saturating_sub(self.sent).min(limit);
            if limit == 0 {
                return match &cut_off.connection {
                    Some(connection) => {
                        connection.trigger();
                        Poll::Pending
                    }
                    None => Poll::Ready(Some(Err(Aborted))),
                };
            }
        }
        if limit == 0 {
            return Poll::Ready(None);
        }
        limit = limit.min(PIECE);
        if let Some(rate) = self.rate {
            // Ten pieces a second look like a stream and not like bursts.
            limit = limit.min((rate / 10).max(1));
        }
        let piece = pattern::piece(self.sent, limit);
        self.sent += piece.len() as u64;
        if let Some(rate) = self.rate {
            let until = Instant::now() + time_for(piece.len() as u64, rate);
            self.wait = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.sent)
    }
}
