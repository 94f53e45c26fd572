//! The process's metrics: series of connections and requests with cached label sets, and whatever the rest of the
//! code counts with the macros of the `metrics` crate.

mod histogram;
mod parties;
mod recorder;
mod requests;
mod series;
mod text;
mod traffic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use recorder::Recorder;
pub use requests::{RequestLabels, RequestProtocol, RequestSeries, Requests};
pub use traffic::{Reporter, Security, Series, Traffic, TrafficLabels};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a process.
#[derive(Clone, Default)]
pub struct Metrics {
    traffic: Arc<Traffic>,
    requests: Arc<Requests>,
    recorder: Recorder,
}

impl Metrics {
    /// Metrics that the macros of the `metrics` crate feed, if no other recorder is installed.
    #[must_use]
    pub fn install() -> Self {
        let metrics = Self::default();
        if metrics::set_global_recorder(metrics.recorder.clone()).is_err() {
            tracing::warn!("another metrics recorder is installed; internal counters go there");
        }
        metrics
    }

    /// The series of connections.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// The series of requests.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// All metrics in the Prometheus text format. Series that were retired are shown once more
    /// and then dropped.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        self.traffic.render(&mut out);
        self.requests.render(&mut out);
        self.recorder.render(&mut out);
        out
    }
}
