//! What a proxy answers on a port of its own.

use std::net::SocketAddr;

use anyhow::bail;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Reads the page at `path`.
///
/// # Errors
/// The proxy cannot be reached, or has no such page.
pub(super) async fn page(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        bail!("it answers {}", answer.status());
    }
    Ok(answer.into_body().collect().await?.to_bytes())
}
