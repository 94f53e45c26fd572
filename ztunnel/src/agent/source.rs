//! Where the agent learns of pods and namespaces.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::pod::{Labels, Object, Pod};

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer: the pods of a node are some hundreds, namespaces some thousands.
const LONGEST: usize = 64 << 20;

/// Lists what there is now. A Kubernetes API server can be one, so can be a folder.
pub trait Source: Send + Sync + 'static {
    /// The pods of this node.
    fn pods(&self) -> impl Future<Output = Result<Vec<Pod>, SourceError>> + Send;

    /// All namespaces, with their labels.
    fn namespaces(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<String, Labels>, SourceError>> + Send;
}

/// A source that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot list {what}: {reason}")]
pub struct SourceError {
    what: String,
    reason: String,
}

/// The control plane's admin address.
#[derive(Debug, Clone)]
pub struct HttpSource {
    host: String,
    port: u16,
    node: String,
}

impl HttpSource {
    /// Lists from `url` for `node`.
    ///
    /// # Errors
    /// When `url` is not `http://HOST[:PORT]`.
    pub fn new(url: &str, node: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError {
            what: "pods and namespaces".into(),
            reason: format!("the source URL has to be http://HOST[:PORT], not {url:?}"),
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            node: node.to_owned(),
        })
    }

    async fn list(&self, path: &str) -> Result<Vec<Object>, SourceError> {
        let answer = tokio::time::timeout(PATIENCE, self.fetch(path)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        answer.map_err(|reason| SourceError {
            what: format!("http://{}:{}{path}", self.host, self.port),
            reason,
        })
    }

    async fn fetch(&self, path: &str) -> Result<Vec<Object>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(words)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(words)?;
        let exchange = async {
            let request = Request::get(path)
                .header(header::HOST, format!("{}:{}", self.host, self.port))
                .body(Empty::<Bytes>::new())
                .map_err(words)?;
            let response = sender.send_request(request).await.map_err(words)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST);
            let body = body.collect().await.map_err(words)?.to_bytes();
            if status != StatusCode::OK {
                return Err(format!("it answered {status}"));
            }
            let list: List = serde_json::from_slice(&body).map_err(words)?;
            Ok(list.items)
        };
        // The connection lives as long as the exchange.
        tokio::select! {
            biased;
            done = exchange => done,
            ended = connection => {
                Err(ended.err().map_or_else(|| "the connection ended".to_owned(), words))
            }
        }
    }
}

impl Source for HttpSource {
    async fn pods(&self) -> Result<Vec<Pod>, SourceError> {
        let node: String = self.node.bytes().map(escape).collect();
        let items = self.list(&format!("/v1/pods?node={node}")).await?;
        Ok(items.into_iter().map(Object::into_pod).collect())
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>, SourceError> {
        let items = self.list("/v1/namespaces").await?;
        Ok(items.into_iter().map(Object::into_namespace).collect())
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Object>,
}

fn words(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> String {
    error.into().to_string()
}

fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).into(),
        other => format!("%{other:02X}"),
    }
}
