//! Trailers: fields that a recipient meets when it has long acted on the head.
//!
//! RFC 9110 6.5.1: nothing that frames, routes, authenticates or modifies a message, and nothing
//! about the form of its content, may stand there. What frames or routes is an attack and refused;
//! the rest is dropped, so that no backend takes it for part of the head that was judged.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};

use super::MAX_HEADERS;
use super::error::Fault;
use super::fields;

/// What becomes of a field in trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fate {
    Keep,
    Drop,
    /// The message is refused.
    Refuse,
}

/// What becomes of a field with this name.
#[must_use]
pub fn fate(name: &HeaderName) -> Fate {
    const REFUSED: [HeaderName; 3] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
    ];
    if REFUSED.contains(name) {
        return Fate::Refuse;
    }
    let name = name.as_str();
    if DROPPED.contains(&name) || DROPPED_PREFIXES.iter().any(|it| name.starts_with(it)) {
        return Fate::Drop;
    }
    Fate::Keep
}

/// Drops what must not be there.
///
/// # Errors
///
/// The name of a field for which the message is refused.
pub fn clean(trailers: &mut HeaderMap) -> Result<(), HeaderName> {
    let mut drop = Vec::new();
    for name in trailers.keys() {
        match fate(name) {
            Fate::Keep => {}
            Fate::Drop => drop.push(name.clone()),
            Fate::Refuse => return Err(name.clone()),
        }
    }
    for name in drop {
        trailers.remove(name);
    }
    Ok(())
}

/// Fields and the empty line that ends them; `None` when none is left.
pub(super) fn parse(section: &Bytes) -> Result<Option<HeaderMap>, Fault> {
    let mut parsed = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = match httparse::parse_headers(section, &mut parsed) {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        Ok(httparse::Status::Partial) => return Err(Fault::Truncated),
        Err(httparse::Error::HeaderName) => return Err(Fault::HeaderName),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TrailersTooLarge),
        Err(_) => return Err(Fault::HeaderValue),
    };
    let mut map = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let (name, value) = fields::parse(section, field)?;
        match fate(&name) {
            Fate::Keep => _ = map.append(name, value),
            Fate::Drop => {}
            Fate::Refuse => return Err(Fault::TrailerName),
        }
    }
    Ok((!map.is_empty()).then_some(map))
}

const DROPPED_PREFIXES: [&str; 5] = ["if-", "x-forwarded-", "x-envoy-", "x-istio-", "x-ambit-"];

const DROPPED: [&str; 35] = [
    // Connection and request control.
    "cache-control",
    "connection",
    "expect",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "upgrade",
    // Who asks, and on whose behalf.
    "authorization",
    "cookie",
    "forwarded",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
    // Response control.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
    // The form of the content.
    "content-encoding",
    "content-range",
    "content-type",
    "content-disposition",
    "content-language",
    "content-location",
    "content-security-policy",
];
