//! One HTTP/2 connection of a client, without TLS of its own (h2c with prior knowledge).

use std::sync::Arc;

use ambit_http::h1::Framing;
use ambit_http::h2rules::{self, Answer};
use ambit_http::host::Host;
use ambit_http::path::{self, CanonicalPath};
use ambit_http::refusal::{Flag, Refusal};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header;

use super::{CONNECTION_WINDOW, Incoming, MAX_HEADERS, MAX_STREAMS, STREAM_WINDOW, send};
use crate::http::body::Body;
use crate::http::message::{Request, Response};
use crate::http::pipeline;
use crate::io::{Io, Prefixed};
use crate::session::Session;

/// Serves requests side by side until the client leaves. What is wrong with one of them concerns its
/// stream alone.
pub(in super::super) async fn serve(session: Arc<Session>, io: Io, first: Bytes) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(STREAM_WINDOW as usize);
    let mut connection = match builder
        .handshake::<_, Bytes>(Prefixed::new(first, io))
        .await
    {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "no HTTP/2");
            return;
        }
    };
    while let Some(accepted) = connection.accept().await {
        match accepted {
            Ok((request, respond)) => {
                tokio::spawn(answer(session.clone(), request, respond));
            }
            Err(error) => {
                tracing::debug!(%error, "an HTTP/2 connection ended");
                return;
            }
        }
    }
}

async fn answer(
    session: Arc<Session>,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = match read(request) {
        Ok(request) => {
            let answer = pipeline::answer(&session, request);
            tokio::pin!(answer);
            // A client that resets its stream wants nothing any more.
            tokio::select! {
                biased;
                response = &mut answer => response,
                _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
            }
        }
        Err(None) => return respond.send_reset(Reason::PROTOCOL_ERROR),
        Err(Some(refusal)) => pipeline::refuse_head(&session, &refusal, "HTTP/2"),
    };
    let Response {
        status,
        headers,
        body,
        ..
    } = response;
    let empty = body.is_empty();
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    if let Framing::Length(length) = body.framing() {
        head.headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    // A client that is gone needs no answer.
    if let Ok(stream) = respond.send_response(head, empty)
        && !empty
    {
        let _ = send(stream, body).await;
    }
}

/// The canonical request of a head; an error without a refusal resets the stream.
fn read(request: http::Request<RecvStream>) -> Result<Request, Option<Refusal>> {
    let (mut head, stream) = request.into_parts();
    let judged = h2rules::request(&head, None, stream.is_end_stream());
    let judged = judged.map_err(|violation| match violation.of_request() {
        Answer::Reset => None,
        Answer::Respond(refusal) => Some(refusal),
    })?;
    let bad = |error: &dyn std::fmt::Display| {
        Refusal::new(400, Flag::DownstreamProtocolError, error.to_string())
    };
    let framing = judged.body;
    let host = Host::parse(judged.authority).map_err(|error| bad(&error))?;
    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
    let path = match target {
        "*" => CanonicalPath::asterisk(),
        raw => {
            let raw = Bytes::copy_from_slice(raw.as_bytes());
            path::canonical(&raw).map_err(|error| bad(&error))?
        }
    };
    h2rules::merge_cookies(&mut head.headers);
    let body = match framing {
        Framing::None => Body::Empty,
        framing => Body::H2(Box::new(Incoming::new(stream, framing))),
    };
    Ok(Request {
        method: head.method,
        path,
        host,
        headers: head.headers,
        body,
        upgrade: None,
        version: "HTTP/2",
    })
}
