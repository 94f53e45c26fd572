//! Heads, as they are written.
//!
//! Names and values cannot end a line: their types do not hold CR, LF or NUL. Targets and hosts are
//! text and looked at here.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::Framing;
use super::error::EncodeError;
use super::frame::BodyEncoder;

/// The first line of a request, and the one host it is for.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    #[allow(missing_docs)]
    pub method: &'a Method,
    /// Path and query, `*`, or `host:port` of CONNECT.
    pub target: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
}

/// What becomes of the connection after this message.
#[derive(Debug, Clone, Copy)]
pub enum Connection<'a> {
    /// It goes on.
    KeepAlive,
    /// It is closed.
    Close,
    /// It becomes another protocol: offered by a request, taken up by 101.
    Upgrade(&'a HeaderValue),
}

/// Writes the head of a request; the encoder writes its body.
///
/// # Errors
///
/// A target or host that does not fit its place, or [`Framing::UntilClose`]. Nothing was written.
pub fn encode_request_head(
    out: &mut BytesMut,
    line: &RequestLine<'_>,
    headers: &HeaderMap,
    body: Framing,
    connection: Connection<'_>,
) -> Result<BodyEncoder, EncodeError> {
    if !is_word(line.target) || !is_word(line.host) {
        return Err(EncodeError::Target);
    }
    let method = line.method.as_str();
    let line_size = method.len() + line.target.len() + line.host.len();
    let encoder = match body {
        Framing::UntilClose => return Err(EncodeError::Unframed),
        body => BodyEncoder::new(body),
    };
    out.reserve(line_size + size(headers));
    out.put_slice(method.as_bytes());
    out.put_slice(b" ");
    out.put_slice(line.target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(line.host.as_bytes());
    out.put_slice(b"\r\n");
    put_fields(out, headers, |name| *name == header::HOST);
    put_connection(out, connection);
    match body {
        // RFC 9110 8.6: a method that expects a body says when there is none.
        Framing::None if !expects_body(line.method) => {}
        body => put_framing(out, body),
    }
    out.put_slice(b"\r\n");
    Ok(encoder)
}

/// Writes the head of a final response, or of 101, to a request of method `to`; the encoder writes
/// its body. A response that has none (to HEAD, 204, 304, 101 and 2xx to CONNECT) is framed like
/// that, and its encoder swallows what it is given. A `Content-Length` in the map is sent to HEAD
/// and with 304, where it says what there would have been.
///
/// # Errors
///
/// [`Framing::UntilClose`] without [`Connection::Close`]. Nothing was written.
pub fn encode_response_head(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    body: Framing,
    to: &Method,
    connection: Connection<'_>,
) -> Result<BodyEncoder, EncodeError> {
    if body == Framing::UntilClose && !matches!(connection, Connection::Close) {
        return Err(EncodeError::Unframed);
    }
    put_status(out, status, size(headers));
    put_fields(out, headers, |_| false);
    put_connection(out, connection);
    let tunnel = *to == Method::CONNECT && status.is_success();
    let encoder = if status.is_informational() || status == StatusCode::NO_CONTENT || tunnel {
        BodyEncoder::nothing()
    } else if *to == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        match (body, headers.get(header::CONTENT_LENGTH)) {
            (Framing::Length(_), _) => put_framing(out, body),
            (_, Some(length)) => put_field(out, b"content-length", length.as_bytes()),
            _ => {}
        }
        BodyEncoder::nothing()
    } else {
        put_framing(out, body);
        BodyEncoder::new(body)
    };
    out.put_slice(b"\r\n");
    Ok(encoder)
}

/// Writes an interim response: 100, 102, 103. Another head follows.
pub fn encode_interim_head(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    put_status(out, status, size(headers));
    put_fields(out, headers, |_| false);
    out.put_slice(b"\r\n");
}

/// About what the fields and our own take.
fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
    fields.sum::<usize>() + 128
}

fn put_status(out: &mut BytesMut, status: StatusCode, fields: usize) {
    out.reserve(fields);
    let line: &[u8] = match status.as_u16() {
        100 => b"HTTP/1.1 100 Continue\r\n",
        101 => b"HTTP/1.1 101 Switching Protocols\r\n",
        200 => b"HTTP/1.1 200 OK\r\n",
        201 => b"HTTP/1.1 201 Created\r\n",
        202 => b"HTTP/1.1 202 Accepted\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        206 => b"HTTP/1.1 206 Partial Content\r\n",
        301 => b"HTTP/1.1 301 Moved Permanently\r\n",
        302 => b"HTTP/1.1 302 Found\r\n",
        304 => b"HTTP/1.1 304 Not Modified\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        401 => b"HTTP/1.1 401 Unauthorized\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        429 => b"HTTP/1.1 429 Too Many Requests\r\n",
        500 => b"HTTP/1.1 500 Internal Server Error\r\n",
        502 => b"HTTP/1.1 502 Bad Gateway\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        504 => b"HTTP/1.1 504 Gateway Timeout\r\n",
        _ => {
            out.put_slice(b"HTTP/1.1 ");
            out.put_slice(status.as_str().as_bytes());
            out.put_slice(b" ");
            out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
            b"\r\n"
        }
    };
    out.put_slice(line);
}

fn put_fields(out: &mut BytesMut, headers: &HeaderMap, skip: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers {
        if !is_ours(name) && !skip(name) {
            put_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

pub(super) fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Written from what was decided, never from the map.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn put_connection(out: &mut BytesMut, connection: Connection<'_>) {
    match connection {
        Connection::KeepAlive => {}
        Connection::Close => out.put_slice(b"connection: close\r\n"),
        Connection::Upgrade(to) => {
            out.put_slice(b"connection: upgrade\r\n");
            put_field(out, b"upgrade", to.as_bytes());
        }
    }
}

fn put_framing(out: &mut BytesMut, body: Framing) {
    match body {
        Framing::None => out.put_slice(b"content-length: 0\r\n"),
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            put_decimal(out, length);
            out.put_slice(b"\r\n");
        }
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
}

fn put_decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[at..]);
        }
    }
}

fn expects_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}
