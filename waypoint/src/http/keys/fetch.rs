//! Fetching one key set: from a service of the mesh, or from a URL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_http::balance::Wish;
use ambit_http::breaker::Kind;
use ambit_http::jwt::{Jwks, JwksUrl, check_address};
use ambit_http::model::KeySource;
use ambit_http::model::route::BackendRef;
use ambit_http::path;
use ambit_net::sys::Sockets;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::timeout;

use crate::http::attempt::{self, Outgoing};
use crate::http::body::{Body, Repeatable};
use crate::http::connections::Place;
use crate::http::h1::{self, Head};
use crate::http::message::Response;
use crate::io::Io;
use crate::session::Session;
use crate::upstream::TlsClient;

/// From the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a key set.
const MOST: usize = 256 * 1024;

pub(super) async fn fetch(session: &Arc<Session>, source: &KeySource) -> Result<Jwks, String> {
    let fetching = async {
        let response = match source {
            KeySource::Inline(_) => return Err("they are not fetched".to_owned()),
            KeySource::Service {
                backend,
                host,
                path,
            } => from_service(session, backend, host, path).await?,
            KeySource::Url(url) => from_url(url).await?,
        };
        // Redirects are not followed: they would lead past the checks of the address.
        if response.status != http::StatusCode::OK {
            return Err(format!("it answered with {}", response.status));
        }
        let read = response.body.read_ahead(MOST).await;
        let (_, whole) = read.map_err(|error| error.to_string())?;
        let whole = whole.ok_or_else(|| format!("they are longer than {MOST} bytes"))?;
        Jwks::parse(&whole).map_err(|error| error.to_string())
    };
    timeout(PATIENCE, fetching)
        .await
        .unwrap_or_else(|_| Err(format!("not within {PATIENCE:?}")))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::ACCEPT, json);
    headers
}

async fn from_service(
    session: &Arc<Session>,
    backend: &BackendRef,
    host: &str,
    path: &str,
) -> Result<Response, String> {
    let (service, port) = match backend {
        BackendRef::Service { service, port } => (service, *port),
        BackendRef::Invalid { reason } => return Err(reason.to_string()),
    };
    let shared = &session.shared;
    let snapshot = shared.snapshot();
    let chosen = shared
        .upstreams
        .pick(&snapshot, service, port, Kind::Request, &Wish::default())
        .map_err(|refusal| refusal.reason)?;
    let outgoing = Outgoing {
        method: Method::GET,
        path: path::canonical(path).map_err(|error| error.to_string())?,
        host: host.into(),
        headers: headers(),
        upgrade: None,
        grpc: false,
        client: None,
        desk: None,
    };
    let nothing = Repeatable::new(Body::Empty, 0);
    let sent = attempt::exchange(shared, None, &chosen, &outgoing, &nothing).await;
    sent.map_err(|failure| failure.reason)
}

async fn from_url(url: &str) -> Result<Response, String> {
    let url = JwksUrl::parse(url).map_err(|error| error.to_string())?;
    let address = resolve(&url).await?;
    let connected = Sockets::default().connect(address, None).await;
    let io = Io::Tcp(connected.map_err(|error| error.to_string())?);
    let io = match url.tls {
        true => TlsClient::of_machine(&url.host)?.connect(io).await?,
        false => io,
    };
    let host = match (url.tls, url.port) {
        (true, 443) | (false, 80) => url.host.clone(),
        (_, port) => format!("{}:{port}", url.host),
    };
    let head = Head {
        method: &Method::GET,
        target: &url.path,
        host: &host,
        headers: &headers(),
        upgrade: None,
        desk: None,
    };
    let sent = h1::exchange(h1::Connection::new(io), &head, Body::Empty, Place::none()).await;
    sent.map_err(|failure| failure.reason)
}

/// An address of the host that keys may be fetched from. One forbidden address is enough to fetch from none:
/// a name that leads to the machine itself now and then is no mistake.
async fn resolve(url: &JwksUrl) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host((&*url.host, url.port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    for address in &found {
        check_address(address.ip()).map_err(|error| error.to_string())?;
    }
    let first = found.first().copied();
    first.ok_or_else(|| format!("{} has no address", url.host))
}
