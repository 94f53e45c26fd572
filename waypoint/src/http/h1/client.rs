//! One request on an HTTP/1.1 connection to a backend.

use std::sync::Arc;

use ambit_http::h1::{
    self, Asked, BodyEncoder, Framing, Next, RequestLine, ResponseDecoder, encode_request_head,
};
use ambit_http::retry::Outcome;
use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::io::AsyncWriteExt;

use super::incoming::{Incoming, fresh};
use super::{READ, Raw, Reader, Writer, write};
use crate::http::body::{Body, Frame};
use crate::http::message::Response;
use crate::io::Io;

/// A connection between two requests.
pub(in super::super) struct Connection {
    reader: Reader,
    writer: Writer,
    used: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub(in super::super) struct Failure {
    pub(in super::super) outcome: Outcome,
    pub(in super::super) reason: String,
    /// The client's own body broke off: nobody wants an answer.
    pub(in super::super) client: bool,
}

impl Failure {
    pub(in super::super) fn new(outcome: Outcome, reason: impl std::fmt::Display) -> Self {
        Self {
            outcome,
            reason: reason.to_string(),
            client: false,
        }
    }
}

/// What is sent.
pub(in super::super) struct Head<'a> {
    pub(in super::super) method: &'a Method,
    pub(in super::super) target: &'a str,
    pub(in super::super) host: &'a str,
    pub(in super::super) headers: &'a HeaderMap,
    pub(in super::super) upgrade: Option<&'a HeaderValue>,
}

impl Connection {
    pub(in super::super) fn new(io: Io) -> Self {
        let (reader, writer) = tokio::io::split(io);
        Self {
            reader: Reader::new(reader, BytesMut::new()),
            writer,
            used: false,
        }
    }

    /// Whether it can take a request: nothing has come and it has not ended.
    pub(in super::super) fn is_fresh(&mut self) -> bool {
        self.reader.buffer.is_empty() && self.reader.fill(READ).now_or_never().is_none()
    }
}

/// Takes connections that may be used again.
pub(in super::super) type Keep = Arc<dyn Fn(Connection) + Send + Sync>;

/// Sends a request and waits for the head of its response. The rest of a body that is still being sent
/// goes on while the response's body is read.
pub(in super::super) async fn exchange(
    connection: Connection,
    head: &Head<'_>,
    body: Body,
    keep: Keep,
) -> Result<Response, Failure> {
    let Connection {
        mut reader,
        mut writer,
        used,
    } = connection;
    let broken = |error: &dyn std::fmt::Display| {
        // A kept connection that ends without a byte was gone before the request.
        let outcome = if used { Outcome::Unsent } else { Outcome::Lost };
        Failure::new(outcome, error)
    };
    let framing = match body.framing() {
        Framing::UntilClose => Framing::Chunked,
        framing => framing,
    };
    let mut out = BytesMut::new();
    let line = RequestLine {
        method: head.method,
        target: head.target,
        host: head.host,
    };
    let ends = match head.upgrade {
        Some(protocol) => h1::Connection::Upgrade(protocol),
        None => h1::Connection::KeepAlive,
    };
    let encoder = encode_request_head(&mut out, &line, head.headers, framing, ends)
        .map_err(|error| Failure::new(Outcome::Malformed, error))?;
    write(&mut writer, out)
        .await
        .map_err(|error| broken(&error))?;
    let asked = Asked::new(head.method, head.upgrade.cloned());
    let mut decoder = ResponseDecoder::new();
    if body.is_empty() {
        writer.flush().await.map_err(|error| broken(&error))?;
        let response = receive(&mut reader, &mut decoder, &asked).await?;
        return Ok(finish(response, reader, Ok(writer), keep));
    }
    let mut sending = Box::pin(send(writer, encoder, body));
    let received = {
        let receiving = receive(&mut reader, &mut decoder, &asked);
        tokio::pin!(receiving);
        tokio::select! {
            biased;
            sent = &mut sending => Err((sent, receiving.await)),
            response = &mut receiving => Ok(response),
        }
    };
    match received {
        Ok(response) => {
            let uplink = async move { sending.await.ok() }.boxed();
            Ok(finish(response?, reader, Err(uplink), keep))
        }
        Err((Ok(writer), response)) => Ok(finish(response?, reader, Ok(writer), keep)),
        // A backend may answer and close without reading everything.
        Err((Err(failure), response)) => match response {
            Ok(response) => {
                let never = async { None }.boxed();
                Ok(finish(response, reader, Err(never), keep))
            }
            Err(_) => Err(failure),
        },
    }
}

async fn send(
    mut writer: Writer,
    mut encoder: BodyEncoder,
    mut body: Body,
) -> Result<Writer, Failure> {
    let lost = |error: std::io::Error| Failure::new(Outcome::Lost, error);
    loop {
        let frame = body.next().await.map_err(|error| Failure {
            client: true,
            ..Failure::new(Outcome::Lost, error)
        })?;
        let wrong = |error: h1::EncodeError| Failure {
            client: true,
            ..Failure::new(Outcome::Malformed, error)
        };
        let (bytes, last) = match frame {
            Some(Frame::Data(data)) => (encoder.data(data).map_err(wrong)?, false),
            Some(Frame::Trailers(trailers)) => {
                let end = std::mem::replace(&mut encoder, BodyEncoder::nothing());
                (end.end(Some(&trailers)).map_err(wrong)?, true)
            }
            None => {
                let end = std::mem::replace(&mut encoder, BodyEncoder::nothing());
                (end.end(None).map_err(wrong)?, true)
            }
        };
        if bytes.has_remaining() {
            write(&mut writer, bytes).await.map_err(lost)?;
        }
        writer.flush().await.map_err(lost)?;
        if last {
            return Ok(writer);
        }
    }
}

async fn receive(
    reader: &mut Reader,
    decoder: &mut ResponseDecoder,
    asked: &Asked,
) -> Result<h1::ResponseHead, Failure> {
    let mut silent = true;
    loop {
        match decoder.decode(&mut reader.buffer, asked) {
            // Interim responses are not passed on; the client's 100 is ours to give.
            Ok(Some(head)) if head.next == Next::Head => continue,
            Ok(Some(head)) => return Ok(head),
            Ok(None) => {}
            Err(error) => return Err(Failure::new(Outcome::Malformed, error)),
        }
        let outcome = |silent| {
            if silent {
                Outcome::Lost
            } else {
                Outcome::Malformed
            }
        };
        match reader.fill(READ).await {
            Ok(true) => silent = false,
            Ok(false) => return Err(Failure::new(outcome(silent), "it closed the connection")),
            Err(error) => return Err(Failure::new(outcome(silent), error)),
        }
    }
}

fn finish(
    head: h1::ResponseHead,
    reader: Reader,
    uplink: Result<Writer, futures_util::future::BoxFuture<'static, Option<Writer>>>,
    keep: Keep,
) -> Response {
    let h1::ResponseHead {
        status,
        headers,
        next,
        keep_alive,
    } = head;
    let framing = match next {
        Next::Tunnel => {
            let upgraded = uplink.ok().map(|writer| Box::new(Raw { reader, writer }));
            return Response {
                status,
                headers,
                body: Body::Empty,
                upgraded: upgraded.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS),
            };
        }
        Next::Body(framing) => framing,
        Next::Head => Framing::None,
    };
    let done = keep_alive.then(|| {
        let done = move |mut reader: Reader, writer: Option<Writer>| {
            if let Some(writer) = writer {
                fresh(&mut reader.buffer);
                keep(Connection {
                    reader,
                    writer,
                    used: true,
                });
            }
        };
        Box::new(done) as Box<dyn FnOnce(Reader, Option<Writer>) + Send>
    });
    // The length of a response without a body is kept for HEAD and 304.
    let length = headers.get(header::CONTENT_LENGTH).is_some();
    let incoming = Incoming::response(reader, framing, uplink, done);
    let body = match framing {
        Framing::None if !length => Body::Empty,
        Framing::None | Framing::Length(0) => Body::Empty,
        _ => Body::H1(Box::new(incoming)),
    };
    Response {
        status,
        headers,
        body,
        upgraded: None,
    }
}
