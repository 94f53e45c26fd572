//! Response heads, as a client reads them.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::error::{Error, Fault};
use super::fields::{self, Facts, tokens};
use super::lines::Lines;
use super::{Framing, MAX_HEAD, MAX_HEADERS, MAX_INTERIM};

/// What has to be known of a request to read its response.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    head: bool,
    connect: bool,
    upgrade: Option<HeaderValue>,
}

impl Asked {
    /// Of a request with this method that offered to switch to `upgrade`.
    #[must_use]
    pub fn new(method: &Method, upgrade: Option<HeaderValue>) -> Self {
        Self {
            head: *method == Method::HEAD,
            connect: *method == Method::CONNECT,
            upgrade,
        }
    }
}

/// A response without its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: StatusCode,
    /// All fields as they were received, hop-by-hop and framing ones included.
    pub headers: HeaderMap,
    /// What the bytes after the head are.
    pub next: Next,
    /// The connection can take another request once the body has been read.
    pub keep_alive: bool,
}

/// What follows a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another head: this one is interim (1xx).
    Head,
    /// The body.
    Body(Framing),
    /// No HTTP any more: 101, or 2xx to CONNECT.
    Tunnel,
}

/// Reads the response heads of one connection.
#[derive(Debug, Default)]
pub struct ResponseDecoder {
    lines: Lines,
    interim: usize,
}

impl ResponseDecoder {
    /// For a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next head from the front of `buf`; `None` until all of it is there, and then
    /// nothing was taken. Bytes that come before anything was asked are no response: the caller
    /// closes the connection.
    ///
    /// # Errors
    ///
    /// When it is no response of HTTP/1.0 or 1.1, not one that every recipient reads alike, or not
    /// one to what was asked. The client gets 502, and the connection is not used again.
    pub fn decode(
        &mut self,
        buf: &mut BytesMut,
        asked: &Asked,
    ) -> Result<Option<ResponseHead>, Error> {
        self.head(buf, asked).map_err(Error::response)
    }

    fn head(&mut self, buf: &mut BytesMut, asked: &Asked) -> Result<Option<ResponseHead>, Fault> {
        match buf.first() {
            None => return Ok(None),
            Some(b'H') => {}
            Some(_) => return Err(Fault::StatusLine),
        }
        let Some(end) = self.lines.end(buf, MAX_HEAD)? else {
            return Ok(None);
        };
        let head = buf.split_to(end).freeze();
        let response = parse(&head, asked)?;
        self.interim = match response.next {
            Next::Head => self.interim + 1,
            Next::Body(_) | Next::Tunnel => 0,
        };
        match self.interim > MAX_INTERIM {
            true => Err(Fault::TooManyInterim),
            false => Ok(Some(response)),
        }
    }
}

fn parse(head: &Bytes, asked: &Asked) -> Result<ResponseHead, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, head, &mut fields)
        .map_err(fault)?;
    let status = response.code.filter(|code| (100..600).contains(code));
    let status = StatusCode::from_u16(status.ok_or(Fault::StatusLine)?);
    let status = status.map_err(|_| Fault::StatusLine)?;
    let old = response.version == Some(0);
    let (headers, facts) = fields::collect(head, response.headers)?;
    if old && facts.chunked {
        return Err(Fault::CodingOfOldVersion);
    }
    let next = next(status, &facts, asked)?;
    Ok(ResponseHead {
        status,
        headers,
        next,
        keep_alive: !old && !facts.close && reusable(status, next, &facts),
    })
}

/// RFC 9112 6.3.
fn next(status: StatusCode, facts: &Facts, asked: &Asked) -> Result<Next, Fault> {
    let empty = !facts.chunked && facts.length.is_none_or(|length| length == 0);
    match status {
        StatusCode::SWITCHING_PROTOCOLS if !switches(facts, asked) => Err(Fault::UnaskedSwitch),
        _ if status.is_informational() && !empty => Err(Fault::InterimBody),
        StatusCode::SWITCHING_PROTOCOLS => Ok(Next::Tunnel),
        _ if status.is_informational() => Ok(Next::Head),
        _ if asked.connect && status.is_success() => Ok(Next::Tunnel),
        _ if asked.head => Ok(Next::Body(Framing::None)),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(Next::Body(Framing::None)),
        _ => Ok(Next::Body(match facts.length {
            _ if facts.chunked => Framing::Chunked,
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })),
    }
}

/// The protocol was offered (RFC 9110 7.8).
fn switches(facts: &Facts, asked: &Asked) -> bool {
    let (Some(to), Some(offered)) = (&facts.upgrade, &asked.upgrade) else {
        return false;
    };
    tokens(offered).any(|offer| offer.eq_ignore_ascii_case(to.as_bytes()))
}

/// Where the next response starts is beyond doubt. Some servers announce a body with 204: there is
/// none (RFC 9112 6.3), but they may send it all the same.
fn reusable(status: StatusCode, next: Next, facts: &Facts) -> bool {
    let announced = facts.chunked || facts.length.is_some_and(|length| length > 0);
    match next {
        Next::Head => true,
        Next::Tunnel | Next::Body(Framing::UntilClose) => false,
        Next::Body(_) => status != StatusCode::NO_CONTENT || !announced,
    }
}

fn fault(error: httparse::Error) -> Fault {
    use httparse::Error;
    match error {
        Error::HeaderName => Fault::HeaderName,
        Error::HeaderValue => Fault::HeaderValue,
        Error::TooManyHeaders => Fault::TooManyHeaders,
        Error::NewLine => Fault::LineEnd,
        Error::Version => Fault::UnknownVersion,
        Error::Status | Error::Token => Fault::StatusLine,
    }
}
