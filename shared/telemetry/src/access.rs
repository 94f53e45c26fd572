//! The access log: one line a finished connection, in the fields Istio's users know.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use ambit_core::identity::Identity;
use ambit_core::plan::Transport;
use tracing::Level;

use crate::log::{Format, JsonLine, Logging, PlainLine, Sink};

/// The scope of access log lines: `RUST_LOG=access=off` turns them off.
pub const SCOPE: &str = "access";

/// Which way a connection went, seen from the pod this proxy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The pod opened it.
    Outbound,
    /// The pod was asked.
    Inbound,
}

impl Direction {
    /// The value of the field `direction`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// One end of a connection. Fields that are not known are left out.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    /// Its address and port.
    pub addr: SocketAddr,
    /// The pod's name.
    pub workload: Option<&'a str>,
    /// The pod's namespace.
    pub namespace: Option<&'a str>,
    /// The identity that was authenticated.
    pub identity: Option<&'a Identity>,
}

/// A finished connection.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Seen from the pod this proxy serves.
    pub direction: Direction,
    /// The client.
    pub source: Party<'a>,
    /// The server.
    pub destination: Party<'a>,
    /// The waypoint that the client came through, when it says who the client is.
    pub waypoint: Option<&'a Identity>,
    /// What the tunnel was opened to, when there was one.
    pub hbone_addr: Option<&'a dyn Display>,
    /// The hostname of the service the client asked for.
    pub service: Option<&'a str>,
    /// What carries it. A line says nothing of TCP.
    pub transport: Transport,
    /// The protection, when it is not plain from the identities.
    pub security: Option<&'static str>,
    /// Bytes the pod sent.
    pub bytes_sent: u64,
    /// Bytes the pod received.
    pub bytes_recv: u64,
    /// From accept to close.
    pub duration: Duration,
    /// Why it failed.
    pub error: Option<&'a dyn Display>,
}

/// Writes access log lines.
#[derive(Clone)]
pub struct AccessLog {
    format: Format,
    sink: Sink,
}

impl AccessLog {
    /// The access log of a process's logger.
    #[must_use]
    pub fn new(logging: &Logging) -> Self {
        Self::to(logging.format(), logging.sink().clone())
    }

    /// An access log that writes to `sink`.
    #[must_use]
    pub fn to(format: Format, sink: Sink) -> Self {
        Self { format, sink }
    }

    /// Writes a line, unless the filter of the logger drops its scope.
    pub fn log(&self, entry: &Entry<'_>) {
        let wanted = match entry.error {
            None => tracing::enabled!(target: SCOPE, Level::INFO),
            Some(_) => tracing::enabled!(target: SCOPE, Level::ERROR),
        };
        if wanted {
            self.write(entry);
        }
    }

    fn write(&self, entry: &Entry<'_>) {
        thread_local! {
            static LINE: RefCell<String> = RefCell::default();
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            render(entry, self.format, line);
            self.sink.write_lines(line.as_bytes());
        });
    }
}

fn render(entry: &Entry<'_>, format: Format, out: &mut String) {
    let level = match entry.error {
        None => Level::INFO,
        Some(_) => Level::ERROR,
    };
    let message = "connection complete";
    match format {
        Format::Plain => {
            let mut line = PlainLine::start(out, level, SCOPE, message);
            fields(entry, &mut |key, value| match value {
                Value::Addr(addr) => line.bare(key, &addr),
                Value::Number(number) => line.bare(key, &number),
                Value::Text(text) => line.text(key, text),
            });
            line.end();
        }
        Format::Json => {
            let mut line = JsonLine::start(out, level, SCOPE, message);
            fields(entry, &mut |key, value| match value {
                Value::Addr(addr) => line.text(key, &addr),
                Value::Number(number) => line.bare(key, &number),
                Value::Text(text) => line.text(key, text),
            });
            line.end();
        }
    }
}

enum Value<'a> {
    Addr(SocketAddr),
    Number(u64),
    Text(&'a dyn Display),
}

fn fields(entry: &Entry<'_>, write: &mut dyn FnMut(&str, Value<'_>)) {
    fn text(write: &mut dyn FnMut(&str, Value<'_>), key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            write(key, Value::Text(&value));
        }
    }
    let Entry {
        source,
        destination,
        ..
    } = entry;
    write("src.addr", Value::Addr(source.addr));
    text(write, "src.workload", source.workload);
    text(write, "src.namespace", source.namespace);
    text(write, "src.identity", source.identity);
    text(write, "src.waypoint", entry.waypoint);
    write("dst.addr", Value::Addr(destination.addr));
    text(write, "dst.hbone_addr", entry.hbone_addr);
    text(write, "dst.service", entry.service);
    text(write, "dst.workload", destination.workload);
    text(write, "dst.namespace", destination.namespace);
    text(write, "dst.identity", destination.identity);
    text(write, "direction", Some(entry.direction.as_str()));
    let other = Some(entry.transport).filter(|it| *it != Transport::Tcp);
    text(write, "protocol", other.map(Transport::as_str));
    text(write, "security", entry.security);
    write("bytes_sent", Value::Number(entry.bytes_sent));
    write("bytes_recv", Value::Number(entry.bytes_recv));
    let millis = entry.duration.as_millis();
    text(write, "duration", Some(format_args!("{millis}ms")));
    text(write, "error", entry.error);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(identity: &'a Identity, error: Option<&'a dyn Display>) -> Entry<'a> {
        Entry {
            direction: Direction::Outbound,
            source: Party {
                addr: "10.0.0.1:40000".parse().expect("an address"),
                workload: Some("web-1"),
                namespace: Some("shop"),
                identity: Some(identity),
            },
            destination: Party {
                addr: "[fd00::2]:15008".parse().expect("an address"),
                workload: None,
                namespace: None,
                identity: None,
            },
            waypoint: None,
            hbone_addr: Some(&"[fd00::2]:80"),
            service: Some("db.shop.svc.cluster.local"),
            transport: Transport::Tcp,
            security: None,
            bytes_sent: 1,
            bytes_recv: 2,
            duration: Duration::from_millis(15),
            error,
        }
    }

    fn shown(format: Format, error: Option<&dyn Display>) -> String {
        let identity: Identity = "spiffe://td/ns/shop/sa/web".parse().expect("valid");
        let mut out = String::new();
        render(&entry(&identity, error), format, &mut out);
        out
    }

    #[test]
    fn a_plain_line() {
        let line = shown(Format::Plain, None);
        let (_, rest) = line.split_once('\t').expect("a time");
        assert_eq!(
            rest,
            "info\taccess\tconnection complete\tsrc.addr=10.0.0.1:40000 src.workload=\"web-1\" \
             src.namespace=\"shop\" src.identity=\"spiffe://td/ns/shop/sa/web\" \
             dst.addr=[fd00::2]:15008 dst.hbone_addr=\"[fd00::2]:80\" \
             dst.service=\"db.shop.svc.cluster.local\" direction=\"outbound\" bytes_sent=1 \
             bytes_recv=2 duration=\"15ms\"\n"
        );
    }

    #[test]
    fn a_json_line_with_an_error() {
        let waypoint: Identity = "spiffe://td/ns/shop/sa/gw".parse().expect("valid");
        let identity: Identity = "spiffe://td/ns/shop/sa/web".parse().expect("valid");
        let through = Entry {
            waypoint: Some(&waypoint),
            transport: Transport::Udp,
            ..entry(&identity, None)
        };
        let mut line = String::new();
        render(&through, Format::Json, &mut line);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["src.waypoint"], "spiffe://td/ns/shop/sa/gw");
        assert_eq!(value["protocol"], "udp");
        let line = shown(Format::Json, Some(&"denied by \"shop/deny\"\nrule 1"));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["scope"], "access");
        assert_eq!(value["level"], "error");
        assert_eq!(value["src.addr"], "10.0.0.1:40000");
        assert_eq!(value["bytes_recv"], 2);
        assert_eq!(value["error"], "denied by \"shop/deny\"\nrule 1");
        assert!(value.get("dst.workload").is_none(), "unknown is left out");
        assert!(value.get("protocol").is_none(), "TCP is not said");
    }
}
