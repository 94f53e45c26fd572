//! The line in the order of Envoy's default format. It is written for each request of a waypoint: bytes are put together here
//! without the machinery of formats, which would take a fifth of all that a request costs.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;

use super::Entry;
use crate::log::stamp;

/// `[START] "METHOD PATH PROTOCOL" STATUS FLAGS VIA "REASON" RECEIVED SENT DURATION UPSTREAM-TIME "XFF" "AGENT"
/// "ID" "AUTHORITY" "UPSTREAM" SERVICE DESTINATION SOURCE IDENTITY ROUTE ATTEMPTS`, and what policies noted.
pub(super) fn plain(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let via = match (entry.status, entry.upstream) {
        (0, _) => "-",
        (_, Some(_)) if entry.reason.is_empty() => "via_upstream",
        _ => "direct_response",
    };
    out.push(b'[');
    out.extend(&stamp(entry.start));
    out.extend(b"] \"");
    text(out, entry.method.as_bytes());
    out.push(b' ');
    text(out, entry.path.as_bytes());
    out.push(b' ');
    out.extend(entry.protocol.as_bytes());
    out.extend(b"\" ");
    number(out, entry.status);
    word(out, entry.flags);
    word(out, via);
    out.push(b' ');
    quoted(out, entry.reason.as_bytes());
    out.push(b' ');
    number(out, entry.bytes_received);
    out.push(b' ');
    number(out, entry.bytes_sent);
    out.push(b' ');
    number(out, entry.duration.as_millis());
    out.push(b' ');
    match entry.upstream_time {
        Some(time) => number(out, time.as_millis()),
        None => out.push(b'-'),
    }
    for value in [
        entry.forwarded_for,
        entry.user_agent,
        entry.request_id,
        entry.authority.as_bytes(),
    ] {
        out.push(b' ');
        quoted(out, value);
    }
    out.extend(b" \"");
    match entry.upstream {
        Some(upstream) => address(out, upstream),
        None => out.push(b'-'),
    }
    out.extend(b"\" ");
    shown(out, entry.upstream_service);
    word(out, &entry.parties.destination);
    word(out, &entry.parties.source);
    word(out, &entry.parties.identity);
    out.push(b' ');
    shown(out, entry.route);
    out.push(b' ');
    number(out, entry.attempts);
    for note in entry.notes {
        out.push(b' ');
        quoted(out, note.as_bytes());
    }
    out.push(b'\n');
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend(itoa::Buffer::new().format(number).as_bytes());
}

/// One of ours, after a space.
fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b' ');
    out.extend(word.as_bytes());
}

fn shown(out: &mut Vec<u8>, value: Option<&dyn Display>) {
    match value {
        // Writing to memory cannot fail.
        Some(value) => drop(write!(out, "{value}")),
        None => out.push(b'-'),
    }
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let SocketAddr::V4(address) = address else {
        return shown(out, Some(&address));
    };
    for (at, octet) in address.ip().octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        number(out, octet);
    }
    out.push(b':');
    number(out, address.port());
}

fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    text(out, value);
    out.push(b'"');
}

/// Nothing a stranger wrote ends a line or a field: quotes, backslashes and what is not printable ASCII are
/// escaped. Nothing at all is `-`.
fn text(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        out.push(b'-');
    }
    let is_special = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    let mut rest = value;
    while let Some(clean) = rest.iter().position(is_special) {
        out.extend(&rest[..clean]);
        match rest[clean] {
            byte @ (b'"' | b'\\') => out.extend([b'\\', byte]),
            byte => drop(write!(out, "\\x{byte:02x}")),
        }
        rest = &rest[clean + 1..];
    }
    out.extend(rest);
}
