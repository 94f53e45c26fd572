//! The process's metrics: series of connections and requests with cached label sets, and whatever the rest of the
//! code counts with the macros of the `metrics` crate.

mod exemplar;
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
pub use text::Format;
pub use traffic::{Reporter, Security, Series, Traffic, TrafficLabels};

/// All metrics of a process.
#[derive(Clone, Default)]
pub struct Metrics {
    traffic: Arc<Traffic>,
    requests: Arc<Requests>,
    recorder: Recorder,
    has_exemplars: bool,
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

    /// The same, and whether exemplars are collected.
    #[must_use]
    pub fn with_exemplars(self, has_exemplars: bool) -> Self {
        Self {
            has_exemplars,
            ..self
        }
    }

    /// Exemplars are collected: OpenMetrics is written for those who ask for it.
    #[must_use]
    pub fn has_exemplars(&self) -> bool {
        self.has_exemplars
    }

    /// All metrics in the text format of Prometheus. Series that were retired are shown once more
    /// and then dropped.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_as(Format::Prometheus)
    }

    /// The same in any format.
    #[must_use]
    pub fn render_as(&self, format: Format) -> String {
        let mut out = String::with_capacity(16 * 1024);
        self.traffic.render(&mut out, format);
        self.requests.render(&mut out, format);
        self.recorder.render_as(&mut out, format);
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}
