//! The admin server: plain HTTP for operators.

pub mod dump;
pub mod metrics;
pub mod sync;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ambit_telemetry::admin::Query;
use ambit_telemetry::profile;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::engine::State;
use crate::push::connections::Connections;
use crate::source::Rescan;
use metrics::Metrics;

const HEADERS: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// What the admin server shows and does.
#[derive(Clone)]
pub struct Admin {
    /// What the control plane knows.
    pub state: Arc<State>,
    /// How far proxies are.
    pub connections: Arc<Connections>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// To the source.
    pub rescan: mpsc::Sender<Rescan>,
    /// Tells this process from an earlier one, in cursors; without `-`.
    pub instance: String,
    /// The effective settings, for `config_dump`.
    pub settings: Arc<serde_json::Value>,
    /// Turns true when proxies are served.
    pub serving: watch::Receiver<bool>,
}

type Answer = Response<Full<Bytes>>;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Everything: for operators of this machine.
    All,
    /// Readiness and metrics: for whom it may concern.
    Health,
}

/// Serves until `stopping`.
pub async fn serve(
    admin: Admin,
    asked: Asked,
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                tokio::spawn(connection(admin.clone(), asked, tcp));
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(admin: Admin, asked: Asked, tcp: TcpStream) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(asked, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(tcp), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

impl Admin {
    async fn answer(&self, asked: Asked, request: Request<Incoming>) -> Answer {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz/ready") => self.ready(),
            (&Method::GET, "/metrics") => {
                let rendered = metrics::render(self);
                text(StatusCode::OK, "text/plain; version=0.0.4", rendered)
            }
            _ if asked == Asked::Health => {
                let help = "GET /healthz/ready /metrics\n".to_owned();
                text(StatusCode::NOT_FOUND, "text/plain", help)
            }
            (&Method::GET, "/debug/config_dump") => json(StatusCode::OK, &dump::config(self)),
            (&Method::GET, "/debug/connections") => json(StatusCode::OK, &dump::connections(self)),
            (&Method::GET, "/debug/pprof/profile") => profile::cpu(&query).await,
            (&Method::GET, "/statuses") => {
                let statuses = match query.value("after") {
                    Some(after) => dump::statuses_after(self, after),
                    None => dump::statuses(self),
                };
                json(StatusCode::OK, &statuses)
            }
            (&Method::POST, "/sync") => self.sync(query.value("timeout")).await,
            (_, "/sync") => text(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "use POST /sync?timeout=SECONDS\n".to_owned(),
            ),
            _ => text(StatusCode::NOT_FOUND, "text/plain", HELP.to_owned()),
        }
    }

    fn ready(&self) -> Answer {
        let why = if *self.serving.borrow() {
            return text(StatusCode::OK, "text/plain", "ready\n".to_owned());
        } else if *self.state.loaded().borrow() {
            "there is no certificate authority yet\n"
        } else {
            "the source was not read yet\n"
        };
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            why.to_owned(),
        )
    }

    async fn sync(&self, timeout: Option<&str>) -> Answer {
        let timeout = match timeout.map(str::parse::<f64>) {
            None => sync::DEFAULT_TIMEOUT,
            Some(Ok(seconds)) if (0.0..=3600.0).contains(&seconds) => {
                Duration::from_secs_f64(seconds)
            }
            Some(_) => {
                let error = "timeout is a number of seconds, 0-3600\n".to_owned();
                return text(StatusCode::BAD_REQUEST, "text/plain", error);
            }
        };
        match sync::sync(self, timeout).await {
            Ok((outcome, report)) => json(outcome.status(), &report),
            Err(error) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{error}\n"),
            ),
        }
    }
}

const HELP: &str = "GET /healthz/ready /metrics /debug/config_dump /debug/connections /statuses?after=CURSOR \
    /debug/pprof/profile?seconds=30&hz=99, POST /sync?timeout=SECONDS\n";

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(body) {
        Ok(body) => text(status, "application/json", body + "\n"),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            format!("{error}\n"),
        ),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}
