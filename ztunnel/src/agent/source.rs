//! Where the agent learns of pods and namespaces.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::exchange::{exchange, words};
use super::pod::{Labels, Object, Pod};

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer: the pods of a node are some hundreds, namespaces some thousands.
const LONGEST: usize = 64 << 20;

/// Lists what there is now, and hears what became of it. A Kubernetes API server can be one, so can be a folder.
pub trait Source: Send + Sync + 'static {
    /// The pods of this node.
    fn pods(&self) -> impl Future<Output = Result<Vec<Pod>, SourceError>> + Send;

    /// All namespaces, with their labels.
    fn namespaces(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<String, Labels>, SourceError>> + Send;

    /// Returns when something else may be listed than at the last call. Never, where changes are not told: pods then join
    /// when they start and leave when they end.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Whether a pod is captured is to be seen where users look. Whether that is done.
    fn mark(&self, _pod: &Pod, _captured: bool) -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }

    /// A pod that should be in the mesh is not, for this reason.
    fn complain(&self, _pod: &Pod, _reason: &str) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Whether the agent ends because its installation does; `None` when that cannot be learnt now.
    fn uninstalled(&self) -> impl Future<Output = Option<bool>> + Send {
        std::future::ready(Some(false))
    }
}

/// A source that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot list {what}: {reason}")]
pub struct SourceError {
    what: String,
    reason: String,
}

impl SourceError {
    pub(super) fn new(what: &str, reason: impl ToString) -> Self {
        Self {
            what: what.to_owned(),
            reason: reason.to_string(),
        }
    }
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
        let request = Request::get(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .body(Full::default())
            .map_err(words)?;
        let (status, body) = exchange(stream, request, LONGEST).await?;
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        let list: List = serde_json::from_slice(&body).map_err(words)?;
        Ok(list.items)
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

fn escape(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).into(),
        other => format!("%{other:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request; gives its first line and what the source made of it.
    async fn answered(status: &str, body: &str) -> (String, Result<Vec<Pod>, String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let source = HttpSource::new(&format!("http://{address}/"), "node 1").expect("a URL");
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.expect("asked");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            let text = String::from_utf8_lossy(&asked[..length]);
            text.lines().next().unwrap_or_default().to_owned()
        };
        let (line, pods) = tokio::join!(serve, source.pods());
        let place = format!("cannot list http://{address}/v1/pods?node=node%201: ");
        let pods = pods.map_err(|error| error.to_string().replace(&place, ""));
        (line, pods)
    }

    #[tokio::test]
    async fn pods_are_listed_over_http() {
        let list = r#"{"kind": "PodList", "items": [
            {"metadata": {"name": "a", "namespace": "b", "uid": "u"}, "spec": {"serviceAccountName": "s"}}]}"#;
        let (line, pods) = answered("200 OK", list).await;
        assert_eq!(line, "GET /v1/pods?node=node%201 HTTP/1.1");
        let pods = pods.expect("listed");
        assert_eq!(
            (pods[0].uid.as_str(), pods[0].service_account.as_str()),
            ("u", "s")
        );
        for (status, body, reason) in [
            (
                "503 Service Unavailable",
                "",
                "it answered 503 Service Unavailable",
            ),
            ("200 OK", "{}", "missing field `items` at line 1 column 2"),
        ] {
            assert_eq!(answered(status, body).await.1, Err(reason.to_owned()));
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let source = HttpSource::new(&format!("http://{address}"), "n").expect("a URL");
        let error = source.namespaces().await.expect_err("closed").to_string();
        assert!(
            error.starts_with(&format!("cannot list http://{address}/v1/namespaces: ")),
            "{error}"
        );
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn only_plain_http_without_path_is_a_source() {
        for url in ["https://a", "a:80", "http://a/b", "", "unix:/run/a"] {
            assert!(HttpSource::new(url, "n").is_err(), "{url:?}");
        }
        let source = HttpSource::new("http://[::1]:8080", "n").expect("a URL");
        assert_eq!((source.host.as_str(), source.port), ("::1", 8080));
    }
}
