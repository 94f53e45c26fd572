//! Where the agent learns of pods and namespaces.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use k8s_openapi::api::core::v1 as core;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpStream;

use super::exchange::{exchange, words};
use super::failing::Complaint;
use super::pod::{Labels, MARK, Mark, Pod};

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where a change is waited for: a source answers within 20 seconds, whether there is one or not.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// After a failure to wait for a change.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest answer: the pods of a node are some hundreds, namespaces some thousands.
const LONGEST: usize = 64 << 20;

/// Lists what there is now, and hears what became of it. A Kubernetes API server is one.
pub trait Source: Send + Sync + 'static {
    /// The pods of this node.
    fn pods(&self) -> impl Future<Output = Result<Vec<Pod>, SourceError>> + Send;

    /// All namespaces, with their labels.
    fn namespaces(
        &self,
    ) -> impl Future<Output = Result<BTreeMap<String, Labels>, SourceError>> + Send;

    /// Returns when something else may be listed than at the last call; at the first call at once.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Whether a pod is captured is to be seen by users and by who calls it. Whether that is done; it takes some seconds
    /// at most.
    fn mark(&self, pod: &Pod, mark: Mark) -> impl Future<Output = bool> + Send;

    /// Users are to see what is wrong with a pod, and why.
    fn complain(
        &self,
        _pod: &Pod,
        _complaint: Complaint,
        _why: &str,
    ) -> impl Future<Output = ()> + Send {
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

/// What stands for an API server where there is none, as a lab does. It speaks plain HTTP:
///
/// ```text
/// GET   /v1/pods?node=NODE                     the pods of a node, a PodList
/// GET   /v1/namespaces                         a NamespaceList
/// GET   /v1/changes?node=NODE&after=VERSION    {"version": VERSION} of these lists, once it is not the one that was given,
///                                              or 20 seconds later; without `after` at once
/// PATCH /v1/pods/NAMESPACE/NAME                a merge patch of the annotation `ambient.istio.io/redirection`, which names
///                                              the pod's UID; 404 or 409 when there is no such pod (any more)
/// ```
#[derive(Debug)]
pub struct HttpSource {
    host: String,
    port: u16,
    node: String,
    /// The version that was heard of last.
    version: Mutex<Option<String>>,
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
            node: node.bytes().map(escape).collect(),
            version: Mutex::default(),
        })
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, SourceError> {
        let listed = self.get::<List<T>>(path, PATIENCE).await;
        listed.map(|list| list.items).map_err(|reason| SourceError {
            what: format!("http://{}:{}{path}", self.host, self.port),
            reason,
        })
    }

    /// The version of the lists once it is not the one that was heard of last, or after some time.
    async fn wait(&self, last: Option<&String>) -> Result<String, String> {
        let after = last.map_or_else(String::new, |last| {
            format!("&after={}", last.bytes().map(escape).collect::<String>())
        });
        let path = format!("/v1/changes?node={}{after}", self.node);
        let changes: Changes = self.get(&path, LONG_PATIENCE).await?;
        Ok(changes.version)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, patience: Duration) -> Result<T, String> {
        match self.ask(Method::GET, path, Bytes::new(), patience).await? {
            (StatusCode::OK, body) => serde_json::from_slice(&body).map_err(words),
            (status, _) => Err(format!("it answered {status}")),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let answered = tokio::time::timeout(patience, self.send(method, path, body)).await;
        answered.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(words)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .body(Full::new(body))
            .map_err(words)?;
        exchange(stream, request, LONGEST).await
    }
}

impl Source for HttpSource {
    async fn pods(&self) -> Result<Vec<Pod>, SourceError> {
        let path = format!("/v1/pods?node={}", self.node);
        let pods: Vec<core::Pod> = self.list(&path).await?;
        Ok(pods.iter().map(Pod::from).collect())
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, Labels>, SourceError> {
        let namespaces: Vec<core::Namespace> = self.list("/v1/namespaces").await?;
        let metadata = namespaces.into_iter().map(|namespace| namespace.metadata);
        let labels = metadata.filter_map(|it| Some((it.name?, it.labels.unwrap_or_default())));
        Ok(labels.collect())
    }

    async fn changed(&self) {
        loop {
            let last = self.version.lock().clone();
            match self.wait(last.as_ref()).await {
                Ok(version) if Some(&version) != last.as_ref() => {
                    *self.version.lock() = Some(version);
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error, "changes are not told");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn mark(&self, pod: &Pod, mark: Mark) -> bool {
        let annotations = json!({MARK: mark.value()});
        let patch = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
        let path = format!("/v1/pods/{}/{}", pod.namespace, pod.name);
        let patched = self.ask(Method::PATCH, &path, patch.to_string().into(), PATIENCE);
        let failure = match patched.await {
            // Another pod has its name, or none.
            Ok((StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::CONFLICT, _)) => return true,
            Ok((status, _)) => format!("it answered {status}"),
            Err(failure) => failure,
        };
        let name = pod.full_name();
        tracing::warn!(pod = name, failure, "a pod's annotation cannot be changed");
        false
    }
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Changes {
    version: String,
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
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::JoinHandle;

    use super::*;

    /// A request's first line and its body.
    async fn receive(stream: &mut TcpStream) -> (String, String) {
        let mut text = String::new();
        loop {
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split_once("content-length: ").map_or("0", |it| it.1);
                let length = length.lines().next().unwrap_or_default();
                if body.len() >= length.parse().expect("a length") {
                    let line = head.lines().next().unwrap_or_default();
                    return (line.to_owned(), body.to_owned());
                }
            }
            let mut part = [0; 1024];
            let length = stream.read(&mut part).await.expect("asked");
            text.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    }

    /// Listens for requests that are answered in turn, and gives what was asked: the first lines and the bodies.
    async fn serve(answers: &[(&str, &str)]) -> (HttpSource, JoinHandle<Vec<(String, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let source = HttpSource::new(&format!("http://{address}/"), "node 1").expect("a URL");
        let answer = |(status, body): &(&str, &str)| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        let answers: Vec<String> = answers.iter().map(answer).collect();
        let served = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let request = receive(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.expect("answered");
                asked.push(request);
            }
            asked
        });
        (source, served)
    }

    #[tokio::test]
    async fn pods_are_listed_over_http() {
        let list = r#"{"kind": "PodList", "items": [
            {"metadata": {"name": "a", "namespace": "b", "uid": "u"}, "spec": {"serviceAccountName": "s"}}]}"#;
        let (source, served) = serve(&[("200 OK", list)]).await;
        let pods = source.pods().await.expect("listed");
        assert_eq!(
            served.await.expect("asked")[0].0,
            "GET /v1/pods?node=node%201 HTTP/1.1"
        );
        assert_eq!(
            (pods[0].uid.as_str(), pods[0].service_account.as_str()),
            ("u", "s")
        );
        for (answer, reason) in [
            (
                ("503 Service Unavailable", ""),
                "it answered 503 Service Unavailable",
            ),
            (("200 OK", "{}"), "missing field `items` at line 1 column 2"),
        ] {
            let (source, _) = serve(&[answer]).await;
            let error = source.pods().await.expect_err("not listed").to_string();
            let url = format!("http://127.0.0.1:{}/v1/pods?node=node%201", source.port);
            assert_eq!(error, format!("cannot list {url}: {reason}"));
        }
    }

    #[tokio::test]
    async fn changes_are_waited_for() {
        let version = |version| ("200 OK", version);
        let (first, second) = (r#"{"version": "1"}"#, r#"{"version": "2"}"#);
        let answers = [version(first), version(first), version(second)];
        let (source, served) = serve(&answers).await;
        source.changed().await;
        source.changed().await;
        let asked = served.await.expect("asked");
        let lines: Vec<&str> = asked.iter().map(|(line, _)| line.as_str()).collect();
        let path = "GET /v1/changes?node=node%201";
        let expected = ["", "&after=1", "&after=1"].map(|it| format!("{path}{it} HTTP/1.1"));
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn pods_are_marked() {
        let pod = Pod {
            uid: "u".into(),
            namespace: "b".into(),
            name: "a".into(),
            ..Pod::default()
        };
        let cases = [
            (Mark::Enabled, "200 OK", true, json!("enabled")),
            (Mark::Pending, "404 Not Found", true, json!("pending")),
            (Mark::None, "409 Conflict", true, json!(null)),
            (Mark::None, "500 Internal Server Error", false, json!(null)),
        ];
        for (mark, status, done, value) in cases {
            let (source, served) = serve(&[(status, "")]).await;
            assert_eq!(source.mark(&pod, mark).await, done, "{status}");
            let (line, body) = served.await.expect("asked").remove(0);
            assert_eq!(line, "PATCH /v1/pods/b/a HTTP/1.1");
            let annotations = json!({"ambient.istio.io/redirection": value});
            let patch = json!({"metadata": {"uid": "u", "annotations": annotations}});
            assert_eq!(body, patch.to_string(), "{status}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        // Taken, and nobody listens there.
        let taken = TcpSocket::new_v4().expect("a socket");
        taken.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let address = taken.local_addr().expect("bound");
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
