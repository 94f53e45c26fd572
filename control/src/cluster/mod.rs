//! The Kubernetes API server, as this process talks to it.
//!
//! Requests are plain HTTP with JSON; objects are read elsewhere. Nothing here retries: who asks knows
//! how long it may wait.

pub mod access;
pub mod bundles;
pub mod collection;
pub mod deployed;
pub mod election;
#[cfg(test)]
pub(crate) mod fake;
pub mod follow;
pub mod forward;
pub mod lease;
pub mod lines;
pub mod merge;
mod pace;
pub mod statuses;
pub mod watch;
pub mod waypoints;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Who writes, in `metadata.managedFields`: the control plane, and an operator.
pub const FIELD_MANAGER: &str = "ambit-control";
const OPERATOR: &str = "ambit";
/// Longest time for an answer that is not a watch.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer that is read as a whole is larger: a page of 500 objects of at most 1.5 MiB.
const LONGEST: usize = 768 << 20;
/// Objects in a page of a list.
const PAGE: usize = 500;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    manager: &'static str,
}

/// Why there is no answer, or none that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Failure {
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    #[error("{message} ({status} {reason})")]
    Refused {
        status: u16,
        /// As `Status.reason` has it, such as `AlreadyExists`.
        reason: String,
        message: String,
        /// The server asks to be left alone for this long.
        after: Option<Duration>,
    },
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
}

impl Failure {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable(_) | Self::Unreadable(_) => None,
        }
    }

    /// How long the server asks to be left alone.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            Self::Unreachable(_) | Self::Unreadable(_) => None,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.status()
            .is_none_or(|status| status == 429 || status >= 500)
    }
}

impl Cluster {
    /// Of the kubeconfig (`KUBECONFIG`, `~/.kube/config`), else of the pod this process runs in.
    ///
    /// # Errors
    /// There is neither, or it does not hold together.
    pub async fn inferred() -> Result<Self, String> {
        let config = kube::Config::infer().await.map_err(|e| e.to_string())?;
        Self::new(config)
    }

    /// As a configuration says.
    ///
    /// # Errors
    /// It does not hold together.
    pub fn new(mut config: kube::Config) -> Result<Self, String> {
        config.default_retry = false;
        // A watch may be silent for long; silence is bounded where it is read.
        config.read_timeout = None;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            manager: FIELD_MANAGER,
        })
    }

    /// That of the kubeconfig as an operator uses it, and the namespace of its context.
    ///
    /// # Errors
    /// There is none, or it does not hold together.
    pub async fn of_operator() -> Result<(Self, String), String> {
        let config = kube::Config::infer().await.map_err(|e| e.to_string())?;
        let namespace = config.default_namespace.clone();
        let mut cluster = Self::new(config)?;
        cluster.manager = OPERATOR;
        Ok((cluster, namespace))
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(Method::GET, path, JSON, Vec::new()).await
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    /// See [`Failure`]; status 409 when it exists.
    pub async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &impl Serialize,
    ) -> Result<T, Failure> {
        self.write(Method::POST, path, "", JSON, object).await
    }

    /// Replaces an object, if its `resourceVersion` is still the one given.
    ///
    /// # Errors
    /// See [`Failure`]; status 409 when it has changed meanwhile.
    pub async fn replace<T: DeserializeOwned>(
        &self,
        path: &str,
        object: &impl Serialize,
    ) -> Result<T, Failure> {
        self.write(Method::PUT, path, "", JSON, object).await
    }

    /// Server-side apply: what the object names is so, and ours.
    ///
    /// # Errors
    /// See [`Failure`]; status 409 when it names a `resourceVersion` that is over.
    pub async fn apply(&self, path: &str, object: &impl Serialize) -> Result<Value, Failure> {
        self.write(Method::PATCH, path, "&force=true", APPLY, object)
            .await
    }

    /// Server-side apply that takes nothing from others.
    ///
    /// # Errors
    /// See [`Failure`]; status 409 when somebody else says otherwise of a field.
    pub async fn offer(&self, path: &str, object: &impl Serialize) -> Result<Value, Failure> {
        self.write(Method::PATCH, path, "", APPLY, object).await
    }

    /// Changes an object as a merge patch says.
    ///
    /// # Errors
    /// See [`Failure`]; status 404 when it does not exist.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<Value, Failure> {
        self.write(Method::PATCH, path, "", MERGE, change).await
    }

    /// All objects of a list, page by page. `path` may have a query.
    ///
    /// # Errors
    /// See [`Failure`]; status 404 when the resource is not known, 410 when it takes too long.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        let mut from = String::new();
        loop {
            let page = format!("{path}{joint}limit={PAGE}{from}");
            let mut list: Value = self.read(&page).await?;
            if let Value::Array(items) = list["items"].take() {
                all.extend(items);
            }
            match list["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => from = format!("&continue={}", escaped(next)),
                _ => return Ok(all),
            }
        }
    }

    /// Reads what is no JSON.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn text(&self, path: &str) -> Result<String, Failure> {
        let exchange = async {
            let answer = self.send(Method::GET, path, JSON, Vec::new()).await?;
            collected(answer.into_body()).await
        };
        let bytes = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| Failure::Unreachable(format!("no answer within {PATIENCE:?}")))??;
        String::from_utf8(bytes.into()).map_err(|e| Failure::Unreadable(e.to_string()))
    }

    /// Deletes the object with this uid, what it owns in the background; it is no error if it is gone.
    ///
    /// # Errors
    /// See [`Failure`]; status 409 when another object has its name.
    pub async fn delete(&self, path: &str, uid: &str) -> Result<(), Failure> {
        let options = serde_json::json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        });
        let body = options.to_string().into_bytes();
        match self.whole::<Value>(Method::DELETE, path, JSON, body).await {
            Err(failure) if failure.status() == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The body of an answer as it comes.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn stream(&self, path: &str) -> Result<Response<Body>, Failure> {
        self.send(Method::GET, path, JSON, Vec::new()).await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        more: &str,
        kind: &'static str,
        object: &impl Serialize,
    ) -> Result<T, Failure> {
        let path = format!("{path}?fieldManager={}{more}", self.manager);
        let body = serde_json::to_vec(object).map_err(|e| Failure::Unreadable(e.to_string()))?;
        self.whole(method, &path, kind, body).await
    }

    async fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let exchange = async {
            let answer = self.send(method, path, kind, body).await?;
            collected(answer.into_body()).await
        };
        let bytes = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| Failure::Unreachable(format!("no answer within {PATIENCE:?}")))??;
        serde_json::from_slice(&bytes).map_err(|e| Failure::Unreadable(e.to_string()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<Response<Body>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, JSON)
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body))
            .map_err(|error| Failure::Unreadable(error.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.client.send(request))
            .await
            .map_err(|_| Failure::Unreachable(format!("no answer within {PATIENCE:?}")))?
            .map_err(|error| Failure::Unreachable(words(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let after = retry_after(answer.headers());
        let read = tokio::time::timeout(PATIENCE, collected(answer.into_body())).await;
        let body = read.ok().and_then(Result::ok).unwrap_or_default();
        Err(refusal(status, after, &body))
    }
}

async fn collected(body: Body) -> Result<Bytes, Failure> {
    let limited = http_body_util::Limited::new(body, LONGEST);
    let collected = limited.collect().await;
    collected
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::Unreachable(error.to_string()))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().map(Duration::from_secs).ok()
}

/// The body is a `Status`, or what something between here and the API server says.
fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Failure {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| said.get(field).and_then(Value::as_str).map(str::to_owned);
    let start = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    Failure::Refused {
        status: status.as_u16(),
        reason: text("reason").unwrap_or_default(),
        message: text("message").unwrap_or_else(start),
        after,
    }
}

/// An error with what caused it.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}

/// A path segment or a query's value, with what has a meaning in URLs escaped.
#[must_use]
pub fn escaped(text: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}
