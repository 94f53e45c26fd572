//! What is counted and logged of a question, under the names that Istio's node proxy has for it.

use std::sync::Arc;

use ambit_core::dns::{Query, code};
use ambit_core::model::Workload;
use metrics::{SharedString, counter, histogram};
use tokio::time::Instant;

use super::super::PodProxy;
use super::{Failure, Transport};

/// One question on its way.
pub(super) struct Tally {
    pod: Arc<str>,
    labels: [(&'static str, SharedString); 4],
    via: Transport,
    begun: Instant,
    /// When another resolver was asked.
    forwarded: Option<Instant>,
}

impl Tally {
    pub(super) fn begin(proxy: &PodProxy, via: Transport, query: &Query) -> Self {
        let unknown = SharedString::const_str("unknown");
        Self {
            pod: proxy.pod.name.clone(),
            labels: [
                ("request_query_type", query.kind().as_str().into()),
                ("request_protocol", via.as_str().into()),
                ("source_canonical_service", unknown.clone()),
                ("source_canonical_revision", unknown),
            ],
            via,
            begun: Instant::now(),
            forwarded: None,
        }
    }

    /// Says who asks.
    pub(super) fn is_from(&mut self, pod: &Workload) {
        self.labels[2].1 = pod.canonical_name.to_string().into();
        self.labels[3].1 = pod.canonical_revision.to_string().into();
    }

    /// The mesh knew.
    pub(super) fn answered(self, query: &Query, reply: &[u8]) {
        counter!("istio_dns_requests_total", &self.labels).increment(1);
        self.log(query, &"answered", reply);
    }

    /// Another resolver is asked.
    pub(super) fn forwarded(&mut self) {
        self.forwarded = Some(Instant::now());
    }

    /// Another resolver knew.
    pub(super) fn passed_on(self, query: &Query, reply: &[u8]) {
        counter!("istio_dns_requests_total", &self.labels).increment(1);
        self.count_upstream();
        self.log(query, &"forwarded", reply);
    }

    /// Nobody has answered.
    pub(super) fn failed(self, query: &Query, failure: &Failure, reply: &[u8]) {
        counter!("istio_dns_requests_total", &self.labels).increment(1);
        self.count_upstream();
        counter!("istio_dns_upstream_failures_total", &self.labels).increment(1);
        self.log(query, failure, reply);
    }

    fn count_upstream(&self) {
        if let Some(forwarded) = self.forwarded {
            counter!("istio_dns_upstream_requests_total", &self.labels).increment(1);
            let took = forwarded.elapsed().as_secs_f64();
            histogram!("istio_dns_upstream_request_duration_seconds", &self.labels).record(took);
        }
    }

    fn log(&self, query: &Query, result: &dyn std::fmt::Display, reply: &[u8]) {
        tracing::debug!(
            target: "dns",
            src = %self.pod,
            query = query.kind().as_str(),
            domain = query.name().unwrap_or("?"),
            protocol = self.via.as_str(),
            %result,
            code = code(reply),
            bytes = reply.len(),
            duration = ?self.begun.elapsed(),
        );
    }
}

/// Says what the metrics are. Whose questions they count is known with the first.
pub(in crate::proxy) fn describe() {
    use metrics::{describe_counter, describe_histogram};
    describe_counter!("istio_dns_requests_total", "Questions of pods.");
    describe_counter!(
        "istio_dns_upstream_requests_total",
        "Questions asked of the pod's resolver."
    );
    describe_counter!(
        "istio_dns_upstream_failures_total",
        "Questions that nobody has answered."
    );
    describe_histogram!(
        "istio_dns_upstream_request_duration_seconds",
        "Time until the pod's resolver answered, or did not."
    );
}
