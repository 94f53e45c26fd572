//! Series of requests under the names and labels that Istio dashboards expect. One resolution of a label set counts
//! the request and its three sizes.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::Workload;

use super::exemplar::{Exemplar, Exemplars};
use super::histogram::Buckets;
use super::parties::{self, Parties, Texts};
use super::series::{Counted, Table};
use super::text::{self, Format};
use super::traffic::{Reporter, Security};

/// The histogram that has exemplars.
const DURATION: &str = "istio_request_duration_milliseconds";

/// What was spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP of any version.
    Http,
    /// gRPC.
    Grpc,
}

impl RequestProtocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// What identifies a series, borrowed from the request. Missing values and empty ones are shown as
/// `unknown`.
#[derive(Debug, Clone, Copy)]
pub struct RequestLabels<'a> {
    /// The client.
    pub source: Option<&'a Workload>,
    /// The client's verified identity.
    pub source_principal: Option<&'a Identity>,
    /// The endpoint that answered, if one did.
    pub destination: Option<&'a Workload>,
    /// Its verified identity.
    pub destination_principal: Option<&'a Identity>,
    /// The service that the request was sent to: its key and its Kubernetes name.
    pub service: Option<(&'a NamespacedName, &'a str)>,
    #[allow(missing_docs)]
    pub protocol: RequestProtocol,
    /// Of the response; 0 when there was none.
    pub response_code: u16,
    /// `grpc-status` of a gRPC response.
    pub grpc_status: Option<u8>,
    /// `-`, or what went wrong.
    pub response_flags: &'static str,
    /// What protects the client's side.
    pub security: Security,
}

impl<'a> RequestLabels<'a> {
    fn texts(&self) -> Texts<'a> {
        parties::texts(self.source, self.destination, self.service)
    }

    fn principals(&self) -> [Option<&'a Identity>; 2] {
        [self.source_principal, self.destination_principal]
    }

    fn rest(&self) -> Rest {
        Rest {
            protocol: self.protocol,
            response_code: self.response_code,
            grpc_status: self.grpc_status,
            response_flags: self.response_flags,
            security: self.security,
        }
    }
}

/// The labels that are no texts of parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Rest {
    protocol: RequestProtocol,
    response_code: u16,
    grpc_status: Option<u8>,
    response_flags: &'static str,
    security: Security,
}

/// The counts of one label set.
#[derive(Debug)]
pub struct RequestSeries {
    parties: Parties,
    rest: Rest,
    count: AtomicU64,
    milliseconds: Buckets,
    exemplars: Exemplars,
    request_bytes: Buckets,
    response_bytes: Buckets,
}

impl RequestSeries {
    /// A request is over. Bytes are those of the bodies.
    pub fn count(&self, duration: Duration, request_bytes: u64, response_bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.milliseconds.add(duration.as_secs_f64() * 1000.0);
        self.request_bytes.add(request_bytes as f64);
        self.response_bytes.add(response_bytes as f64);
    }

    /// A request that was counted, and was over at `end`, belongs to a recorded trace: those that took about as long are
    /// shown with it.
    pub fn exemplify(&self, duration: Duration, trace: u128, end: SystemTime) {
        let value = duration.as_secs_f64() * 1000.0;
        let exemplar = Exemplar {
            trace,
            value,
            at: end,
        };
        let buckets = &self.milliseconds;
        self.exemplars
            .put(buckets.place(value), buckets.len(), exemplar);
    }
}

impl Counted for RequestSeries {
    fn parties(&self) -> &Parties {
        &self.parties
    }

    fn write_labels(&self, out: &mut String) {
        let mut first = true;
        let reporter = Reporter::Waypoint.as_str();
        text::label(out, &mut first, "reporter", reporter);
        self.parties.write(out, &mut first);
        let Rest {
            protocol,
            response_code,
            grpc_status,
            response_flags,
            security,
        } = self.rest;
        let code = response_code.to_string();
        let grpc = grpc_status.map(|status| status.to_string());
        for (name, value) in [
            ("request_protocol", protocol.as_str()),
            ("response_code", &code),
            ("grpc_response_status", grpc.as_deref().unwrap_or("")),
            ("response_flags", response_flags),
            ("connection_security_policy", security.as_str()),
        ] {
            text::label(out, &mut first, name, value);
        }
    }
}

/// All request series of the process.
pub type Requests = Table<RequestSeries>;

impl Requests {
    /// The series of a label set; made when it is new.
    #[must_use]
    pub fn series(&self, labels: &RequestLabels<'_>) -> Arc<RequestSeries> {
        let (texts, rest) = (labels.texts(), labels.rest());
        let principals = labels.principals();
        let is =
            |series: &RequestSeries| series.rest == rest && series.parties.are(&texts, principals);
        let new = || RequestSeries {
            parties: Parties::new(&texts, principals),
            rest,
            count: AtomicU64::new(0),
            milliseconds: Buckets::default(),
            exemplars: Exemplars::default(),
            request_bytes: Buckets::default(),
            response_bytes: Buckets::default(),
        };
        self.find((texts, principals, rest), is, new)
    }

    /// Writes all series and drops the retired ones.
    pub(super) fn render(&self, out: &mut String, format: Format) {
        let all = self.take_stock();
        if all.is_empty() {
            return;
        }
        let name = "istio_requests_total";
        text::family(
            out,
            format,
            name,
            "counter",
            "Requests, counted when they are over.",
        );
        for (series, labels) in &all {
            let count = series.count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
        type Histogram = fn(&RequestSeries) -> &Buckets;
        let families: [(&str, &str, Histogram); 3] = [
            (
                DURATION,
                "From the head of a request to the end of its response.",
                |series| &series.milliseconds,
            ),
            (
                "istio_request_bytes",
                "Bytes of the bodies of requests.",
                |series| &series.request_bytes,
            ),
            (
                "istio_response_bytes",
                "Bytes of the bodies of responses.",
                |series| &series.response_bytes,
            ),
        ];
        for (name, help, histogram) in families {
            text::family(out, format, name, "histogram", help);
            let shows_exemplars = format == Format::OpenMetrics && name == DURATION;
            for (series, labels) in &all {
                histogram(series).render(format, |suffix, bucket, value| {
                    let _ = write!(out, "{name}{suffix}{{{labels}");
                    if let Some((_, le)) = bucket {
                        let _ = write!(out, ",le=\"{le}\"");
                    }
                    let _ = write!(out, "}} {value}");
                    if shows_exemplars
                        && let Some((place, _)) = bucket
                        && let Some(exemplar) = series.exemplars.of(place)
                    {
                        let _ = write!(out, " # {exemplar}");
                    }
                    out.push('\n');
                });
            }
        }
    }
}
