//! WebSocket: answers the handshake and echoes messages; the text `!about` is answered with what the handshake carried.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, protocol::Role};

use super::http::{Connection, ResponseBody, whole};
use super::received;
use super::stats::Open;
use crate::programs::websocket::accept_key;

/// Whether the request asks for WebSocket.
pub(super) fn is_handshake(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers 101 and echoes on the upgraded connection.
pub(super) fn upgrade(
    connection: &Connection,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return whole(
            StatusCode::BAD_REQUEST,
            "text/plain",
            "sec-websocket-key is missing\n",
        );
    };
    let accept =
        HeaderValue::from_str(&accept_key(key.as_bytes())).expect("base64 is a valid header value");
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let about =
        received::about_request(&connection.process, connection.ends, &parts, None).to_string();
    let open = Open::new(connection.process.clone(), "websocket");
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => echo(TokioIo::new(upgraded), about).await,
            Err(error) => tracing::debug!("the upgrade did not happen: {error}"),
        }
        drop(open);
    });
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn echo(io: TokioIo<hyper::upgrade::Upgraded>, about: String) {
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    if let Err(error) = echo_messages(&mut socket, about).await {
        tracing::debug!("websocket ended: {error}");
    }
}

async fn echo_messages(
    socket: &mut WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    about: String,
) -> Result<(), Error> {
    // Pings and the close handshake are answered by the codec while we read.
    while let Some(message) = socket.next().await {
        let answer = match message? {
            Message::Text(text) if text.as_str() == "!about" => Message::text(about.clone()),
            message @ (Message::Text(_) | Message::Binary(_)) => message,
            _ => continue,
        };
        socket.send(answer).await?;
    }
    Ok(())
}
