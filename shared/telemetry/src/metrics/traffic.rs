//! Series of TCP connections and UDP flows under the names and labels that Istio dashboards expect. A label set is resolved to its
//! [`Series`] once a connection.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_core::addr::NamespacedName;
use ambit_core::identity::Identity;
use ambit_core::model::Workload;
use ambit_core::plan::Transport;

use super::parties::{self, Parties, Texts};
use super::series::{Counted, Table};
use super::text::{self, Format};

/// Which end of a connection reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The proxy of the client.
    Source,
    /// The proxy of the server.
    Destination,
    /// The waypoint between them.
    Waypoint,
}

impl Reporter {
    /// The value of the label `reporter`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

/// What protects a connection between the two workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Mutual TLS with mesh certificates.
    MutualTls,
    /// Both ends are pods of this node and the kernel vouches for each: no wire, no TLS.
    Local,
    /// Nothing the mesh knows of.
    Unknown,
}

impl Security {
    /// The value of the label `connection_security_policy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Local => "node_local",
            Self::Unknown => "unknown",
        }
    }
}

/// What identifies a series, borrowed from the connection's plan. Missing values and empty ones
/// are shown as `unknown`.
#[derive(Debug, Clone, Copy)]
pub struct TrafficLabels<'a> {
    /// Which end reports.
    pub reporter: Reporter,
    /// The client.
    pub source: Option<&'a Workload>,
    /// The client's identity, when something vouched for it.
    pub source_principal: Option<&'a Identity>,
    /// The waypoint that the client came through, when it says who the client is.
    pub source_waypoint: Option<&'a Identity>,
    /// The server.
    pub destination: Option<&'a Workload>,
    /// The server's identity, when something vouches for it.
    pub destination_principal: Option<&'a Identity>,
    /// The service the client asked for: its key and its Kubernetes name.
    pub service: Option<(&'a NamespacedName, &'a str)>,
    /// `-`, or why the connection failed.
    pub response_flags: &'static str,
    /// What carries it.
    pub transport: Transport,
    /// What protects it.
    pub security: Security,
}

impl<'a> TrafficLabels<'a> {
    fn texts(&self) -> Texts<'a> {
        parties::texts(self.source, self.destination, self.service)
    }

    fn principals(&self) -> [Option<&'a Identity>; 2] {
        [self.source_principal, self.destination_principal]
    }
}

/// The counters of one label set. Cheap to hold and to add to.
#[derive(Debug)]
pub struct Series {
    parties: Parties,
    source_waypoint: Option<Identity>,
    reporter: Reporter,
    response_flags: &'static str,
    transport: Transport,
    security: Security,
    opened: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Series {
    fn new(labels: &TrafficLabels<'_>, texts: &Texts<'_>) -> Self {
        Self {
            parties: Parties::new(texts, labels.principals()),
            source_waypoint: labels.source_waypoint.cloned(),
            reporter: labels.reporter,
            response_flags: labels.response_flags,
            transport: labels.transport,
            security: labels.security,
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    fn is(&self, labels: &TrafficLabels<'_>, texts: &Texts<'_>) -> bool {
        self.reporter == labels.reporter
            && self.response_flags == labels.response_flags
            && self.transport == labels.transport
            && self.security == labels.security
            && self.source_waypoint.as_ref() == labels.source_waypoint
            && self.parties.are(texts, labels.principals())
    }

    /// A connection was opened.
    pub fn open(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended.
    pub fn close(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection could not be established, or was refused.
    pub fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes from the client to the server (`istio_tcp_received_bytes_total`).
    pub fn add_request_bytes(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes from the server to the client (`istio_tcp_sent_bytes_total`).
    pub fn add_response_bytes(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counted for Series {
    fn parties(&self) -> &Parties {
        &self.parties
    }

    fn write_labels(&self, out: &mut String) {
        let mut first = true;
        text::label(out, &mut first, "reporter", self.reporter.as_str());
        self.parties.write(out, &mut first);
        // Istio has no such label: it is there only where there is something to say.
        if let Some(waypoint) = &self.source_waypoint {
            text::label(out, &mut first, "source_waypoint", &waypoint.to_string());
        }
        text::label(out, &mut first, "request_protocol", self.transport.as_str());
        text::label(out, &mut first, "response_flags", self.response_flags);
        let security = self.security.as_str();
        text::label(out, &mut first, "connection_security_policy", security);
    }
}

/// All connection series of the process.
pub type Traffic = Table<Series>;

impl Traffic {
    /// The series of a label set; made when it is new.
    #[must_use]
    pub fn series(&self, labels: &TrafficLabels<'_>) -> Arc<Series> {
        let texts = labels.texts();
        let key = (
            texts,
            labels.principals(),
            labels.source_waypoint,
            labels.reporter,
            labels.response_flags,
            labels.transport,
            labels.security,
        );
        let new = || Series::new(labels, &texts);
        self.find(key, |series| series.is(labels, &texts), new)
    }

    /// Writes all series and drops the retired ones that no connection holds.
    pub(super) fn render(&self, out: &mut String, format: Format) {
        let all = self.take_stock();
        type Value = fn(&Series) -> &AtomicU64;
        let families: [(&str, &str, Value); 5] = [
            (
                "istio_tcp_connections_opened_total",
                "TCP connections and UDP flows opened.",
                |s| &s.opened,
            ),
            (
                "istio_tcp_connections_closed_total",
                "TCP connections and UDP flows closed.",
                |s| &s.closed,
            ),
            (
                "istio_tcp_received_bytes_total",
                "Bytes sent by clients to servers over TCP connections and UDP flows.",
                |s| &s.received,
            ),
            (
                "istio_tcp_sent_bytes_total",
                "Bytes sent by servers to clients over TCP connections and UDP flows.",
                |s| &s.sent,
            ),
            (
                "istio_tcp_connections_failed_total",
                "TCP connections and UDP flows that were refused or could not be established.",
                |s| &s.failed,
            ),
        ];
        for (name, help, value) in families {
            text::family(out, format, name, "counter", help);
            for (series, labels) in &all {
                // A series that never counted anything of this kind is not shown.
                let value = value(series).load(Ordering::Relaxed);
                if value > 0 {
                    let _ = writeln!(out, "{name}{{{labels}}} {value}");
                }
            }
        }
    }
}
