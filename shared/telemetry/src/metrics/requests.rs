//! Series of requests under the names and labels that Istio dashboards expect.
//!
//! As with connections, a label set is resolved by a hash over borrowed values and nothing is allocated unless
//! the set is new. One resolution counts the request and its three sizes.

use std::fmt::Write;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

use super::histogram::Buckets;
use super::parties::{self, Parties, Texts};
use super::text;
use super::traffic::{Reporter, Security};

/// Independent locks, so that workers do not wait for each other.
const SHARDS: usize = 16;

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
    retired: AtomicBool,
    count: AtomicU64,
    milliseconds: Buckets,
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

/// Series with the hash of their labels.
type Shard = HashTable<(u64, Arc<RequestSeries>)>;

/// All request series of the process.
#[derive(Debug)]
pub struct Requests {
    hasher: DefaultHashBuilder,
    shards: [RwLock<Shard>; SHARDS],
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
        }
    }
}

impl Requests {
    /// The series of a label set; made when it is new.
    #[must_use]
    pub fn series(&self, labels: &RequestLabels<'_>) -> Arc<RequestSeries> {
        let (texts, rest) = (labels.texts(), labels.rest());
        let principals = labels.principals();
        let mut state = self.hasher.build_hasher();
        texts.hash(&mut state);
        principals.hash(&mut state);
        rest.hash(&mut state);
        let hash = state.finish();
        let shard = &self.shards[hash as usize % SHARDS];
        let same = |entry: &(u64, Arc<RequestSeries>)| {
            let series = &entry.1;
            entry.0 == hash && series.rest == rest && series.parties.are(&texts, principals)
        };
        if let Some((_, series)) = shard.read().find(hash, same) {
            series.retired.store(false, Ordering::Relaxed);
            return series.clone();
        }
        let new = || RequestSeries {
            parties: Parties::new(&texts, principals),
            rest,
            retired: AtomicBool::new(false),
            count: AtomicU64::new(0),
            milliseconds: Buckets::default(),
            request_bytes: Buckets::default(),
            response_bytes: Buckets::default(),
        };
        let mut table = shard.write();
        let (_, series) = table
            .entry(hash, same, |entry| entry.0)
            .or_insert_with(|| (hash, Arc::new(new())))
            .into_mut();
        series.retired.store(false, Ordering::Relaxed);
        series.clone()
    }

    /// Marks the series with a party (namespace, workload name) that is gone from the mesh. They are shown once
    /// more and then dropped, unless a request finds them again.
    pub fn retire(&self, mut gone: impl FnMut(&str, &str) -> bool) {
        for shard in &self.shards {
            for (_, series) in shard.read().iter() {
                let parties = series.parties.workloads();
                if parties.iter().any(|(ns, name)| gone(ns, name)) {
                    series.retired.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// The number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all series and drops the retired ones.
    pub(super) fn render(&self, out: &mut String) {
        let mut all = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|(_, series)| {
                all.push(series.clone());
                !series.retired.load(Ordering::Relaxed)
            });
        }
        if all.is_empty() {
            return;
        }
        let labels: Vec<String> = all
            .iter()
            .map(|series| {
                let mut text = String::with_capacity(1024);
                series.write_labels(&mut text);
                text
            })
            .collect();
        let name = "istio_requests_total";
        text::family(
            out,
            name,
            "counter",
            "Requests, counted when they are over.",
        );
        for (series, labels) in all.iter().zip(&labels) {
            let count = series.count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{{labels}}} {count}");
        }
        type Histogram = fn(&RequestSeries) -> &Buckets;
        let families: [(&str, &str, Histogram); 3] = [
            (
                "istio_request_duration_milliseconds",
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
            text::family(out, name, "histogram", help);
            for (series, labels) in all.iter().zip(&labels) {
                histogram(series).render(|suffix, le, value| {
                    let _ = write!(out, "{name}{suffix}{{{labels}");
                    if let Some(le) = le {
                        let _ = write!(out, ",le=\"{le}\"");
                    }
                    let _ = writeln!(out, "}} {value}");
                });
            }
        }
    }
}
