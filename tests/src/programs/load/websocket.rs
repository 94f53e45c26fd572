//! WebSocket ping-pong: each request is one binary message and its echo.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::Role};

use super::engine::{self, Connection, Dial};
use super::failure::{Failure, Stage};
use super::options::Websocket;
use super::report::Report;
use super::target::{self, HttpTarget, Resolved};
use crate::programs::pattern;
use crate::programs::websocket::{accept_key, random_key};

pub(super) fn run(arguments: &Websocket) -> anyhow::Result<Report> {
    let resolved = target::resolve(
        arguments.url.address(),
        arguments.family,
        arguments.issue.timeout,
    )?;
    let connections = arguments.issue.connections;
    let dialer = || Dialer {
        resolved: resolved.clone(),
        url: arguments.url.clone(),
        message: Message::Binary(pattern::piece(0, arguments.size)),
    };
    let (elapsed, totals) = engine::run(&arguments.issue, connections as usize, dialer)?;
    let report = Report::of_requests(
        "websocket",
        arguments.url.uri().to_string(),
        elapsed,
        totals,
    );
    Ok(Report {
        connections: Some(connections),
        ..report
    })
}

struct Dialer {
    resolved: Resolved,
    url: HttpTarget,
    message: Message,
}

impl Dial for Dialer {
    type Connection = PingPong;

    async fn dial(&self, _: usize) -> Result<PingPong, Failure> {
        let failed = |error: hyper::Error| Failure::caused_by(Stage::Handshake, &error);
        let stream = TokioIo::new(self.resolved.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(failed)?;
        // Its errors reach the request.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        let key = random_key();
        let response = sender
            .send_request(self.handshake(&key)?)
            .await
            .map_err(failed)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::status(response.status()));
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.map(HeaderValue::as_bytes) != Some(accept_key(key.as_bytes()).as_bytes()) {
            return Err(Failure::malformed(
                "sec-websocket-accept does not answer our key",
            ));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        Ok(PingPong {
            socket,
            message: self.message.clone(),
        })
    }
}

impl Dialer {
    fn handshake(&self, key: &str) -> Result<Request<Empty<&'static [u8]>>, Failure> {
        Request::get(self.url.path_and_query())
            .header(header::HOST, self.url.authority())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key)
            .body(Empty::new())
            .map_err(|error| Failure::malformed(error.to_string()))
    }
}

struct PingPong {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    message: Message,
}

impl Connection for PingPong {
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let failed = |stage| move |error: tungstenite::Error| Failure::caused_by(stage, &error);
        self.socket
            .send(self.message.clone())
            .await
            .map_err(failed(Stage::Send))?;
        match self.socket.next().await {
            Some(Ok(answer)) if answer == self.message => Ok(answer.len() as u64),
            Some(Ok(_)) => Err(Failure::corrupted("the echo differs from the message")),
            Some(Err(error)) => Err(failed(Stage::Receive)(error)),
            None => Err(Failure::closed_early(Stage::Receive)),
        }
    }

    async fn close(mut self) {
        // The close handshake; the messages have been answered already, so its outcome does not matter.
        if self.socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }
}
