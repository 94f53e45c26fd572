//! One connection to the control plane, from the address to a gRPC channel.
//!
//! A channel is bound to the connection it was made with and never redials by itself: the owner
//! sees every loss, waits as it sees fit, and connects again with the files of that moment.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::Service;

use super::machine::Proof;
use super::{Address, Remote, TokenError, token, trust};

/// A silent peer is asked for a sign of life after this time,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// and given up after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("ambit/", env!("CARGO_PKG_VERSION"));

/// Why there is no connection to a control-plane endpoint.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{address}: {stage}: {cause}")]
pub struct ConnectError {
    address: Address,
    stage: Stage,
    cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Stage {
    #[error("trust")]
    Trust,
    #[error("connect")]
    Dial,
    #[error("TLS handshake")]
    Tls,
    #[error("HTTP/2")]
    Http2,
    #[error("authorization")]
    Token,
}

/// A connection and the metadata that every call on it carries.
pub(crate) struct Connection {
    /// The channel; its calls fail once the connection is lost.
    pub(crate) channel: Channel,
    remote: Arc<Remote>,
    /// What a machine shows on it.
    proof: Option<Proof>,
}

impl Connection {
    /// A request with token, cluster and further metadata as they are now.
    pub(crate) async fn request<T>(&self, message: T) -> Result<tonic::Request<T>, ConnectError> {
        let is_certified = matches!(self.proof, Some(Proof::Certificate(_)));
        let metadata = token::metadata(&self.remote, is_certified).await;
        let metadata: MetadataMap = metadata.map_err(|cause: TokenError| {
            self.proves_nothing();
            ConnectError {
                address: self.remote.address.clone(),
                stage: Stage::Token,
                cause: cause.to_string(),
            }
        })?;
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = metadata;
        Ok(request)
    }

    /// A gRPC status as an operator reads it. Where nobody else brings tokens, with what helps when the one there is refused; what is
    /// refused is not what is shown next, if there is something else.
    pub(crate) fn refusal(&self, status: &Status) -> String {
        let text = match std::error::Error::source(status) {
            Some(cause) => chain(cause),
            None => status.message().to_owned(),
        };
        let text = format!("{:?}: {text}", status.code());
        match &self.remote.machine {
            Some(machine) if status.code() == Code::Unauthenticated => {
                self.proves_nothing();
                let advice = machine.advice(self.remote.token.as_deref());
                format!("{text}; {advice}")
            }
            _ => text,
        }
    }

    fn proves_nothing(&self) {
        if let (Some(machine), Some(proof)) = (&self.remote.machine, self.proof) {
            machine.refused(proof);
        }
    }
}

/// Connects: resolves, dials, verifies the server.
pub(crate) async fn connect(remote: &Arc<Remote>) -> Result<Connection, ConnectError> {
    let failed = |stage, cause: String| ConnectError {
        address: remote.address.clone(),
        stage,
        cause,
    };
    let limit = remote.connect_timeout;
    let (proof, certificate) = match &remote.machine {
        None => (None, None),
        Some(machine) => {
            let shown = machine.shown(remote.token.as_deref()).await;
            let shown = shown.map_err(|nothing| failed(Stage::Token, nothing.to_string()))?;
            (Some(shown.proof), shown.certificate)
        }
    };
    let io = tokio::time::timeout(limit, secured(remote, certificate))
        .await
        .map_err(|_| failed(Stage::Dial, format!("no answer within {limit:?}")))?
        .map_err(|(stage, cause)| failed(stage, cause))?;
    let channel = Endpoint::from(remote.address.uri().clone())
        .user_agent(USER_AGENT)
        .expect("the user agent is a valid header value")
        .connect_timeout(limit)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(Established(Some(io)))
        .await
        .map_err(|e| failed(Stage::Http2, chain(&e)))?;
    Ok(Connection {
        channel,
        remote: Arc::clone(remote),
        proof,
    })
}

type Io = TokioIo<Box<dyn Stream>>;

/// Plain or encrypted bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial(remote: &Remote) -> Result<TcpStream, String> {
    if let Some(machine) = &remote.machine {
        let (host, port) = remote.address.place();
        let dialled = machine.dial(host, port).await;
        return dialled.map_err(|error| chain(&error));
    }
    let mut dial = HttpConnector::new();
    dial.enforce_http(false);
    dial.set_nodelay(true);
    dial.set_connect_timeout(Some(remote.connect_timeout));
    let dialled = dial.call(remote.address.uri().clone()).await;
    Ok(dialled.map_err(|error| chain(&error))?.into_inner())
}

async fn secured(remote: &Remote, shown: Option<Arc<CertifiedKey>>) -> Result<Io, (Stage, String)> {
    let tcp = dial(remote).await.map_err(|cause| (Stage::Dial, cause))?;
    let Some(name) = remote.address.server_name() else {
        return Ok(TokioIo::new(Box::new(tcp)));
    };
    let machine = remote.machine.as_ref();
    let others = machine.map(|machine| machine.roots()).unwrap_or_default();
    let config = trust::client_config(&remote.roots, others, shown)
        .await
        .map_err(|e| (Stage::Trust, e.to_string()))?;
    let tls = TlsConnector::from(config)
        .connect(name.clone(), tcp)
        .await
        .map_err(|e| (Stage::Tls, e.to_string()))?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err((
            Stage::Tls,
            "the server does not offer HTTP/2 (ALPN h2)".to_owned(),
        ));
    }
    Ok(TokioIo::new(Box::new(tls)))
}

/// Gives the one connection that is there; a lost one stays lost.
struct Established(Option<Io>);

impl Service<Uri> for Established {
    type Response = Io;
    type Error = io::Error;
    type Future = Ready<io::Result<Io>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let lost = || io::Error::new(io::ErrorKind::NotConnected, "the connection was lost");
        ready(self.0.take().ok_or_else(lost))
    }
}

/// An error with what caused it: the outermost text alone says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

/// Whether a status was made on this side, because the connection failed, and not by the peer.
pub(crate) fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
