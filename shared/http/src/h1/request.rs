//! Request heads, as a server reads them.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use http::Method;
use http::header::{HeaderMap, HeaderValue};

use super::error::{Error, Fault};
use super::fields::{self, Facts};
use super::lines::Lines;
use super::target::Target;
use super::{Framing, MAX_HEAD, MAX_HEADERS};

/// A request without its body.
#[derive(Debug)]
pub struct RequestHead {
    /// Case-sensitive.
    pub method: Method,
    /// What is asked for.
    pub target: Target,
    /// The one host of the request: the target's when it names one (RFC 9112 3.2.2), else that of
    /// the Host header. Not yet judged: see `host`.
    pub host: ByteString,
    /// All fields as they were received, hop-by-hop and framing ones included.
    pub headers: HeaderMap,
    /// Where the body ends; never [`Framing::UntilClose`].
    pub body: Framing,
    /// The client takes another response on this connection.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body.
    pub expect_continue: bool,
    /// The protocols that the client would switch to.
    pub upgrade: Option<HeaderValue>,
}

/// Reads the request heads of one connection.
#[derive(Debug, Default)]
pub struct RequestDecoder {
    lines: Lines,
    line_judged: bool,
    empty_line_seen: bool,
}

impl RequestDecoder {
    /// For a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next head from the front of `buf`; `None` until all of it is there, and then
    /// nothing was taken. What follows in `buf` is the body, to be read with
    /// [`BodyDecoder`](super::BodyDecoder).
    ///
    /// # Errors
    ///
    /// When it is not a request of HTTP/1.1, or not one that every recipient reads alike.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, Error> {
        self.head(buf).map_err(Error::request)
    }

    /// The peer sends nothing more. Fine between requests.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`] in the middle of a head.
    pub fn eof(&self, rest: &[u8]) -> Result<(), Error> {
        match rest.is_empty() {
            true => Ok(()),
            false => Err(Error::request(Fault::Truncated)),
        }
    }

    fn head(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, Fault> {
        if !self.begin(buf)? {
            return Ok(None);
        }
        let end = match self.lines.end(buf, MAX_HEAD) {
            Ok(Some(end)) => end,
            Ok(None) => {
                // What is no HTTP at all is not waited for.
                self.judge_line(buf)?;
                return Ok(None);
            }
            Err(fault) => {
                self.judge_line(buf)?;
                let line = fault == Fault::HeadTooLarge && !self.lines.any();
                return Err(if line { Fault::LineTooLong } else { fault });
            }
        };
        let head = buf.split_to(end).freeze();
        self.line_judged = false;
        self.empty_line_seen = false;
        parse(&head).map(Some)
    }

    /// Whether a request line has begun. One empty line before it is passed over (RFC 9112 2.2).
    fn begin(&mut self, buf: &mut BytesMut) -> Result<bool, Fault> {
        if !self.empty_line_seen && buf.first() == Some(&b'\r') {
            match buf.get(1) {
                None => return Ok(false),
                Some(b'\n') => buf.advance(2),
                Some(_) => return Err(Fault::LeadingSpace),
            }
            self.empty_line_seen = true;
        }
        match buf.first() {
            None => Ok(false),
            Some(b'\r' | b'\n' | b' ' | b'\t') => Err(Fault::LeadingSpace),
            Some(_) => Ok(true),
        }
    }

    fn judge_line(&mut self, buf: &[u8]) -> Result<(), Fault> {
        if self.line_judged || !self.lines.any() {
            return Ok(());
        }
        self.line_judged = true;
        let line = first_line(buf);
        let mut request = httparse::Request::new(&mut []);
        match request.parse(line) {
            _ if request.version == Some(0) => Err(Fault::OldVersion),
            Ok(_) => Ok(()),
            Err(error) => Err(fault(error, line)),
        }
    }
}

fn parse(head: &Bytes) -> Result<RequestHead, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut fields);
    if request.version == Some(0) {
        return Err(Fault::OldVersion);
    }
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Fault::RequestLine),
        Err(error) => return Err(fault(error, head)),
    }
    let method = request.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::RequestLine)?;
    let target = head.slice_ref(request.path.unwrap_or_default().as_bytes());
    let (headers, mut facts) = fields::collect(head, request.headers)?;
    match facts.hosts {
        0 => return Err(Fault::NoHost),
        1 => {}
        _ => return Err(Fault::SeveralHosts),
    }
    if !facts.host.iter().all(u8::is_ascii_graphic) {
        return Err(Fault::Host);
    }
    let continues = |it: &HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !facts.expect.as_ref().is_none_or(continues) {
        return Err(Fault::Expectation);
    }
    let target = Target::parse(&method, target)?;
    let host = match target.authority() {
        Some(named) => named.clone(),
        None => ByteString::try_from(std::mem::take(&mut facts.host)).map_err(|_| Fault::Host)?,
    };
    Ok(RequestHead {
        target,
        host,
        body: framing(&method, &facts)?,
        method,
        headers,
        keep_alive: !facts.close,
        expect_continue: facts.expect.is_some(),
        upgrade: facts.upgrade,
    })
}

/// RFC 9112 6.3.
fn framing(method: &Method, facts: &Facts) -> Result<Framing, Fault> {
    match facts.length {
        _ if facts.chunked && *method == Method::CONNECT => Err(Fault::ConnectBody),
        _ if facts.chunked => Ok(Framing::Chunked),
        None | Some(0) => Ok(Framing::None),
        Some(_) if *method == Method::CONNECT => Err(Fault::ConnectBody),
        Some(length) => Ok(Framing::Length(length)),
    }
}

fn fault(error: httparse::Error, head: &[u8]) -> Fault {
    use httparse::Error;
    match error {
        Error::HeaderName => Fault::HeaderName,
        Error::HeaderValue => Fault::HeaderValue,
        Error::TooManyHeaders => Fault::TooManyHeaders,
        Error::NewLine => Fault::LineEnd,
        Error::Status | Error::Token | Error::Version => line_fault(first_line(head)),
    }
}

/// The first line with its end.
fn first_line(buf: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', buf).map_or(buf.len(), |at| at + 1);
    &buf[..end]
}

/// Why a request line that was refused is: by its version, if it is one but for that.
fn line_fault(line: &[u8]) -> Fault {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let (_method, target) = (words.next(), words.next());
    match (words.next(), words.next()) {
        // HTTP/0.9: a method and a path.
        (None, _) if target.is_some_and(|it| it.starts_with(b"/")) => Fault::OldVersion,
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match (major, minor) {
                (b'0', _) | (b'1', b'0') => Fault::OldVersion,
                (b'1', b'1') => Fault::RequestLine,
                _ => Fault::UnknownVersion,
            }
        }
        _ => Fault::RequestLine,
    }
}
