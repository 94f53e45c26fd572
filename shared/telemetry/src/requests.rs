//! The access log of requests: one line a request, in the order of Envoy's default format, or as JSON.

mod json;
mod plain;

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::log::{Format, Logging, Sink};
use json::json;
use plain::plain;

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
    pub upstream: Option<SocketAddr>,
    /// Namespace and name of its pod.
    pub upstream_workload: Option<(&'a str, &'a str)>,
    /// The service it is an endpoint of.
    pub upstream_service: Option<&'a dyn Display>,
    #[allow(missing_docs)]
    pub parties: &'a Parties,
    /// The trace it belongs to, when it is recorded.
    pub trace: Option<u128>,
    /// Policies that reported without deciding.
    pub notes: &'a [String],
}

impl<'a> Entry<'a> {
    /// Of a connection whose requests nobody reads, with nothing known of it but when it came and from whom.
    #[must_use]
    pub fn of_connection(start: SystemTime, parties: &'a Parties) -> Self {
        Self {
            start,
            method: "-",
            path: "-",
            protocol: "-",
            status: 0,
            grpc_status: None,
            flags: "-",
            reason: "",
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_time: None,
            attempts: 0,
            forwarded_for: b"",
            user_agent: b"",
            request_id: b"",
            authority: "",
            route: None,
            upstream: None,
            upstream_workload: None,
            upstream_service: None,
            parties,
            trace: None,
            notes: &[],
        }
    }
}

/// Who talks to whom on a connection, in the words of its lines. All of its requests have the same: they are put into words once.
#[derive(Debug, Clone)]
pub struct Parties {
    source: Box<str>,
    identity: Box<str>,
    destination: Box<str>,
}

impl Parties {
    /// The client's address and verified identity, and what it addressed.
    #[must_use]
    pub fn new(source: &dyn Display, identity: &dyn Display, destination: &dyn Display) -> Self {
        let words = |it: &dyn Display| it.to_string().into_boxed_str();
        Self {
            source: words(source),
            identity: words(identity),
            destination: words(destination),
        }
    }
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
            static PLAIN: RefCell<Vec<u8>> = RefCell::default();
            static JSON: RefCell<String> = RefCell::default();
        }
        match self.format {
            Format::Plain => PLAIN.with_borrow_mut(|line| {
                line.clear();
                plain(entry, line);
                self.sink.write_lines(line);
            }),
            Format::Json => JSON.with_borrow_mut(|line| {
                line.clear();
                json(entry, line);
                self.sink.write_lines(line.as_bytes());
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parties() -> Parties {
        Parties::new(&"10.0.0.1:4000", &"spiffe://td/ns/a/sa/b", &"10.1.0.1:80")
    }

    fn entry<'a>(path: &'a str, parties: &'a Parties) -> Entry<'a> {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Entry {
            method: "GET",
            path,
            protocol: "HTTP/1.1",
            status: 403,
            flags: "RBAC",
            reason: "policy \"shop/deny\"\nrule 0",
            bytes_received: 1,
            bytes_sent: 9,
            duration: Duration::from_millis(3),
            forwarded_for: b"10.0.0.1",
            user_agent: b"curl\r\n\xff\"",
            authority: "web",
            ..Entry::of_connection(start, parties)
        }
    }

    #[test]
    fn a_plain_line_has_envoys_order_and_holds_no_control_character() {
        let (parties, mut out) = (parties(), Vec::new());
        plain(&entry("/a?b=\"c\"", &parties), &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "[2027-01-15T08:00:00.000000Z] \"GET /a?b=\\\"c\\\" HTTP/1.1\" 403 RBAC direct_response \
             \"policy \\\"shop/deny\\\"\\x0arule 0\" 1 9 3 - \"10.0.0.1\" \"curl\\x0d\\x0a\\xff\\\"\" \"-\" \"web\" \"-\" - \
             10.1.0.1:80 10.0.0.1:4000 spiffe://td/ns/a/sa/b - 0\n"
        );
    }

    #[test]
    fn a_plain_line_says_where_a_request_went() {
        let (parties, mut out) = (parties(), Vec::new());
        let notes = ["dry-run policy a/b would deny".to_owned()];
        let entry = Entry {
            status: 200,
            flags: "-",
            reason: "",
            bytes_received: u64::MAX,
            bytes_sent: 0,
            upstream_time: Some(Duration::from_secs(3)),
            attempts: 2,
            user_agent: b"",
            route: Some(&"http/shop/web/0"),
            upstream: Some(([10, 0, 255, 1], 65535).into()),
            upstream_service: Some(&"shop/web"),
            notes: &notes,
            ..entry("/", &parties)
        };
        plain(&entry, &mut out);
        let sixth = Entry {
            upstream: Some((std::net::Ipv6Addr::LOCALHOST, 80).into()),
            ..entry
        };
        plain(&sixth, &mut out);
        let line = |upstream: &str| {
            format!(
                "[2027-01-15T08:00:00.000000Z] \"GET / HTTP/1.1\" 200 - via_upstream \"-\" 18446744073709551615 0 3 3000 \
                 \"10.0.0.1\" \"-\" \"-\" \"web\" \"{upstream}\" shop/web 10.1.0.1:80 10.0.0.1:4000 \
                 spiffe://td/ns/a/sa/b http/shop/web/0 2 \"dry-run policy a/b would deny\"\n"
            )
        };
        let lines = line("10.0.255.1:65535") + &line("[::1]:80");
        assert_eq!(String::from_utf8_lossy(&out), lines);
    }

    #[test]
    fn a_json_line_is_one_object() {
        let parties = parties();
        let mut entry = entry("/", &parties);
        entry.trace = Some(0xab);
        entry.upstream_workload = Some(("shop", "web-1"));
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
        assert_eq!(value["src.identity"], "spiffe://td/ns/a/sa/b");
        assert_eq!(value["upstream_workload"], "shop/web-1");
        assert_eq!(value["trace_id"], format!("{}ab", "0".repeat(30)));
        assert!(value.get("upstream_host").is_none(), "unknown is left out");
    }
}
