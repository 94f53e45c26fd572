//! A small HTTP/1.1 server for operators and probes: routes, and limits on everything a client
//! controls.

mod query;
mod routes;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use query::Query;
pub use routes::{logging, metrics, ready};

/// Connections served at a time; more wait in the listen queue.
const CONNECTIONS: usize = 64;
/// Time for a request's headers, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a handler.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Box<dyn Fn(Query) -> Answering + Send + Sync>;

/// Paths and what answers them. Request bodies are not read.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
}

struct Route {
    method: Method,
    path: &'static str,
    about: &'static str,
    handler: Handler,
}

impl Router {
    /// Adds a route; `about` is shown on the index page at `/`.
    #[must_use]
    pub fn route<F>(
        mut self,
        method: Method,
        path: &'static str,
        about: &'static str,
        handler: impl Fn(Query) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.routes.push(Route {
            method,
            path,
            about,
            handler: Box::new(move |query| Box::pin(handler(query))),
        });
        self
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let handler = match self.find(request.method(), request.uri().path()) {
            Ok(handler) => handler,
            Err(answer) => return *answer,
        };
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let query = query.accepting(request.headers());
        match tokio::time::timeout(HANDLER_TIMEOUT, handler(query)).await {
            Ok(answer) => answer,
            Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "no answer in time\n"),
        }
    }

    fn find(&self, method: &Method, path: &str) -> Result<&Handler, Box<Answer>> {
        let reading = method == Method::GET || method == Method::HEAD;
        if path == "/" && reading {
            return Err(text(StatusCode::OK, self.index()).into());
        }
        let at_path = || self.routes.iter().filter(|route| route.path == path);
        let serves =
            |route: &Route| route.method == *method || (route.method == Method::GET && reading);
        match at_path().find(|route| serves(route)) {
            Some(route) => Ok(&route.handler),
            None if at_path().next().is_some() => {
                let body = "wrong method; / lists them\n";
                Err(text(StatusCode::METHOD_NOT_ALLOWED, body).into())
            }
            None => Err(text(StatusCode::NOT_FOUND, "no such page; / lists them\n").into()),
        }
    }

    fn index(&self) -> String {
        self.routes
            .iter()
            .map(|route| {
                format!(
                    "{:4} {}  {}\n",
                    route.method.as_str(),
                    route.path,
                    route.about
                )
            })
            .collect()
    }
}

/// A plain-text answer.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec_pretty(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot write this as JSON: {error}\n"),
        ),
    }
}

/// An answer of any content type.
#[must_use]
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Binds the addresses. One of several may fail, as `[::1]` does where IPv6 is off.
///
/// # Errors
/// None of them can be bound; the error names the address.
pub async fn bind(addrs: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut failed = None;
    for addr in addrs {
        match TcpListener::bind(addr).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                failed = Some(io::Error::new(
                    error.kind(),
                    format!("cannot listen on {addr}: {error}"),
                ));
            }
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Serves `router` on a listener for as long as the future is polled.
pub async fn serve(listener: TcpListener, router: Arc<Router>) -> Infallible {
    let limit = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = limit.clone().acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to be closed.
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| {
                let router = router.clone();
                async move { Ok::<_, Infallible>(router.answer(&request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection");
            }
        });
    }
}
