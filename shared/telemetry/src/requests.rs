//! The access log of requests: one line a request, in the order of Envoy's default format, or as JSON.

use std::cell::RefCell;
use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::log::{Format, JsonLine, Logging, Sink, write_utc};

/// The scope of these lines: `RUST_LOG=access=off` turns them off.
pub const SCOPE: &str = "access";

/// A finished request, borrowed from what is known of it. Texts that are not known are empty; what a client or
/// a backend wrote may hold anything.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// When its head had arrived.
    pub start: SystemTime,
    /// As the client wrote it.
    pub method: &'a str,
    /// Canonical path, and the query as received.
    pub path: &'a str,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Of the response; 0 when there was none.
    pub status: u16,
    /// `grpc-status` of a gRPC response.
    pub grpc_status: Option<u8>,
    /// Response flags; `-` is none.
    pub flags: &'static str,
    /// Why we answered ourselves, or what broke.
    pub reason: &'a str,
    /// Of the request's body.
    pub bytes_received: u64,
    /// Of the response's body.
    pub bytes_sent: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// From the first attempt to the head of the response.
    pub upstream_time: Option<Duration>,
    /// Attempts that were made.
    pub attempts: u32,
    /// `x-forwarded-for` as it was sent on.
    pub forwarded_for: &'a [u8],
    #[allow(missing_docs)]
    pub user_agent: &'a [u8],
    #[allow(missing_docs)]
    pub request_id: &'a [u8],
    /// `Host` or `:authority`.
    pub authority: &'a str,
    /// The rule that was followed.
    pub route: Option<&'a dyn Display>,
    /// The last endpoint that was tried.
    pub upstream: Option<&'a dyn Display>,
    /// Its pod, `namespace/name`.
    pub upstream_workload: Option<&'a dyn Display>,
    /// The service it is an endpoint of.
    pub upstream_service: Option<&'a dyn Display>,
    /// The client's address.
    pub source: &'a dyn Display,
    /// The client's verified identity.
    pub source_identity: &'a dyn Display,
    /// What the client addressed.
    pub destination: &'a dyn Display,
    /// The trace it belongs to, when it is recorded.
    pub trace: Option<&'a dyn Display>,
    /// Policies that reported without deciding.
    pub notes: &'a [String],
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

    /// Whether lines are wanted: the filter of the logger takes their scope.
    #[must_use]
    pub fn is_on(&self) -> bool {
        tracing::enabled!(target: SCOPE, Level::INFO)
    }

    /// Writes a line.
    pub fn write(&self, entry: &Entry<'_>) {
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

/// `[START] "METHOD PATH PROTOCOL" STATUS FLAGS VIA "REASON" RECEIVED SENT DURATION UPSTREAM-TIME "XFF" "AGENT"
/// "ID" "AUTHORITY" "UPSTREAM" SERVICE DESTINATION SOURCE IDENTITY ROUTE ATTEMPTS`, and what policies noted.
fn plain(entry: &Entry<'_>, out: &mut String) {
    let via = match (entry.status, entry.upstream) {
        (0, _) => "-",
        (_, Some(_)) if entry.reason.is_empty() => "via_upstream",
        _ => "direct_response",
    };
    out.push('[');
    write_utc(out, entry.start);
    out.push_str("] \"");
    text(out, entry.method.as_bytes());
    out.push(' ');
    text(out, entry.path.as_bytes());
    // Writing to a text cannot fail.
    let _ = write!(
        out,
        " {}\" {} {} {via} ",
        entry.protocol, entry.status, entry.flags
    );
    quoted(out, entry.reason.as_bytes());
    let _ = write!(
        out,
        " {} {} {} ",
        entry.bytes_received,
        entry.bytes_sent,
        entry.duration.as_millis()
    );
    match entry.upstream_time {
        Some(time) => drop(write!(out, "{}", time.as_millis())),
        None => out.push('-'),
    }
    for value in [
        entry.forwarded_for,
        entry.user_agent,
        entry.request_id,
        entry.authority.as_bytes(),
    ] {
        out.push(' ');
        quoted(out, value);
    }
    out.push_str(" \"");
    shown(out, entry.upstream);
    out.push_str("\" ");
    shown(out, entry.upstream_service);
    let _ = write!(
        out,
        " {} {} {} ",
        entry.destination, entry.source, entry.source_identity
    );
    shown(out, entry.route);
    let _ = write!(out, " {}", entry.attempts);
    for note in entry.notes {
        out.push(' ');
        quoted(out, note.as_bytes());
    }
    out.push('\n');
}

fn shown(out: &mut String, value: Option<&dyn Display>) {
    match value {
        Some(value) => drop(write!(out, "{value}")),
        None => out.push('-'),
    }
}

fn quoted(out: &mut String, value: &[u8]) {
    out.push('"');
    text(out, value);
    out.push('"');
}

/// Nothing a stranger wrote ends a line or a field: quotes, backslashes and what is not printable ASCII are
/// escaped. Nothing at all is `-`.
fn text(out: &mut String, value: &[u8]) {
    if value.is_empty() {
        out.push('-');
    }
    let _ = write!(out, "{}", Escaped(value));
}

struct Escaped<'a>(&'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let mut rest = self.0;
        while !rest.is_empty() {
            let clean = rest.iter().take_while(|byte| plain(byte)).count();
            let (clean, special) = rest.split_at(clean);
            f.write_str(std::str::from_utf8(clean).unwrap_or_default())?;
            rest = match special.split_first() {
                Some((byte @ (b'"' | b'\\'), rest)) => {
                    write!(f, "\\{}", char::from(*byte))?;
                    rest
                }
                Some((byte, rest)) => {
                    write!(f, "\\x{byte:02x}")?;
                    rest
                }
                None => &[],
            };
        }
        Ok(())
    }
}

fn json(entry: &Entry<'_>, out: &mut String) {
    let mut start = String::new();
    write_utc(&mut start, entry.start);
    let mut line = JsonLine::start(out, Level::INFO, SCOPE, "request complete");
    line.text("start_time", &start);
    let lossy = |bytes| String::from_utf8_lossy(bytes);
    for (name, text) in [
        ("method", entry.method),
        ("path", entry.path),
        ("protocol", entry.protocol),
        ("response_flags", entry.flags),
        ("reason", entry.reason),
        ("authority", entry.authority),
        ("x_forwarded_for", &lossy(entry.forwarded_for)),
        ("user_agent", &lossy(entry.user_agent)),
        ("request_id", &lossy(entry.request_id)),
    ] {
        if !text.is_empty() {
            line.text(name, &text);
        }
    }
    for (name, value) in [
        ("route_name", entry.route),
        ("upstream_host", entry.upstream),
        ("upstream_workload", entry.upstream_workload),
        ("upstream_service", entry.upstream_service),
        ("src.addr", Some(entry.source)),
        ("src.identity", Some(entry.source_identity)),
        ("dst.addr", Some(entry.destination)),
        ("trace_id", entry.trace),
    ] {
        if let Some(value) = value {
            line.text(name, value);
        }
    }
    if !entry.notes.is_empty() {
        line.text("notes", &entry.notes.join("; "));
    }
    line.bare("response_code", &entry.status);
    if let Some(status) = entry.grpc_status {
        line.bare("grpc_status", &status);
    }
    line.bare("bytes_received", &entry.bytes_received);
    line.bare("bytes_sent", &entry.bytes_sent);
    line.bare("duration", &entry.duration.as_millis());
    if let Some(time) = entry.upstream_time {
        line.bare("upstream_service_time", &time.as_millis());
    }
    line.bare("attempts", &entry.attempts);
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry<'_> {
        Entry {
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            method: "GET",
            path,
            protocol: "HTTP/1.1",
            status: 403,
            grpc_status: None,
            flags: "RBAC",
            reason: "policy \"shop/deny\"\nrule 0",
            bytes_received: 1,
            bytes_sent: 9,
            duration: Duration::from_millis(3),
            upstream_time: None,
            attempts: 0,
            forwarded_for: b"10.0.0.1",
            user_agent: b"curl\r\n\xff\"",
            request_id: b"",
            authority: "web",
            route: None,
            upstream: None,
            upstream_workload: None,
            upstream_service: None,
            source: &"10.0.0.1:4000",
            source_identity: &"spiffe://td/ns/a/sa/b",
            destination: &"10.1.0.1:80",
            trace: None,
            notes: &[],
        }
    }

    #[test]
    fn a_plain_line_has_envoys_order_and_holds_no_control_character() {
        let mut out = String::new();
        plain(&entry("/a?b=\"c\""), &mut out);
        assert_eq!(
            out,
            "[2027-01-15T08:00:00.000000Z] \"GET /a?b=\\\"c\\\" HTTP/1.1\" 403 RBAC direct_response \
             \"policy \\\"shop/deny\\\"\\x0arule 0\" 1 9 3 - \"10.0.0.1\" \"curl\\x0d\\x0a\\xff\\\"\" \"-\" \"web\" \"-\" - \
             10.1.0.1:80 10.0.0.1:4000 spiffe://td/ns/a/sa/b - 0\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object() {
        let mut entry = entry("/");
        entry.route = Some(&"http/shop/web/0");
        entry.grpc_status = Some(7);
        let mut out = String::new();
        json(&entry, &mut out);
        assert_eq!(out.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(value["reason"], "policy \"shop/deny\"\nrule 0");
        assert_eq!(value["route_name"], "http/shop/web/0");
        assert_eq!(value["response_code"], 403);
        assert_eq!(value["grpc_status"], 7);
        assert!(value.get("upstream_host").is_none(), "unknown is left out");
    }
}
