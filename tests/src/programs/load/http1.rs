//! HTTP/1.1 requests, as cheaply as they can be made: one write of prepared bytes, one read for small answers.
//!
//! Answers must say their length; [`super::http2`] and [`super::get`] use a whole HTTP client instead.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engine::{self, Connection, Dial};
use super::failure::{Failure, Stage};
use super::options::Http;
use super::report::Report;
use super::target::{self, Resolved};
use crate::programs::pattern;

const MAX_HEADERS: usize = 64;
/// Longest response head; also the read buffer of a connection.
const BUFFER: usize = 16 * 1024;

pub(super) fn run(arguments: &Http) -> anyhow::Result<Report> {
    let resolved = target::resolve(
        arguments.url.address(),
        arguments.family,
        arguments.issue.timeout,
    )?;
    let request = render(arguments);
    let head_only = method(arguments) == http::Method::HEAD;
    let connections = arguments.issue.connections;
    let dialer = || Dialer {
        resolved: resolved.clone(),
        request: request.clone().into(),
        head_only,
    };
    let (elapsed, totals) = engine::run(&arguments.issue, connections as usize, dialer)?;
    let report = Report::of_requests("http/1.1", arguments.url.uri().to_string(), elapsed, totals);
    Ok(Report {
        connections: Some(connections),
        ..report
    })
}

/// The method that the command line means.
pub(super) fn method(arguments: &Http) -> http::Method {
    let implied = if arguments.body_size > 0 {
        http::Method::POST
    } else {
        http::Method::GET
    };
    arguments.method.clone().unwrap_or(implied)
}

/// The whole request as bytes.
fn render(arguments: &Http) -> Vec<u8> {
    let mut request = format!(
        "{} {} HTTP/1.1\r\n",
        method(arguments),
        arguments.url.path_and_query()
    )
    .into_bytes();
    let mut header = |name: &str, value: &[u8]| {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    };
    if !arguments
        .headers
        .iter()
        .any(|(name, _)| name == http::header::HOST)
    {
        header("host", arguments.url.authority().as_bytes());
    }
    for (name, value) in &arguments.headers {
        header(name.as_str(), value.as_bytes());
    }
    if arguments.body_size > 0 {
        header("content-length", arguments.body_size.to_string().as_bytes());
    }
    if arguments.issue.new_connections {
        header("connection", b"close");
    }
    request.extend_from_slice(b"\r\n");
    let mut sent = 0;
    while sent < arguments.body_size {
        let piece = pattern::piece(sent, arguments.body_size - sent);
        request.extend_from_slice(&piece);
        sent += piece.len() as u64;
    }
    request
}

struct Dialer {
    resolved: Resolved,
    request: std::rc::Rc<[u8]>,
    head_only: bool,
}

impl Dial for Dialer {
    type Connection = Http1;

    async fn dial(&self, _: usize) -> Result<Http1, Failure> {
        Ok(Http1 {
            stream: self.resolved.connect().await?,
            request: self.request.clone(),
            head_only: self.head_only,
            buffer: vec![0; BUFFER].into(),
            reusable: true,
        })
    }
}

struct Http1 {
    stream: TcpStream,
    request: std::rc::Rc<[u8]>,
    head_only: bool,
    buffer: Box<[u8]>,
    reusable: bool,
}

impl Connection for Http1 {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let sent = self.stream.write_all(&self.request).await;
        // A server may answer and close before it has read everything: its answer says more than our broken pipe.
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await;
            let read = match (read, &sent) {
                (Ok(0), Ok(())) => return Err(Failure::closed_early(Stage::Receive)),
                (Err(error), Ok(())) => return Err(Failure::io(Stage::Receive, &error)),
                (Ok(0) | Err(_), Err(error)) => return Err(Failure::io(Stage::Send, error)),
                (Ok(read), _) => read,
            };
            filled += read;
            match parse(&self.buffer[..filled])? {
                Some(head) if head.status.is_informational() => {
                    self.buffer.copy_within(head.length..filled, 0);
                    filled -= head.length;
                }
                Some(head) => break head,
                None if filled == self.buffer.len() => {
                    return Err(Failure::malformed(format!(
                        "the response head is longer than {BUFFER} bytes"
                    )));
                }
                None => {}
            }
        };
        self.reusable = head.keep_alive && sent.is_ok();
        let body = if self.head_only { 0 } else { head.body };
        let here = (filled - head.length) as u64;
        if here > body {
            return Err(Failure::malformed("bytes follow the announced body"));
        }
        self.skip(body - here).await?;
        if head.status.is_success() {
            Ok(body)
        } else {
            Err(Failure::status(head.status))
        }
    }

    fn reusable(&self) -> bool {
        self.reusable
    }

    /// A server that announced the end closes first, so that it keeps the finished connection (TIME_WAIT) and we do not
    /// run out of ports; an early close is no error any more.
    async fn close(mut self) {
        if !self.reusable {
            let _ = self.stream.read(&mut self.buffer).await;
        }
    }
}

impl Http1 {
    async fn skip(&mut self, mut left: u64) -> Result<(), Failure> {
        while left > 0 {
            match self.stream.read(&mut self.buffer).await {
                Ok(0) => return Err(Failure::closed_early(Stage::Receive)),
                Ok(read) => {
                    left = left
                        .checked_sub(read as u64)
                        .ok_or_else(|| Failure::malformed("bytes follow the announced body"))?;
                }
                Err(error) => return Err(Failure::io(Stage::Receive, &error)),
            }
        }
        Ok(())
    }
}

/// What matters of a response head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: StatusCode,
    length: usize,
    body: u64,
    keep_alive: bool,
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::malformed(error.to_string())),
    };
    let status = response.code.unwrap_or_default();
    let status =
        StatusCode::from_u16(status).map_err(|_| Failure::malformed(format!("status {status}")))?;
    let mut body = None;
    let mut keep_alive = response.version == Some(1);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            body = Some(
                text.parse()
                    .map_err(|_| Failure::malformed(format!("content-length {text:?}")))?,
            );
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive &= !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let body = match body {
        _ if bodiless => 0,
        Some(body) => body,
        None => return Err(Failure::malformed("the response does not say its length")),
    };
    Ok(Some(Head {
        status,
        length,
        body,
        keep_alive,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = |status: u16, body, keep_alive| Ok(Some((status, body, keep_alive)));
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                head(200, 5, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n",
                head(200, 0, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
                head(200, 1, false),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", head(204, 0, true)),
            ("HTTP/1.1 100 Continue\r\n\r\n", head(100, 0, true)),
            ("HTTP/1.1 200 OK\r\ncontent-le", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Err(()),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Err(())),
            ("SSH-2.0-OpenSSH\r\n", Err(())),
        ] {
            let got = parse(text.as_bytes())
                .map(|head| head.map(|head| (head.status.as_u16(), head.body, head.keep_alive)))
                .map_err(|_| ());
            assert_eq!(got, expected, "{text:?}");
        }
    }
}
