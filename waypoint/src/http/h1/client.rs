//! One request on an HTTP/1.1 connection to a backend.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use ambit_http::h1::{
    self, Asked, BodyEncoder, Framing, Next, RequestLine, ResponseDecoder, encode_request_head,
};
use ambit_http::retry::Outcome;
use ambit_net::hbone;
use bytes::BytesMut;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::task::JoinHandle;

use super::incoming::Incoming;
use super::send::{SendError, send};
use super::{READ, Raw, Reader, Writer};
use crate::http::body::Body;
use crate::http::connections::Place;
use crate::http::desk::Desk;
use crate::http::message::Response;
use crate::io::{self, Io};

/// Room for the head of most requests.
const HEAD: usize = 1024;

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
    /// The backend has said of this request that it does not take it.
    pub(in super::super) refused: bool,
}

impl Failure {
    pub(in super::super) fn new(outcome: Outcome, reason: impl std::fmt::Display) -> Self {
        Self {
            outcome,
            reason: reason.to_string(),
            refused: false,
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
    /// Where interim responses go.
    pub(in super::super) desk: Option<&'a Desk>,
}

impl Connection {
    pub(in super::super) fn new(io: Io) -> Self {
        let (reader, writer) = io::split(io);
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

/// The sending half after a request.
enum Uplink {
    Done(Writer),
    /// The rest of the request is sent by a task of its own; without a result the connection is of no
    /// more use.
    Sending(Task),
}

/// A task that ends with whoever holds this.
struct Task(JoinHandle<Option<Writer>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What becomes of a connection when a response has been read.
pub(in super::super) struct Used {
    uplink: Option<Uplink>,
    /// `None`: it is not used again.
    place: Option<Place>,
}

impl Used {
    pub(super) fn give_back(&mut self, mut reader: Reader) {
        let writer = match self.uplink.take() {
            Some(Uplink::Done(writer)) => Some(writer),
            Some(Uplink::Sending(mut task)) => {
                (&mut task.0).now_or_never().and_then(|it| it.ok()?)
            }
            None => None,
        };
        if let (Some(writer), Some(place)) = (writer, self.place.take()) {
            reader.rest();
            place.keep(Connection {
                reader,
                writer,
                used: true,
            });
        }
    }
}

/// Sends a request and waits for the head of its response. The rest of a body that is still being sent goes
/// on while the response's body is read. A connection that can be used again goes to `place`.
pub(in super::super) async fn exchange(
    connection: Connection,
    head: &Head<'_>,
    mut body: Body,
    place: Place,
) -> Result<Response, Failure> {
    let Connection {
        reader,
        mut writer,
        used,
    } = connection;
    let framing = match body.framing() {
        Framing::UntilClose => Framing::Chunked,
        framing => framing,
    };
    let mut out = BytesMut::with_capacity(HEAD);
    let line = RequestLine {
        method: head.method,
        target: head.target,
        host: head.host,
    };
    let becomes = match head.upgrade {
        Some(protocol) => h1::Connection::Upgrade(protocol),
        None => h1::Connection::KeepAlive,
    };
    let encoder = encode_request_head(&mut out, &line, head.headers, framing, becomes)
        .map_err(|error| Failure::new(Outcome::Malformed, error))?;
    let mut receiving = Receiving {
        reader,
        decoder: ResponseDecoder::new(),
        asked: Asked::new(head.method, head.upgrade.cloned()),
        desk: head.desk,
        kept: used && is_idempotent(head.method),
        silent: true,
    };
    // A kept connection that takes nothing was gone before the request. A tunnel that was refused says so where
    // it is read.
    let unsent = |error: &SendError, read: Failure| match error {
        _ if read.outcome == Outcome::NotConnected => read,
        SendError::Sink(error) if used => Failure::new(Outcome::Unsent, error),
        error => Failure::new(Outcome::Lost, error),
    };
    if matches!(body, Body::Empty | Body::Full(_)) || is_kept_at_hand(&body) {
        if let Err(error) = send(&mut writer, &mut out, encoder, &mut body, |_| {}).await {
            // A backend may answer and close without reading everything.
            return match receiving.head().await {
                Ok(response) => Ok(finish(response, receiving.reader, None, None)),
                Err(read) => Err(unsent(&error, read)),
            };
        }
        let response = receiving.head().await?;
        let uplink = Some(Uplink::Done(writer));
        return Ok(finish(response, receiving.reader, uplink, Some(place)));
    }
    let mut sending = Box::pin(upload(writer, out, encoder, body));
    let mut sent = None;
    let response = poll_fn(|cx| {
        if sent.is_none()
            && let Poll::Ready(result) = sending.as_mut().poll(cx)
        {
            sent = Some(result);
        }
        match &sent {
            // The request cannot be completed: nobody will answer it.
            Some(Err(error @ (SendError::Source(_) | SendError::Length(_)))) => {
                Poll::Ready(Err(Failure::new(Outcome::Lost, error)))
            }
            // Also after an error: a backend may answer and close without reading everything.
            _ => receiving.poll_head(cx),
        }
    });
    let response = response.await;
    let uplink = match sent {
        None => match &response {
            Ok(_) => {
                let rest = async move { sending.await.ok() };
                Some(Uplink::Sending(Task(tokio::spawn(rest))))
            }
            Err(_) => None,
        },
        Some(Ok(writer)) => Some(Uplink::Done(writer)),
        Some(Err(error)) => match response {
            Ok(_) => None,
            Err(read) => return Err(unsent(&error, read)),
        },
    };
    Ok(finish(response?, receiving.reader, uplink, Some(place)))
}

/// Sending it cannot wait for the client.
fn is_kept_at_hand(body: &Body) -> bool {
    matches!(body, Body::Kept(kept) if kept.is_at_hand())
}

/// A request of which a second does no more than the first (RFC 9110 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}

async fn upload(
    mut writer: Writer,
    mut out: BytesMut,
    encoder: BodyEncoder,
    mut body: Body,
) -> Result<Writer, SendError> {
    send(&mut writer, &mut out, encoder, &mut body, |_| {}).await?;
    Ok(writer)
}

/// Waits for the head of a response.
struct Receiving<'a> {
    reader: Reader,
    decoder: ResponseDecoder,
    asked: Asked,
    desk: Option<&'a Desk>,
    /// If the connection ends without a byte, the request can be sent again: it was kept, and either the
    /// backend had closed it before, or a second request does no harm.
    kept: bool,
    silent: bool,
}

impl Receiving<'_> {
    async fn head(&mut self) -> Result<h1::ResponseHead, Failure> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<h1::ResponseHead, Failure>> {
        loop {
            match self.decoder.decode(&mut self.reader.buffer, &self.asked) {
                Ok(Some(head)) if head.next == Next::Head => {
                    // 100 is for us: the client's is given when its body is wanted.
                    if let Some(desk) = self.desk.filter(|_| head.status != StatusCode::CONTINUE) {
                        desk.interim(head.status, head.headers);
                    }
                    continue;
                }
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(Failure::new(Outcome::Malformed, error))),
            }
            let Poll::Ready(read) = self.reader.poll_fill(cx, READ) else {
                return Poll::Pending;
            };
            let outcome = match (self.silent, self.kept) {
                (true, true) => Outcome::Unsent,
                (true, false) => Outcome::Lost,
                (false, _) => Outcome::Malformed,
            };
            match read {
                Ok(0) => {
                    let failure = Failure::new(outcome, "it closed the connection");
                    return Poll::Ready(Err(failure));
                }
                Ok(_) => self.silent = false,
                Err(error) if is_refused(&error) => {
                    return Poll::Ready(Err(Failure::new(Outcome::NotConnected, error)));
                }
                Err(error) => return Poll::Ready(Err(Failure::new(outcome, error))),
            }
        }
    }
}

/// Whether the tunnel that the connection is in was not agreed to.
fn is_refused(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|it| it.downcast_ref());
    inner.is_some_and(hbone::Error::is_unseen)
}

fn finish(
    head: h1::ResponseHead,
    mut reader: Reader,
    uplink: Option<Uplink>,
    place: Option<Place>,
) -> Response {
    let h1::ResponseHead {
        status,
        headers,
        next,
        keep_alive,
    } = head;
    let empty = |upgraded| Response {
        headers: HeaderMap::new(),
        upgraded,
        ..Response::empty(status)
    };
    let framing = match next {
        Next::Tunnel => {
            let upgraded = match uplink {
                Some(Uplink::Done(writer)) => Some(Box::new(Raw { reader, writer })),
                _ => None,
            };
            return Response {
                headers,
                ..empty(upgraded)
            };
        }
        Next::Body(framing) => framing,
        Next::Head => Framing::None,
    };
    let mut used = Used {
        uplink,
        place: place.filter(|_| keep_alive),
    };
    let body = match framing {
        Framing::None | Framing::Length(0) => {
            used.give_back(reader);
            Body::Empty
        }
        // All of it is there.
        Framing::Length(length) if length <= reader.buffer.len() as u64 => {
            let bytes = reader.buffer.split_to(length as usize).freeze();
            used.give_back(reader);
            Body::Full(bytes)
        }
        framing => Body::H1(Box::new(Incoming::response(reader, framing, used))),
    };
    Response {
        headers,
        body,
        ..empty(None)
    }
}
