//! Plain HTTP requests to the mesh's own endpoints.

use std::net::SocketAddr;

use ambit_net::sys::{Netns, Sockets};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

/// An answer's status and body.
pub(super) type Answer = (u16, Bytes);

/// Asks `address` in `netns` (the lab's own when absent).
///
/// # Errors
/// What went wrong, in words.
pub(super) async fn ask(
    netns: Option<&Netns>,
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<Answer, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("{method} http://{address}{path}: {error}");
    let sockets = Sockets {
        netns: netns.cloned(),
        mark: None,
    };
    let stream = sockets
        .connect(address, None)
        .await
        .map_err(|error| failed(&error))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header("host", address.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| failed(&error))?
        .to_bytes();
    driver.abort();
    Ok((status, body))
}
