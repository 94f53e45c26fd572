//! A request as it is sent, byte by byte over HTTP/1.1 or over h2c, and what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::model::Request;

const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    /// 0 when HTTP/2 ended without an answer.
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    /// What the server received; `None` when the proxy answered.
    pub(super) received: Option<Value>,
}

impl Request {
    /// Sends it through the pod that carries for `socket`. Over h2c only what a client of HTTP/2 can say.
    pub(super) async fn send(&self, socket: &Path, to: [SocketAddr; 2]) -> anyhow::Result<Outcome> {
        let [h1, h2] = to;
        let sent = async {
            match self.for_h2() {
                Some(request) => over_h2(connect(socket, h2).await?, request).await,
                None => over_h1(connect(socket, h1).await?, &self.bytes()).await,
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, sent).await;
        outcome.context("no answer").flatten()
    }

    /// Its bytes in HTTP/1.1.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} ", self.method).into_bytes();
        bytes.extend_from_slice(&self.target);
        let mut more = format!(" HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        for (name, value) in &self.headers {
            more += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = self.body {
            more += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        } else {
            more += "\r\n";
        }
        bytes.extend_from_slice(more.as_bytes());
        bytes
    }

    /// The same for HTTP/2, if it is to be sent so and can be.
    fn for_h2(&self) -> Option<http::Request<Full<Bytes>>> {
        if !self.h2 {
            return None;
        }
        let target = std::str::from_utf8(&self.target).ok()?;
        // The parser of URIs takes a fragment away.
        if target.contains('#') {
            return None;
        }
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("http://{}{target}", self.host));
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let body = self.body.unwrap_or_default();
        request.body(Full::from(body)).ok()
    }
}

async fn connect(socket: &Path, to: SocketAddr) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{to}\n").as_bytes()).await?;
    Ok(stream)
}

async fn over_h1(mut stream: UnixStream, request: &[u8]) -> anyhow::Result<Outcome> {
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    // A peer that refuses may reset the connection after its answer.
    let ended = stream.read_to_end(&mut bytes).await;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(&bytes)? else {
        bail!(
            "no answer: {ended:?} after {:?}",
            String::from_utf8_lossy(&bytes)
        )
    };
    let mut headers = http::HeaderMap::new();
    for field in head.headers.iter() {
        headers.append(
            http::HeaderName::try_from(field.name)?,
            http::HeaderValue::from_bytes(field.value)?,
        );
    }
    let status = head.code.context("no status")?;
    Ok(Outcome::of(status, &headers, &bytes[length..]))
}

async fn over_h2(
    stream: UnixStream,
    request: http::Request<Full<Bytes>>,
) -> anyhow::Result<Outcome> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let outcome = match sender.send_request(request).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Outcome::of(head.status.as_u16(), &head.headers, &body)
        }
        // The stream was reset, or the connection ended.
        Err(_) => Outcome::default(),
    };
    connection.abort();
    Ok(outcome)
}

impl Outcome {
    fn of(status: u16, headers: &http::HeaderMap, body: &[u8]) -> Self {
        let text = |name| {
            let values = headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            values.collect::<Vec<_>>().join(",")
        };
        let received: Option<Value> = serde_json::from_slice(body).ok();
        Self {
            status,
            headers: headers
                .keys()
                .map(|name| (name.to_string(), text(name)))
                .collect(),
            received: received.filter(|it| it["hostname"].is_string()),
        }
    }
}
