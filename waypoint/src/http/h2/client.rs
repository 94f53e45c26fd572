//! Requests on an HTTP/2 connection to a backend.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use ambit_http::h1::{Framing, Next};
use ambit_http::h2rules::Responses;
use ambit_http::retry::Outcome;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderValue, StatusCode, Uri, Version, header};
use tokio::time::timeout;

use super::send::{Unsent, send};
use super::{CONNECTION_WINDOW, Incoming, MAX_ERRORS, MAX_HEADERS, SEND_BUFFER, STREAM_WINDOW};
use crate::http::body::Body;
use crate::http::desk::Desk;
use crate::http::h1::{Failure, Head};
use crate::http::message::Response;
use crate::io::Io;

/// How long a backend may take to greet.
const GREETING: Duration = Duration::from_secs(10);

/// A connection that takes requests side by side.
#[derive(Clone)]
pub(in super::super) struct Client {
    requests: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    busy: AtomicUsize,
    gone: AtomicBool,
}

/// A request that is under way; counted until this is dropped.
pub(in super::super) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Greets a backend. A task of its own moves the connection's frames until nobody needs it.
pub(in super::super) async fn connect(io: Io) -> Result<Client, Failure> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_ERRORS))
        .enable_push(false);
    let greeted = timeout(GREETING, builder.handshake::<_, Bytes>(io)).await;
    let (requests, connection) = greeted
        .map_err(|_| Failure::new(Outcome::NotConnected, "it did not greet in time"))?
        .map_err(|error| Failure::new(Outcome::NotConnected, error))?;
    let state = Arc::new(State::default());
    let driven = state.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to a backend ended");
        }
        driven.gone.store(true, Ordering::Relaxed);
    });
    Ok(Client { requests, state })
}

impl Client {
    /// Whether it can take another request at once.
    pub(in super::super) fn has_room(&self) -> bool {
        self.busy() < self.requests.current_max_send_streams()
    }

    /// Whether it has ended.
    pub(in super::super) fn is_gone(&self) -> bool {
        self.state.gone.load(Ordering::Relaxed)
    }

    /// Requests that are under way.
    pub(in super::super) fn busy(&self) -> usize {
        self.state.busy.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Busy {
        self.state.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.state.clone())
    }

    /// Sends a request and waits for the head of its response.
    pub(in super::super) async fn exchange(
        self,
        head: &Head<'_>,
        mut body: Body,
    ) -> Result<Response, Failure> {
        let unsent = |error: h2::Error| Failure::new(Outcome::Unsent, error);
        let busy = self.begin();
        let mut client = self.requests.ready().await.map_err(unsent)?;
        let empty = body.is_empty();
        let request = request(head, body.framing())?;
        let (mut response, stream) = client.send_request(request, empty).map_err(unsent)?;
        let mut judge = Responses::new(head.method.clone());
        if empty {
            let receiving = poll_fn(|cx| poll_response(&mut response, &mut judge, head.desk, cx));
            let received = receiving.await?;
            return finish(received, judge, None, busy);
        }
        let mut sending =
            Box::pin(async move { send(stream, &mut body, Reason::CANCEL, |_| {}).await });
        let mut sent = None;
        let received = poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(result) = sending.as_mut().poll(cx)
            {
                sent = Some(result);
            }
            if let Some(Err(Unsent::Source(error))) = &sent {
                // The request cannot be completed: nobody will answer it.
                return Poll::Ready(Err(Failure::new(Outcome::Lost, error)));
            }
            poll_response(&mut response, &mut judge, head.desk, cx)
        });
        let received = received.await?;
        let uplink = sent.is_none().then(|| {
            tokio::spawn(async move {
                // A backend that wants no more of the request may still respond.
                let _ = sending.await;
            })
        });
        finish(received, judge, uplink, busy)
    }
}

fn request(head: &Head<'_>, framing: Framing) -> Result<http::Request<()>, Failure> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(head.host)
        .path_and_query(head.target)
        .build()
        .map_err(|error| Failure::new(Outcome::Malformed, error))?;
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    match framing {
        Framing::Length(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        _ => drop(headers.remove(header::CONTENT_LENGTH)),
    }
    Ok(request)
}

fn poll_response(
    response: &mut ResponseFuture,
    judge: &mut Responses,
    desk: Option<&Desk>,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<http::Response<RecvStream>, Failure>> {
    while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
        let (head, ()) = interim.into_parts();
        if let Err(violation) = judge.judge(&head, false) {
            return Poll::Ready(Err(Failure::new(Outcome::Malformed, violation)));
        }
        if let Some(desk) = desk.filter(|_| head.status != StatusCode::CONTINUE) {
            desk.interim(head.status, head.headers);
        }
    }
    std::pin::Pin::new(response)
        .poll(cx)
        .map_err(|error| failed(&error))
}

fn finish(
    response: http::Response<RecvStream>,
    mut judge: Responses,
    uplink: Option<tokio::task::JoinHandle<()>>,
    busy: Busy,
) -> Result<Response, Failure> {
    let (head, stream) = response.into_parts();
    let framing = match judge.judge(&head, stream.is_end_stream()) {
        Ok(Next::Body(framing)) => framing,
        Ok(Next::Head | Next::Tunnel) => Framing::None,
        Err(violation) => return Err(Failure::new(Outcome::Malformed, violation)),
    };
    let body = match framing {
        Framing::None if stream.is_end_stream() => Body::Empty,
        // Trailers may follow also where there is no body.
        framing => Body::H2(Box::new(Incoming::response(stream, framing, uplink, busy))),
    };
    Ok(Response {
        headers: head.headers,
        body,
        ..Response::empty(head.status)
    })
}

/// What an error means for the question whether the backend has acted on the request.
fn failed(error: &h2::Error) -> Failure {
    let outcome = match error.reason() {
        Some(Reason::REFUSED_STREAM) => Outcome::Unsent,
        Some(Reason::PROTOCOL_ERROR) => Outcome::Malformed,
        // Streams above the last of a GOAWAY were not looked at.
        Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Outcome::Unsent,
        _ => Outcome::Lost,
    };
    Failure {
        refused: error.reason() == Some(Reason::REFUSED_STREAM),
        ..Failure::new(outcome, error)
    }
}
