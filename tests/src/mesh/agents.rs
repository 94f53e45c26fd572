//! The lab in the place of an API server, for its nodes' agents: what they ask, and the marks that they make.
//! The protocol is that of [`ambit_ztunnel::agent::HttpSource`]. A node hears of its own pods, and marks no others.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_ztunnel::agent::{self, Decision, MARK, Mark, decide};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::api::{Key, Store};
use crate::cluster::{Cluster, LabNode};
use crate::controllers::is_terminating;
use crate::net::plan;

/// Beside the control plane's own ports.
pub(super) const PORT: u16 = 15016;
/// How long a change is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a question may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long question and answer may take.
const EXCHANGE: Duration = Duration::from_secs(60);
/// The longest question.
const LONGEST: usize = 16 * 1024;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Serves agents for ever.
pub(super) fn serve(cluster: &Arc<Cluster>) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((plan::bridge().v4, PORT))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // Pods have other addresses than their nodes.
                Ok((stream, peer)) => {
                    if let Some(node) = node_at(&cluster, peer) {
                        let (cluster, node) = (Arc::clone(&cluster), Arc::clone(node));
                        tokio::spawn(attend(cluster, node, stream));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an agent");
                    sleep(PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

fn node_at(cluster: &Cluster, peer: SocketAddr) -> Option<&Arc<LabNode>> {
    let is_there = |node: &&Arc<LabNode>| plan::node(node.number).both().contains(&peer.ip());
    cluster.nodes.iter().find(is_there)
}

async fn attend(cluster: Arc<Cluster>, node: Arc<LabNode>, stream: TcpStream) {
    let service = service_fn(|request| {
        let (cluster, node) = (Arc::clone(&cluster), Arc::clone(&node));
        async move { Ok::<_, Infallible>(answer(&cluster, &node.name, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVAL)
        .max_buf_size(LONGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(EXCHANGE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(node = %node.name, %error, "an agent went away"),
        Err(_) => tracing::debug!(node = %node.name, "an agent does not take its answer"),
    }
}

async fn answer(cluster: &Cluster, node: &str, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let asked = |name| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|pair| pair.0 == name).map(|it| it.1)
    };
    if asked("node").is_some_and(|asked| asked != node) {
        return say(StatusCode::FORBIDDEN, &json!({"message": "another node"}));
    }
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    match (&head.method, &path[..]) {
        (&Method::GET, ["v1", "pods"]) => {
            let items: Vec<Value> =
                cluster.read(|store| of_node(store, node).map(|pod| json!(pod)).collect());
            say(StatusCode::OK, &json!({"kind": "PodList", "items": items}))
        }
        (&Method::GET, ["v1", "namespaces"]) => {
            let items: Vec<Value> =
                cluster.read(|store| store.namespaces.iter().map(|(_, it)| json!(it)).collect());
            let list = json!({"kind": "NamespaceList", "items": items});
            say(StatusCode::OK, &list)
        }
        (&Method::GET, ["v1", "changes"]) => {
            let version = change(cluster, node, asked("after")).await;
            say(StatusCode::OK, &json!({"version": version}))
        }
        (&Method::PATCH, ["v1", "pods", namespace, name]) => {
            let read = timeout(ARRIVAL, Limited::new(body, LONGEST).collect()).await;
            let patch = match read {
                Ok(Ok(body)) => serde_json::from_slice::<Patch>(&body.to_bytes()),
                _ => return say(StatusCode::BAD_REQUEST, &json!({"message": "no body"})),
            };
            match patch {
                Ok(patch) => {
                    let key = Key::new(namespace, name);
                    say(
                        cluster.write(|store| mark(store, node, &key, patch)),
                        &json!({}),
                    )
                }
                Err(error) => say(
                    StatusCode::BAD_REQUEST,
                    &json!({"message": error.to_string()}),
                ),
            }
        }
        _ => say(StatusCode::NOT_FOUND, &json!({"message": "no such path"})),
    }
}

fn say(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    answer
}

fn of_node<'a>(store: &'a Store, node: &'a str) -> impl Iterator<Item = &'a Pod> {
    let pods = store.pods.iter().map(|(_, pod)| pod);
    pods.filter(move |pod| place(pod) == Some(node))
}

fn place(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The version of what a node is told, once it is not `known`, or after some time.
async fn change(cluster: &Cluster, node: &str, known: Option<&str>) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut changes = cluster.changes();
    loop {
        let version = cluster.read(|store| version(store, node));
        let is_known = known == Some(version.as_str());
        if !is_known || timeout_at(deadline, changes.changed()).await.is_err() {
            return version;
        }
    }
}

/// Differs when an agent would read something else.
fn version(store: &Store, node: &str) -> String {
    let mut hasher = DefaultHasher::new();
    for pod in of_node(store, node) {
        agent::Pod::from(pod).hash(&mut hasher);
    }
    for (key, namespace) in store.namespaces.iter() {
        (&key.name, &namespace.metadata.labels).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    uid: String,
    annotations: Annotations,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotations {
    #[serde(rename = "ambient.istio.io/redirection")]
    mark: Option<String>,
}

fn mark(store: &mut Store, node: &str, key: &Key, patch: Patch) -> StatusCode {
    let Patch { metadata } = patch;
    let here = store.pods.get(key);
    match here.filter(|pod| place(pod) == Some(node)) {
        None => return StatusCode::NOT_FOUND,
        Some(pod) if pod.metadata.uid.as_ref() != Some(&metadata.uid) => {
            return StatusCode::CONFLICT;
        }
        Some(_) => {}
    }
    store.pods.update(key, |pod| {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        match metadata.annotations.mark {
            Some(mark) => drop(annotations.insert(MARK.to_owned(), mark)),
            None => drop(annotations.remove(MARK)),
        }
    });
    StatusCode::OK
}

/// Pods whose marks are not yet what the labels ask for.
#[must_use]
pub fn unmarked(store: &Store) -> Vec<String> {
    let of = |key: &Key, pod: &Pod| {
        let pod = agent::Pod::from(pod);
        if pod.ips.is_empty() {
            return None;
        }
        let namespace = store.namespaces.get(&Key::new("", &key.namespace));
        let labels = namespace.and_then(|namespace| namespace.metadata.labels.clone());
        match (decide(&pod, &labels.unwrap_or_default()), pod.mark) {
            (Decision::Enrol, Mark::Enabled) | (Decision::Leave(_), Mark::None) => None,
            (Decision::Enrol, _) => Some(format!("pod {key} is not captured yet")),
            (Decision::Leave(_), _) => Some(format!("pod {key} is still captured")),
        }
    };
    let pods = store.pods.iter().filter(|(_, pod)| !is_terminating(pod));
    pods.filter_map(|(key, pod)| of(key, pod)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Manifest, parse};

    const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: in, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Namespace
metadata: {name: out}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: in}
spec: {nodeName: node-1, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: out}
spec: {nodeName: node-2, containers: []}
";

    fn store() -> Store {
        let mut store = Store::default();
        let text = OBJECTS.to_owned();
        let file = "t.yaml".to_owned();
        let (documents, errors) = parse(&[Manifest { file, text }]);
        assert!(errors.is_empty(), "{errors:?}");
        for document in &documents {
            store.apply(document).expect("applied");
        }
        store
    }

    fn patch(uid: &str, value: Value) -> Patch {
        let patch = json!({"metadata": {"uid": uid, "annotations": {MARK: value}}});
        serde_json::from_value(patch).expect("a patch")
    }

    #[test]
    fn a_node_marks_its_own_pods() {
        let mut store = store();
        let key = Key::new("in", "a");
        let pod = |store: &Store| store.pods.get(&key).cloned().expect("a pod");
        let uid = pod(&store).metadata.uid.expect("a uid");
        let enabled = || json!("enabled");
        for (node, uid, status) in [
            ("node-2", uid.as_str(), StatusCode::NOT_FOUND),
            ("node-1", "another", StatusCode::CONFLICT),
            ("node-1", uid.as_str(), StatusCode::OK),
        ] {
            let said = mark(&mut store, node, &key, patch(uid, enabled()));
            assert_eq!(said, status, "{node} {uid}");
        }
        assert_eq!(agent::Pod::from(&pod(&store)).mark, Mark::Enabled);
        mark(&mut store, "node-1", &key, patch(&uid, Value::Null));
        assert_eq!(agent::Pod::from(&pod(&store)).mark, Mark::None);
        let other = json!({"metadata": {"uid": uid, "annotations": {"other": "a"}}});
        assert!(serde_json::from_value::<Patch>(other).is_err());
    }

    #[test]
    fn a_version_is_of_what_a_node_is_told() {
        let mut store = store();
        let versions = |store: &Store| ["node-1", "node-2"].map(|node| version(store, node));
        let before = versions(&store);
        let key = Key::new("in", "a");
        store.pods.update(&key, |pod| {
            pod.status.get_or_insert_default().message = Some("agents do not read this".to_owned());
        });
        assert_eq!(versions(&store), before);
        store.pods.update(&key, |pod| {
            pod.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        });
        let labelled = versions(&store);
        assert_eq!(
            (labelled[0] == before[0], &labelled[1]),
            (false, &before[1])
        );
        let of_namespace = Key::new("", "out");
        store.namespaces.update(&of_namespace, |namespace| {
            namespace.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        });
        let all = versions(&store);
        assert!(all[0] != labelled[0] && all[1] != labelled[1]);
    }

    #[test]
    fn marks_follow_labels() {
        let mut store = store();
        assert!(unmarked(&store).is_empty(), "no pod has an address");
        let set = |store: &mut Store, namespace: &str, name: &str, value: Option<&str>| {
            let key = Key::new(namespace, name);
            store.pods.update(&key, |pod| {
                let status = json!({"podIPs": [{"ip": "10.0.0.1"}]});
                pod.status = serde_json::from_value(status).ok();
                let mark = value.map(|value| (MARK.to_owned(), value.to_owned()));
                pod.metadata.annotations = Some(mark.into_iter().collect());
            });
        };
        for (a, b, left) in [
            (None, None, vec!["pod in/a is not captured yet"]),
            (Some("enabled"), None, vec![]),
            (Some("pending"), None, vec!["pod in/a is not captured yet"]),
            (
                Some("enabled"),
                Some("pending"),
                vec!["pod out/b is still captured"],
            ),
        ] {
            set(&mut store, "in", "a", a);
            set(&mut store, "out", "b", b);
            assert_eq!(unmarked(&store), left, "{a:?} {b:?}");
        }
    }
}
