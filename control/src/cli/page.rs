//! What a proxy answers on a port of its own.

use std::net::SocketAddr;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The longest page that is read, in bytes: what a proxy knows of some hundred thousand pods.
pub(super) const LONGEST: usize = 512 << 20;

/// Reads the page at `path` of an address.
///
/// # Errors
/// The proxy cannot be reached, or [`ask`] fails.
pub(super) async fn page(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    ask(stream, &address.to_string(), path, LONGEST).await
}

/// Reads the page at `path`, over HTTP/1.1 on a connection of its own, to whom `host` names. A page is of at most
/// `longest` bytes.
///
/// # Errors
/// It is no HTTP that is answered, there is no such page, or it is too long.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    longest: usize,
) -> anyhow::Result<Bytes> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        bail!("it answers {}", answer.status());
    }
    let page = Limited::new(answer.into_body(), longest).collect().await;
    match page {
        Ok(page) => Ok(page.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            bail!("its answer is longer than {longest} bytes")
        }
        Err(error) => Err(anyhow!(error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What is read of somebody who answers with these bytes and hangs up.
    async fn asked(answer: &'static str) -> Result<Bytes, String> {
        let (near, mut far) = duplex(1024);
        tokio::spawn(async move {
            let mut head = [0; 1024];
            let read = far.read(&mut head).await.expect("asked");
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            assert!(head.starts_with("GET /page HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("host: a:1\r\n"), "{head}");
            far.write_all(answer.as_bytes()).await.expect("answered");
        });
        let asked = ask(near, "a:1", "/page", 8).await;
        asked.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_and_within_bounds() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let good = [
            "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678",
            "HTTP/1.1 200 OK\r\n\r\n12345678",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n123\r\n5\r\n45678\r\n0\r\n\r\n",
        ];
        for answer in good {
            assert_eq!(asked(answer).await.as_deref(), Ok(&b"12345678"[..]));
        }
        let bad = [
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                "404 Not Found",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789",
                "longer than 8 bytes",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n123456789", "longer than 8 bytes"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n123",
                "reading a body",
            ),
            (chunked, "reading a body"),
            ("SSH-2.0-server\r\n", "invalid HTTP version"),
            ("", "closed"),
        ];
        for (answer, expected) in bad {
            let said = asked(answer).await.expect_err(answer);
            assert!(said.contains(expected), "{answer:?}: {said}");
        }
    }
}
