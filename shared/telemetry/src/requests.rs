//! The access log of requests: one line a request, in the order of Envoy's default format, or as JSON.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::log::{Format, JsonLine, Logging, Sink, utc};

/// The scope of these lines: `RUST_LOG=access=off` turns them off.
pub const SCOPE: &str = "access";

/// A finished request. Texts that are not known are empty.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// As the client wrote it.
    pub method: String,
    /// Canonical path, and the query as received.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Of the response; 0 when there was none.
    pub status: u16,
    /// Response flags; `-` is none.
    pub flags: &'static str,
    /// Why we answered ourselves, or what broke.
    pub reason: String,
    /// Of the response's body.
    pub bytes_sent: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// Attempts that were made.
    pub attempts: u32,
    /// `Host` or `:authority`.
    pub authority: String,
    #[allow(missing_docs)]
    pub user_agent: String,
    #[allow(missing_docs)]
    pub request_id: String,
    /// The rule that was followed.
    pub route: String,
    /// The last endpoint that was tried.
    pub upstream: String,
    /// Its pod.
    pub upstream_workload: String,
    /// The client's address.
    pub source: String,
    /// The client's verified identity.
    pub source_identity: String,
    /// What the client addressed.
    pub destination: String,
    /// Policies that reported without deciding.
    pub notes: Vec<String>,
}

/// Writes lines.
#[derive(Clone)]
pub struct RequestLog {
    format: Format,
    sink: Sink,
}

impl RequestLog {
    /// The log of a process's logger.
    #[must_use]
    pub fn new(logging: &Logging) -> Self {
        Self::to(logging.format(), logging.sink().clone())
    }

    /// A log that writes to `sink`.
    #[must_use]
    pub fn to(format: Format, sink: Sink) -> Self {
        Self { format, sink }
    }

    /// Writes a line, unless the filter of the logger drops its scope.
    pub fn write(&self, entry: &Entry) {
        if !tracing::enabled!(target: SCOPE, Level::INFO) {
            return;
        }
        thread_local! {
            static LINE: RefCell<String> = RefCell::default();
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            match self.format {
                Format::Plain => plain(entry, line),
                Format::Json => json(entry, line),
            }
            self.sink.write_lines(line.as_bytes());
        });
    }
}

fn plain(entry: &Entry, out: &mut String) {
    use std::fmt::Write;
    let shown = |text: &str| match text {
        "" => "-".to_owned(),
        // Nothing a client sends ends a line or a field.
        text => text.escape_default().to_string(),
    };
    let quoted = |text: &str| format!("\"{}\"", shown(text));
    // Writing to a text cannot fail.
    let _ = writeln!(
        out,
        "[{}] \"{} {} {}\" {} {} {} {} {} {} {} {} {} {} {} {} {}",
        utc(SystemTime::now()),
        shown(&entry.method),
        shown(&entry.path),
        entry.protocol,
        entry.status,
        entry.flags,
        quoted(&entry.reason),
        entry.bytes_sent,
        entry.duration.as_millis(),
        quoted(&entry.user_agent),
        quoted(&entry.request_id),
        quoted(&entry.authority),
        quoted(&entry.upstream),
        shown(&entry.route),
        shown(&entry.source),
        shown(&entry.source_identity),
        shown(&entry.destination),
    );
}

fn json(entry: &Entry, out: &mut String) {
    let mut line = JsonLine::start(out, Level::INFO, SCOPE, "request complete");
    for (name, text) in [
        ("method", &*entry.method),
        ("path", &entry.path),
        ("protocol", entry.protocol),
        ("response_flags", entry.flags),
        ("reason", &entry.reason),
        ("authority", &entry.authority),
        ("user_agent", &entry.user_agent),
        ("request_id", &entry.request_id),
        ("route", &entry.route),
        ("upstream_host", &entry.upstream),
        ("upstream_workload", &entry.upstream_workload),
        ("src.addr", &entry.source),
        ("src.identity", &entry.source_identity),
        ("dst.addr", &entry.destination),
    ] {
        if !text.is_empty() {
            line.text(name, &text);
        }
    }
    if !entry.notes.is_empty() {
        line.text("notes", &entry.notes.join("; "));
    }
    line.bare("response_code", &entry.status);
    line.bare("bytes_sent", &entry.bytes_sent);
    line.bare("duration_ms", &entry.duration.as_millis());
    line.bare("attempts", &entry.attempts);
    line.end();
}
