//! Requests on an HTTP/2 connection to a backend.

use ambit_http::h1::{Framing, Next};
use ambit_http::h2rules::Responses;
use ambit_http::retry::Outcome;
use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Uri, Version, header};

use super::{CONNECTION_WINDOW, Incoming, MAX_HEADERS, STREAM_WINDOW, Unsent, send};
use crate::http::body::Body;
use crate::http::h1::Failure;
use crate::http::message::Response;
use crate::io::Io;

/// A connection that takes requests side by side.
#[derive(Clone)]
pub(in super::super) struct Client(SendRequest<Bytes>);

/// Greets a backend. A task of its own moves the connection's frames until nobody needs it.
pub(in super::super) async fn connect(io: Io) -> Result<Client, Failure> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .enable_push(false);
    let (client, connection) = builder
        .handshake::<_, Bytes>(io)
        .await
        .map_err(|error| Failure::new(Outcome::NotConnected, error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an HTTP/2 connection to a backend ended");
        }
    });
    Ok(Client(client))
}

impl Client {
    /// Sends a request and waits for the head of its response.
    pub(in super::super) async fn exchange(
        self,
        method: &Method,
        target: &str,
        host: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let unsent = |error: h2::Error| Failure::new(Outcome::Unsent, error);
        let mut client = self.0.ready().await.map_err(unsent)?;
        let uri = Uri::builder()
            .scheme("http")
            .authority(host)
            .path_and_query(target)
            .build()
            .map_err(|error| Failure::new(Outcome::Malformed, error))?;
        let mut request = http::Request::new(());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        request.headers_mut().remove(header::HOST);
        if let Framing::Length(length) = body.framing() {
            request
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
        }
        let empty = body.is_empty();
        let (response, stream) = client.send_request(request, empty).map_err(unsent)?;
        if empty {
            let response = response.await.map_err(|error| failed(&error))?;
            return finish(response, method, None);
        }
        let mut sending = Box::pin(send(stream, body));
        tokio::pin!(response);
        tokio::select! {
            biased;
            response = &mut response => {
                let response = response.map_err(|error| failed(&error))?;
                finish(response, method, Some(sending))
            }
            sent = &mut sending => {
                if let Err(Unsent::Source(reason)) = sent {
                    let failure = Failure::new(Outcome::Lost, reason);
                    return Err(Failure { client: true, ..failure });
                }
                let response = response.await.map_err(|error| failed(&error))?;
                finish(response, method, None)
            }
        }
    }
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Result<(), Unsent>> + Send>>;

fn finish(
    response: http::Response<RecvStream>,
    to: &Method,
    sending: Option<Sending>,
) -> Result<Response, Failure> {
    let (head, stream) = response.into_parts();
    // Interim responses are passed over by the crate; what comes here is final.
    let judged = Responses::new(to.clone()).judge(&head, stream.is_end_stream());
    let framing = match judged {
        Ok(Next::Body(framing)) => framing,
        Ok(Next::Head | Next::Tunnel) => Framing::None,
        Err(violation) => return Err(Failure::new(Outcome::Malformed, violation)),
    };
    let body = match framing {
        Framing::None => Body::Empty,
        framing => {
            let incoming = Incoming::new(stream, framing);
            Body::H2(Box::new(match sending {
                Some(sending) => incoming.with_uplink(sending.boxed()),
                None => incoming,
            }))
        }
    };
    Ok(Response {
        status: head.status,
        headers: head.headers,
        body,
        upgraded: None,
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
    Failure::new(outcome, error)
}
