//! h2c requests. The streams of one connection are separate workers that share it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use super::engine::{self, Connection, Dial};
use super::failure::{Failure, Stage};
use super::http1::method;
use super::options::Http;
use super::report::Report;
use super::target::{self, Resolved};
use crate::programs::pattern;

pub(super) type Sender = SendRequest<Full<Bytes>>;

pub(super) fn run(arguments: &Http) -> anyhow::Result<Report> {
    let resolved = target::resolve(
        arguments.url.address(),
        arguments.family,
        arguments.issue.timeout,
    )?;
    let connections = arguments.issue.connections as usize;
    let workers = connections * arguments.streams as usize;
    let dialer = || Dialer {
        resolved: resolved.clone(),
        request: request(arguments),
        shared: match arguments.issue.new_connections {
            true => Vec::new(),
            false => (0..connections).map(|_| Mutex::new(None)).collect(),
        },
    };
    let (elapsed, totals) = engine::run(&arguments.issue, workers, dialer)?;
    let report = Report::of_requests("h2c", arguments.url.uri().to_string(), elapsed, totals);
    Ok(Report {
        connections: Some(arguments.issue.connections),
        ..report
    })
}

fn request(arguments: &Http) -> Request<Full<Bytes>> {
    let mut body = Vec::new();
    while (body.len() as u64) < arguments.body_size {
        let sent = body.len() as u64;
        body.extend_from_slice(&pattern::piece(sent, arguments.body_size - sent));
    }
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method(arguments);
    *request.uri_mut() = arguments.url.uri().clone();
    request
        .headers_mut()
        .extend(arguments.headers.iter().cloned());
    request
}

struct Dialer {
    resolved: Resolved,
    request: Request<Full<Bytes>>,
    /// One place for each connection that streams share; empty when every request has its own.
    shared: Vec<Mutex<Option<Sender>>>,
}

impl Dial for Dialer {
    type Connection = Http2;

    async fn dial(&self, worker: usize) -> Result<Http2, Failure> {
        let request = self.request.clone();
        if self.shared.is_empty() {
            return Ok(Http2 {
                sender: connect(&self.resolved).await?,
                request,
                resolved: self.resolved.clone(),
            });
        }
        let mut place = self.shared[worker % self.shared.len()].lock().await;
        if let Some(sender) = place.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Http2 {
                sender: sender.clone(),
                request,
                resolved: self.resolved.clone(),
            });
        }
        let sender = connect(&self.resolved).await?;
        *place = Some(sender.clone());
        Ok(Http2 {
            sender,
            request,
            resolved: self.resolved.clone(),
        })
    }
}

/// Opens an HTTP/2 connection.
pub(super) async fn connect(resolved: &Resolved) -> Result<Sender, Failure> {
    let stream = resolved.connect().await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::caused_by(Stage::Handshake, &error))?;
    // Its errors reach the requests.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

struct Http2 {
    sender: Sender,
    request: Request<Full<Bytes>>,
    resolved: Resolved,
}

impl Http2 {
    /// Sends the request. One that a connection takes no more, as its server has said that it ends, was not sent: it
    /// goes over a new connection, as it would with any client.
    async fn send(&mut self) -> Result<Response<Incoming>, Failure> {
        let failed = |error: hyper::Error| Failure::caused_by(Stage::Send, &error);
        let request = match self.sender.try_send_request(self.request.clone()).await {
            Ok(response) => return Ok(response),
            Err(mut error) => match error.take_message() {
                Some(request) => request,
                None => return Err(failed(error.into_error())),
            },
        };
        self.sender = connect(&self.resolved).await?;
        self.sender.send_request(request).await.map_err(failed)
    }
}

impl Connection for Http2 {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let failed = |stage| move |error: hyper::Error| Failure::caused_by(stage, &error);
        let (head, mut body) = self.send().await?.into_parts();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(failed(Stage::Receive))?;
            received += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        if head.status.is_success() {
            Ok(received)
        } else {
            Err(Failure::status(head.status))
        }
    }

    fn reusable(&self) -> bool {
        !self.sender.is_closed()
    }

    async fn close(self) {}
}
