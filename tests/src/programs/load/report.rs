//! The result of a run, as JSON and as a table.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::record::{Errors, Totals};

/// A distribution in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Quantiles {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| round(histogram.value_at_quantile(quantile) as f64 / 1e3);
        Some(Self {
            min: round(histogram.min() as f64 / 1e3),
            mean: round(histogram.mean() / 1e3),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: round(histogram.max() as f64 / 1e3),
        })
    }
}

/// Bulk transfer.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Transfer {
    pub(super) streams: u32,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// Sent and received bits over the time from the first connection to the last answer.
    pub(super) gbit_per_second: f64,
    /// Whether every byte was checked.
    pub(super) verified: bool,
}

/// What a run found.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    pub(super) mode: &'static str,
    pub(super) target: String,
    pub(super) seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_us: Option<Quantiles>,
    /// How late our own timer was (open loop).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timer_lag_us: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transfer: Option<Transfer>,
    pub(super) errors: Errors,
    /// What the server said of itself, where the protocol has room for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) about: Option<serde_json::Value>,
}

impl Report {
    /// The report of a run of requests.
    pub(super) fn of_requests(
        mode: &'static str,
        target: String,
        elapsed: Duration,
        totals: Totals,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            mode,
            target,
            seconds: round(seconds),
            requests: Some(totals.requests),
            requests_per_second: Some(round(totals.requests as f64 / seconds.max(1e-9))),
            received_bytes: Some(totals.received_bytes),
            latency_us: Quantiles::of(&totals.latency),
            timer_lag_us: Quantiles::of(&totals.lag).filter(|lag| lag.max > 0.0),
            errors: totals.errors,
            ..Self::default()
        }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<22}{value}");
        };
        row(self.mode, self.target.clone());
        if let Some(connections) = self.connections {
            row("connections", connections.to_string());
        }
        row("seconds", format!("{:.3}", self.seconds));
        if let (Some(requests), Some(rate)) = (self.requests, self.requests_per_second) {
            row("requests", requests.to_string());
            row("requests/s", format!("{rate:.1}"));
        }
        if let Some(bytes) = self.received_bytes {
            row("received bytes", bytes.to_string());
        }
        if let Some(transfer) = &self.transfer {
            row("streams", transfer.streams.to_string());
            row("sent bytes", transfer.sent_bytes.to_string());
            row("received bytes", transfer.received_bytes.to_string());
            row("Gbit/s", format!("{:.3}", transfer.gbit_per_second));
            row(
                "verified",
                if transfer.verified {
                    "every byte"
                } else {
                    "length only"
                }
                .to_owned(),
            );
        }
        for (name, quantiles) in [
            ("latency", self.latency_us),
            ("timer lag", self.timer_lag_us),
        ] {
            if let Some(q) = quantiles {
                let text = format!(
                    "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  us",
                    q.p50, q.p90, q.p99, q.p999, q.max
                );
                row(name, text);
            }
        }
        row("errors", self.errors.total.to_string());
        for (kind, count) in &self.errors.kinds {
            let first = self.errors.first.get(kind).filter(|first| *first != kind);
            let example = first
                .map(|first| format!(" (first: {first})"))
                .unwrap_or_default();
            row("", format!("{count} x {kind}{example}"));
        }
        out
    }
}

pub(super) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
