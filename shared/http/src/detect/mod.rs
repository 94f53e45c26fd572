//! What a stream speaks, from what was declared and its first bytes.
//!
//! A declaration decides. Without one the client's first bytes do, and they are waited for only so
//! long: where the server speaks first, the client sends nothing. Whatever could be HTTP/1 to some
//! server is taken for HTTP/1, also when it is malformed: it is then refused, rather than relayed
//! past the rules of this port.

mod hello;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::model::AppProtocol;
use memchr::memchr;

/// How long a client may be silent where nothing was declared.
pub const SILENCE: Duration = Duration::from_millis(200);
/// How long a client that has begun may take until it is clear what it speaks.
pub const BEGINNING: Duration = Duration::from_secs(5);
/// Bytes that are looked at. What is not clear by then is opaque.
pub const MAX_SEEN: usize = 16 * 1024;

/// What a client of HTTP/2 sends first (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No method that matters is longer.
const MAX_METHOD: usize = 32;

/// What a stream speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inner {
    /// HTTP/1, perhaps malformed.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS that is not ours to end.
    Tls {
        /// The name asked for: lower case, no trailing dot.
        sni: Option<Arc<str>>,
    },
    /// Something else: relayed as it is.
    Opaque,
}

/// What the bytes so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// Not enough; more will decide.
    NeedMore,
    #[allow(missing_docs)]
    Is(Inner),
}

/// Judges the first bytes of a client; none of them is taken. More bytes never change what is
/// [`Detected::Is`].
#[must_use]
pub fn detect(declared: AppProtocol, seen: &[u8]) -> Detected {
    use Detected::Is;
    match declared {
        AppProtocol::Tcp => Is(Inner::Opaque),
        AppProtocol::Http2 | AppProtocol::Grpc => Is(Inner::Http2),
        // A port of HTTP may be spoken to in both versions.
        AppProtocol::Http11 if seen.starts_with(PREFACE) => Is(Inner::Http2),
        AppProtocol::Http11 if PREFACE.starts_with(seen) => Detected::NeedMore,
        AppProtocol::Http11 => Is(Inner::Http1),
        // Passed through; only its name matters.
        AppProtocol::Tls => bounded(seen, hello::detect(seen)),
        AppProtocol::Unknown => bounded(seen, undeclared(seen)),
    }
}

fn bounded(seen: &[u8], detected: Detected) -> Detected {
    match detected {
        Detected::NeedMore if seen.len() >= MAX_SEEN => Detected::Is(Inner::Opaque),
        detected => detected,
    }
}

fn undeclared(seen: &[u8]) -> Detected {
    use Detected::{Is, NeedMore};
    if seen.starts_with(PREFACE) {
        return Is(Inner::Http2);
    }
    if PREFACE.starts_with(seen) {
        return NeedMore;
    }
    match hello::detect(seen) {
        Is(Inner::Opaque) => {}
        detected => return detected,
    }
    http1(seen)
}

/// Methods that are enough to tell: no other protocol starts with one, a space and a target.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

fn http1(seen: &[u8]) -> Detected {
    use Detected::{Is, NeedMore};
    // Some servers pass over blank lines and white space.
    let blank = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | b'\t');
    let text = &seen[seen.iter().take_while(|byte| blank(byte)).count()..];
    let token = text.iter().take_while(|byte| is_token(**byte)).count();
    let (method, rest) = text.split_at(token);
    if token > MAX_METHOD {
        return Is(Inner::Opaque);
    }
    match rest {
        [] => NeedMore,
        [b' ' | b'\t', ..] if method.is_empty() => Is(Inner::Opaque),
        [b' ' | b'\t', ..] if METHODS.iter().any(|it| it.eq_ignore_ascii_case(method)) => {
            Is(Inner::Http1)
        }
        // Another method, or another protocol of lines: its first line tells.
        [b' ', rest @ ..] => {
            let end = memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            match end {
                _ if line.iter().any(|b| b.is_ascii_control() && *b != b'\r') => Is(Inner::Opaque),
                Some(_) if is_versioned(line) => Is(Inner::Http1),
                Some(_) => Is(Inner::Opaque),
                None => NeedMore,
            }
        }
        _ => Is(Inner::Opaque),
    }
}

/// `... HTTP/1.1`, however it ends.
fn is_versioned(line: &[u8]) -> bool {
    let version = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next();
    version.is_some_and(|it| it.len() >= 5 && it[..5].eq_ignore_ascii_case(b"HTTP/"))
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The detection of one stream, with its deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Detection {
    declared: AppProtocol,
    started: Instant,
    silence: Duration,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read more; look again when bytes have come, or then. `None`: as long as any head may take.
    Wait {
        #[allow(missing_docs)]
        until: Option<Instant>,
    },
    #[allow(missing_docs)]
    Is(Inner),
}

impl Detection {
    /// Of a stream that began at `now`. `silence` is [`SILENCE`], or what was configured.
    #[must_use]
    pub fn new(declared: AppProtocol, silence: Duration, now: Instant) -> Self {
        Self {
            declared,
            started: now,
            silence,
        }
    }

    /// All bytes so far, at any time: at first, when more have come, when the wait is over, and
    /// (with `ended`) when no more will come.
    #[must_use]
    pub fn poll(&self, seen: &[u8], ended: bool, now: Instant) -> Step {
        let detected = detect(self.declared, seen);
        let until = match (detected, self.declared) {
            (Detected::Is(inner), _) => return Step::Is(inner),
            // The client speaks first, whatever it takes; half a preface is bad HTTP/1.
            (Detected::NeedMore, AppProtocol::Http11) if ended => return Step::Is(Inner::Http1),
            (Detected::NeedMore, _) if ended => return Step::Is(Inner::Opaque),
            (Detected::NeedMore, AppProtocol::Http11) => return Step::Wait { until: None },
            (Detected::NeedMore, AppProtocol::Tls) => self.started + BEGINNING,
            (Detected::NeedMore, _) if seen.is_empty() => self.started + self.silence,
            (Detected::NeedMore, _) => self.started + BEGINNING.max(self.silence),
        };
        match now >= until {
            true => Step::Is(Inner::Opaque),
            false => Step::Wait { until: Some(until) },
        }
    }
}
