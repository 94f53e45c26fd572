//! One HTTP/1.1 request and its answer, over a connection of its own.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends `request` over `stream`; an answer longer than `longest` is an error.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(words)?;
    // It ends with the sender, and says what is wrong there.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(words)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), longest).collect().await;
    Ok((status, body.map_err(words)?.to_bytes()))
}

pub(super) fn words(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> String {
    error.into().to_string()
}
