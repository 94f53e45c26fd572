//! What requests and responses have in common: fields, lengths, trailers.

use super::{Framing, HeaderMap, HeaderName, HeaderValue, Violation, header};
use crate::h1;

/// What RFC 9113 6.5.2 adds to the size of each field.
const FIELD_OVERHEAD: usize = 32;

/// One look at each field. Sizes are those of the decoded fields, each cookie crumb by itself:
/// compression makes them cheap to send, not to keep.
pub(super) fn judge_fields(fields: &HeaderMap, line: usize) -> Result<(), Violation> {
    if fields.len() > h1::MAX_HEADERS {
        return Err(Violation::TooManyFields);
    }
    let mut size = line;
    for (name, value) in fields {
        size += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        if is_of_connection(name) {
            return Err(Violation::ConnectionField);
        }
        if *name == header::TE && value != "trailers" {
            return Err(Violation::Te);
        }
    }
    match size > h1::MAX_HEAD {
        true => Err(Violation::HeadTooLarge),
        false => Ok(()),
    }
}

/// RFC 9113 8.2.2.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

/// The one Content-Length, a number.
pub(super) fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Violation> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    if lengths.next().is_some() {
        return Err(Violation::Length);
    }
    let digits = length.as_bytes();
    let text = length.to_str().ok();
    match digits.iter().all(u8::is_ascii_digit) {
        true => text.and_then(|it| it.parse().ok()).map(Some),
        false => None,
    }
    .ok_or(Violation::Length)
}

/// Counts a body against what was announced.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    left: Option<u64>,
}

impl Length {
    /// For a body with this framing.
    #[must_use]
    pub fn new(body: Framing) -> Self {
        Self {
            left: match body {
                Framing::None => Some(0),
                Framing::Length(length) => Some(length),
                Framing::Chunked | Framing::UntilClose => None,
            },
        }
    }

    /// That many bytes have come.
    ///
    /// # Errors
    ///
    /// They are too many; they go nowhere.
    pub fn data(&mut self, size: usize) -> Result<(), Violation> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(size as u64).ok_or(Violation::Length)?;
        }
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    ///
    /// Some bytes are missing: what was forwarded must not look whole.
    pub fn end(&self) -> Result<(), Violation> {
        match self.left {
            None | Some(0) => Ok(()),
            Some(_) => Err(Violation::Length),
        }
    }
}

/// Judges trailers, and drops what means nothing there (see [`h1::trailers`]).
///
/// # Errors
///
/// The stream is reset.
pub fn trailers(fields: &mut HeaderMap) -> Result<(), Violation> {
    judge_fields(fields, 0)?;
    h1::trailers::clean(fields).map_err(|_| Violation::TrailerName)
}

/// Makes one field of all `cookie` fields, as HTTP/1.1 and most readers want it (RFC 9113 8.2.3).
pub fn merge_cookies(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(crumb.as_bytes());
    }
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(whole)) {
        Ok(whole) => _ = fields.insert(header::COOKIE, whole),
        // Parts of values make a value.
        Err(_) => _ = fields.remove(header::COOKIE),
    }
}
