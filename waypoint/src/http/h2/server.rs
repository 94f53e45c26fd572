//! One HTTP/2 connection of a client, without TLS of its own (h2c with prior knowledge).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use ambit_http::h1::Framing;
use ambit_http::h2rules::{self, Answer};
use ambit_http::host::Host;
use ambit_http::path::{self, CanonicalPath};
use ambit_http::refusal::{Flag, Refusal};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use super::opening::Opening;
use super::send::{Unsent, send};
use super::sieved::Sieved;
use super::{
    CONNECTION_WINDOW, Incoming, MAX_ERRORS, MAX_HEADERS, MAX_RESETS, MAX_STREAMS, SEND_BUFFER,
    STREAM_WINDOW,
};
use crate::http::body::{Body, Frame};
use crate::http::desk::{Desk, Note};
use crate::http::message::{Request, Response};
use crate::http::pipeline;
use crate::http::websocket;
use crate::io::{Io, Prefixed};
use crate::session::Session;

const VERSION: &str = "HTTP/2";
/// How long a client may take to greet.
const GREETING: Duration = Duration::from_secs(60);
/// A client may reset this many requests before they are answered, and half of all after that.
const RESETS: u32 = 200;

/// Serves requests side by side until the client leaves, or was told to end and has its answers. What is wrong with one
/// of them concerns its stream alone.
pub(in super::super) async fn serve(session: Arc<Session>, io: Io, first: Bytes) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_ERRORS))
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    let greeting = builder.handshake::<_, Bytes>(Sieved::new(Prefixed::new(first, io)));
    let mut connection = match timeout(GREETING, greeting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no HTTP/2");
            return;
        }
        Err(_) => return,
    };
    let resets = Arc::new(AtomicU32::new(0));
    let mut requests: u32 = 0;
    let mut ending = pin!(session.ending.begun());
    let mut ends = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut ending, if !ends => {
                ends = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(accepted) = accepted else { return };
        match accepted {
            Ok((request, respond)) => {
                requests = requests.saturating_add(1);
                let reset = resets.load(Ordering::Relaxed);
                if reset > RESETS && reset > requests / 2 {
                    tracing::info!(peer = %session.caller.address, "a client resets most of its requests");
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                tokio::spawn(stream(session.clone(), request, respond, resets.clone()));
            }
            Err(error) => {
                tracing::debug!(%error, "an HTTP/2 connection ended");
                return;
            }
        }
    }
}

/// One request and its response.
async fn stream(
    session: Arc<Session>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    resets: Arc<AtomicU32>,
) {
    let desk = Arc::new(Desk::default());
    let mut opening = None;
    let mut response = match read(request, &desk) {
        Ok((request, socket)) => {
            opening = socket;
            let answering = pin!(pipeline::answer(&session, request));
            match answer(answering, &desk, &mut respond).await {
                Some(response) => response,
                None => {
                    resets.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
        Err(None) => return respond.send_reset(Reason::PROTOCOL_ERROR),
        Err(Some(refusal)) => pipeline::refuse_head(&session, &refusal, VERSION),
    };
    if let Some(backend) = response.upgraded.take() {
        if let Some(opening) = opening {
            opening.open(*backend, response, respond).await;
        }
        return;
    }
    if opening.is_some() && response.status.is_success() {
        // To the client it would say that its WebSocket is open.
        respond.send_reset(Reason::CONNECT_ERROR);
        if let Some(record) = response.record {
            record.broke(&"the backend did not switch to WebSocket");
        }
        return;
    }
    let Response {
        status,
        headers,
        mut body,
        record,
        ..
    } = response;
    let mut record = record;
    let empty = matches!(body, Body::Empty);
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    if let Framing::Length(length) = body.framing() {
        let length = HeaderValue::from(length);
        head.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    // A client that is gone needs no answer.
    let Ok(stream) = respond.send_response(head, empty) else {
        return;
    };
    let passed = |frame: &Frame| {
        if let Some(record) = &mut record {
            record.piece(frame);
        }
    };
    let result = match empty {
        true => Ok(()),
        // The client has cancelled nothing: gRPC calls it INTERNAL.
        false => send(stream, &mut body, Reason::INTERNAL_ERROR, passed).await,
    };
    let late = body.is_late();
    drop(body);
    if let Some(record) = record {
        match result {
            _ if late => record.late(),
            Ok(()) => record.complete(),
            Err(Unsent::Source(error)) => record.broke(&error),
            Err(Unsent::Sink) => {}
        }
    }
}

/// The response; meanwhile the client gets what is due before it. `None` when it has reset its stream and
/// wants nothing any more.
async fn answer(
    mut answer: Pin<&mut impl Future<Output = Response>>,
    desk: &Desk,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response> {
    poll_fn(|cx| {
        let answered = answer.as_mut().poll(cx);
        // What was said before the response goes before it.
        while let Poll::Ready(note) = desk.poll(cx) {
            let (status, headers) = match note {
                Note::Interim(status, headers) => (status, headers),
                Note::BodyWanted if answered.is_pending() => {
                    (StatusCode::CONTINUE, HeaderMap::new())
                }
                Note::BodyWanted | Note::Reader(..) => continue,
            };
            let mut head = http::Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = headers;
            // One that cannot be sent any more is missed by nobody.
            let _ = respond.send_informational(head);
        }
        match answered {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    })
    .await
}

/// The canonical request of a head; an error without a refusal resets the stream. An extended CONNECT is a handshake of
/// HTTP/1.1 from here on, beside the WebSocket that it would open.
fn read(
    request: http::Request<RecvStream>,
    desk: &Arc<Desk>,
) -> Result<(Request, Option<Opening>), Option<Refusal>> {
    let (mut head, stream) = request.into_parts();
    let protocol = head.extensions.remove::<h2::ext::Protocol>();
    let protocol = protocol.as_ref().map(h2::ext::Protocol::as_str);
    let judged = h2rules::request(&head, protocol, stream.is_end_stream());
    let judged = judged.map_err(|violation| match violation.of_request() {
        Answer::Reset => None,
        Answer::Respond(refusal) => Some(refusal),
    })?;
    let bad = |error: &dyn std::fmt::Display| {
        Refusal::new(400, Flag::DownstreamProtocolError, error.to_string())
    };
    if protocol.is_some_and(|it| it != websocket::NAME) {
        let reason = "only websocket can be opened with an extended CONNECT";
        let refusal = Refusal::new(501, Flag::DownstreamProtocolError, reason);
        return Err(Some(refusal));
    }
    let framing = judged.body;
    let host = Host::parse(judged.authority).map_err(|error| bad(&error))?;
    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
    let path = match target {
        "*" => CanonicalPath::asterisk(),
        _ => path::canonical(target).map_err(|error| bad(&error))?,
    };
    h2rules::merge_cookies(&mut head.headers);
    // A client that waits for 100 gets it at once: there is room for what it sends anyway.
    if head.headers.contains_key(header::EXPECT) {
        desk.body_wanted();
    }
    let upgrade = protocol.map(|_| HeaderValue::from_static(websocket::NAME));
    let (body, opening) = match framing {
        _ if upgrade.is_some() => {
            head.method = Method::GET;
            head.headers.remove(header::CONTENT_LENGTH);
            let opening = Opening::new(stream, &mut head.headers);
            (Body::Empty, Some(opening))
        }
        Framing::None => (Body::Empty, None),
        framing => {
            let incoming = Incoming::request(stream, framing);
            (Body::H2(Box::new(incoming)), None)
        }
    };
    let request = Request {
        method: head.method,
        path,
        host,
        headers: head.headers,
        body,
        upgrade,
        version: VERSION,
        desk: desk.clone(),
    };
    Ok((request, opening))
}
