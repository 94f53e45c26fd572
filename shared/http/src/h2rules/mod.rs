//! What heads, bodies and trailers that came over HTTP/2 must satisfy before they are used
//! (RFC 9113 8, with the limits of HTTP/1.1 here).
//!
//! The `h2` crate (0.4) refuses some of it before anybody sees the request. With the stream alone:
//! connection-specific fields, `te` other than `trailers`, pseudo-fields that are repeated or come
//! late, a missing method or scheme, an empty path, characters no authority or path has, `:protocol`
//! where it was not enabled or without CONNECT, lengths that contradict each other or the body. With
//! the whole connection, as what breaks its compression: names and values that are none (upper case,
//! empty, CR, LF, NUL) and unknown pseudo-fields, which [`crate::h2fields`] keeps from it on connections
//! of clients; heads of four times the limit. It cuts `#...` off a path.
//!
//! It leaves to us: `host` and user information, paths that do not start with `/`, CONNECT, repeated
//! lengths, the number of fields, statuses, interim responses without end, bodies where there are
//! none, trailers. The rules here hold for all of it, whoever parses.

mod message;
#[cfg(test)]
mod tests;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request, response};

use crate::h1::{Framing, MAX_INTERIM, Next};
use crate::refusal::{Flag, Refusal};

pub use message::{Length, merge_cookies, trailers};
use message::{content_length, judge_fields};

/// A request that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The one host of the request, `:authority` or else `host`. Not yet judged: see `host`.
    pub authority: &'a str,
    /// How its body would be framed in HTTP/1.1.
    pub body: Framing,
}

/// Judges a request's head. `protocol` is `:protocol` of an extended CONNECT (RFC 8441),
/// `end_stream` whether the head is all.
///
/// # Errors
///
/// See [`Violation::of_request`].
pub fn request<'a>(
    parts: &'a request::Parts,
    protocol: Option<&str>,
    end_stream: bool,
) -> Result<Request<'a>, Violation> {
    let line = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    judge_fields(&parts.headers, line)?;
    match (parts.method == Method::CONNECT, protocol) {
        (true, None) => return Err(Violation::Connect),
        (false, Some(_)) => return Err(Violation::Protocol),
        _ => {}
    }
    let path = parts.uri.path_and_query().map_or("", |it| it.as_str());
    let whole = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !whole {
        return Err(Violation::Path);
    }
    if let Some(expect) = parts.headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Violation::Expectation);
    }
    let authority = authority(parts)?;
    let body = match content_length(&parts.headers)? {
        None | Some(0) if end_stream => Framing::None,
        Some(_) if end_stream => return Err(Violation::Length),
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    Ok(Request { authority, body })
}

fn authority(parts: &request::Parts) -> Result<&str, Violation> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Violation::SeveralHosts);
    }
    let host = host.map(|it| it.to_str().map_err(|_| Violation::Authority));
    let host = host.transpose()?;
    let authority = parts.uri.authority().map(|it| it.as_str());
    match (authority, host) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => Err(Violation::HostDiffers),
        (Some(one), _) | (None, Some(one)) if is_authority(one) => Ok(one),
        _ => Err(Violation::Authority),
    }
}

fn is_authority(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'?' | b'#');
    !text.is_empty() && text.bytes().all(fits)
}

/// Judges the heads of the responses to one request.
#[derive(Debug)]
pub struct Responses {
    to: Method,
    interim: usize,
}

impl Responses {
    /// To a request of this method.
    #[must_use]
    pub fn new(to: Method) -> Self {
        Self { to, interim: 0 }
    }

    /// Judges the next head, and says what follows it.
    ///
    /// # Errors
    ///
    /// The stream is reset and the client gets [`Violation::of_response`].
    pub fn judge(&mut self, parts: &response::Parts, end_stream: bool) -> Result<Next, Violation> {
        judge_fields(&parts.headers, 0)?;
        let length = content_length(&parts.headers)?;
        let status = parts.status;
        if status == StatusCode::SWITCHING_PROTOCOLS || status.as_u16() >= 600 {
            return Err(Violation::Status);
        }
        if status.is_informational() {
            self.interim += 1;
            return match length {
                _ if self.interim > MAX_INTERIM => Err(Violation::TooManyInterim),
                None | Some(0) if !end_stream => Ok(Next::Head),
                _ => Err(Violation::Length),
            };
        }
        if self.to == Method::CONNECT && status.is_success() {
            return Ok(Next::Tunnel);
        }
        let bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(Next::Body(match length {
            _ if bare || self.to == Method::HEAD => Framing::None,
            None | Some(0) if end_stream => Framing::None,
            Some(_) if end_stream => return Err(Violation::Length),
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }))
    }
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)]
pub enum Violation {
    #[error("a field that belongs to a connection of HTTP/1.1")]
    ConnectionField,
    #[error("TE other than trailers")]
    Te,
    #[error("a path that does not start with a slash")]
    Path,
    #[error("no authority, or one with a character that no host has")]
    Authority,
    #[error("more than one host field")]
    SeveralHosts,
    #[error("a host field that is not the authority")]
    HostDiffers,
    #[error("CONNECT without a protocol")]
    Connect,
    #[error("a protocol without CONNECT")]
    Protocol,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("more than one Content-Length, or one that is not the body's")]
    Length,
    #[error("a longer head than is accepted")]
    HeadTooLarge,
    #[error("more fields than are accepted")]
    TooManyFields,
    #[error("a status that HTTP/2 has not")]
    Status,
    #[error("more interim responses than are accepted")]
    TooManyInterim,
    #[error("a trailer that frames or routes the message")]
    TrailerName,
}

/// What becomes of the stream of a bad request. Its connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// PROTOCOL_ERROR.
    Reset,
    /// A response, and the stream ends with it.
    Respond(Refusal),
}

impl Violation {
    /// What a client gets for it, in a request: malformed messages are reset (RFC 9113 8.1.1),
    /// those that are only not taken are answered. Once the body is forwarded, reset is all there is.
    #[must_use]
    pub fn of_request(self) -> Answer {
        let status = match self {
            Self::HostDiffers | Self::SeveralHosts => 400,
            Self::Connect => 405,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            _ => return Answer::Reset,
        };
        let reason = format!("the client sent {self}");
        Answer::Respond(Refusal::new(status, Flag::DownstreamProtocolError, reason))
    }

    /// What the client gets when the backend did it: 502.
    #[must_use]
    pub fn of_response(self) -> Refusal {
        let reason = format!("the backend sent {self}");
        Refusal::new(502, Flag::UpstreamProtocolError, reason)
    }
}
