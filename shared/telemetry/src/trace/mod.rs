//! Spans of requests, exported by OTLP over gRPC.
//!
//! Nothing waits for a collector: spans go into a bounded queue, in batches from there, and are dropped and
//! counted when either is full or fails.

mod export;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::SystemTime;

use tokio::sync::mpsc;

/// Spans that wait for export.
const QUEUE: usize = 4096;

/// Where spans go, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://HOST:PORT` of a collector that speaks OTLP over gRPC.
    pub endpoint: String,
    /// Share of the traces that begin here, in millionths. A trace that comes with a decision keeps it.
    pub sampled: u32,
    /// `service.name` of the resource.
    pub service: String,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// One span; its kind is SERVER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Of the whole trace.
    pub trace: u128,
    /// Of this span.
    pub id: u64,
    /// The caller's span.
    pub parent: Option<u64>,
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    pub start: SystemTime,
    #[allow(missing_docs)]
    pub end: SystemTime,
    /// What went wrong.
    pub error: Option<String>,
    /// By OpenTelemetry's semantic conventions.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Takes spans.
#[derive(Debug, Clone)]
pub struct Tracing {
    queue: mpsc::Sender<Span>,
    sampled: u32,
}

impl Tracing {
    /// What takes spans, and what exports them until it is gone.
    pub fn new(settings: Settings) -> (Self, impl Future<Output = ()> + Send + use<>) {
        export::describe();
        let (queue, spans) = mpsc::channel(QUEUE);
        let sampled = settings.sampled;
        (Self { queue, sampled }, export::run(settings, spans))
    }

    /// Whether a trace with this draw, below a million, is recorded when nobody else has decided that.
    #[must_use]
    pub fn samples(&self, draw: u32) -> bool {
        draw < self.sampled
    }

    /// Takes a span, unless too many wait already.
    pub fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            export::dropped(1);
        }
    }
}
