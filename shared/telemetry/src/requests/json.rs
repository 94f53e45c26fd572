//! The line as JSON.

use tracing::Level;

use super::{Entry, SCOPE};
use crate::log::{JsonLine, utc};

/// Appends a line. What is not known is left out.
pub(super) fn json(entry: &Entry<'_>, out: &mut String) {
    let mut line = JsonLine::start(out, Level::INFO, SCOPE, "request complete");
    line.text("start_time", &utc(entry.start));
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
    if let Some(route) = entry.route {
        line.text("route_name", route);
    }
    if let Some(upstream) = entry.upstream {
        line.text("upstream_host", &upstream);
    }
    if let Some((namespace, name)) = entry.upstream_workload {
        line.text("upstream_workload", &format_args!("{namespace}/{name}"));
    }
    if let Some(service) = entry.upstream_service {
        line.text("upstream_service", service);
    }
    line.text("src.addr", &entry.parties.source);
    line.text("src.identity", &entry.parties.identity);
    line.text("dst.addr", &entry.parties.destination);
    if let Some(trace) = entry.trace {
        line.text("trace_id", &format_args!("{trace:032x}"));
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
