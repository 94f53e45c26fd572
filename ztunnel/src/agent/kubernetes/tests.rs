//! The source against an API server that is a table of answers.

use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::Value;

use super::*;

/// Answers in turn, and keeps what was asked.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn source(&self) -> KubernetesSource {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let line = format!("{} {}", head.method, head.uri);
                server.asked.lock().push((line, body));
                let (status, answer) = server.answers.lock().pop_front().expect("an answer");
                let answer = Full::new(Bytes::from(answer.to_string()));
                let response = Response::builder().status(status).body(answer);
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        KubernetesSource {
            client: Client::new(service, "default"),
            node: "node-1".to_owned(),
            namespace: "ambit-system".to_owned(),
            state: Arc::default(),
        }
    }

    fn answers(&self, status: u16, answer: Value) {
        self.answers.lock().push_back((status, answer));
    }

    fn asked(&self) -> (String, Value) {
        self.asked.lock().pop().expect("something was asked")
    }
}

fn pod() -> Pod {
    Pod {
        uid: "u".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        ..Pod::default()
    }
}

fn refused(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "No", "code": code})
}

#[tokio::test]
async fn pods_are_marked() {
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}});
    for (mark, value) in [
        (Mark::Enabled, json!("enabled")),
        (Mark::Pending, json!("pending")),
        (Mark::None, Value::Null),
    ] {
        let server = Server::default();
        server.answers(200, bare.clone());
        assert!(server.source().mark(&pod(), mark).await);
        let (line, body) = server.asked();
        let path = "/api/v1/namespaces/shop/pods/web/status?&fieldManager=ambit-agent";
        assert_eq!(line, format!("PATCH {path}"));
        let annotations = json!({"ambient.istio.io/redirection": value});
        assert_eq!(
            body,
            json!({"metadata": {"uid": "u", "annotations": annotations}})
        );
    }
    for (code, settled) in [(404, true), (409, true), (403, false), (500, false)] {
        let server = Server::default();
        server.answers(code, refused(code));
        assert_eq!(
            server.source().mark(&pod(), Mark::Enabled).await,
            settled,
            "{code}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_becomes_an_event() {
    for (complaint, reason, message) in [
        (
            Complaint::NotCaptured,
            "NotCaptured",
            "the pod cannot join the mesh: it is bad",
        ),
        (
            Complaint::InvalidAnnotation,
            "InvalidAnnotation",
            "the pod is captured as if it did not say so: it is bad",
        ),
    ] {
        let server = Server::default();
        server.answers(
            201,
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {}}),
        );
        let source = server.source();
        source.complain(&pod(), complaint, "it is bad").await;
        let (line, event) = server.asked();
        assert!(
            line.starts_with("POST /api/v1/namespaces/shop/events?"),
            "{line}"
        );
        assert_eq!(event["involvedObject"]["uid"], "u");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reason"], reason);
        assert_eq!(event["message"], message);
    }
}

#[tokio::test]
async fn an_installation_that_is_gone_is_noticed() {
    let set = |deleted: Value| {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "ztunnel", "deletionTimestamp": deleted}})
    };
    let cases = [
        (200, set(Value::Null), Some(false)),
        (200, set("2026-01-01T00:00:00Z".into()), Some(true)),
        (404, refused(404), Some(true)),
        (403, refused(403), Some(true)),
        (500, refused(500), None),
    ];
    for (status, answer, gone) in cases {
        let server = Server::default();
        server.answers(status, answer);
        assert_eq!(server.source().uninstalled().await, gone, "{status}");
        let path = "/apis/apps/v1/namespaces/ambit-system/daemonsets/ztunnel";
        assert_eq!(server.asked().0, format!("GET {path}"));
    }
}

/// What a watch told before the API server went away.
#[tokio::test]
async fn an_end_that_was_told_is_known_without_the_api_server() {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    let set = |deleted| ("ztunnel".to_owned(), deleted);
    let cases = [
        ("nothing", vec![], None),
        (
            "it is there",
            vec![Init, InitApply(set(false)), InitDone],
            None,
        ),
        (
            "it was there",
            vec![Init, InitApply(set(false)), InitDone, Delete(set(false))],
            Some(true),
        ),
        (
            "it is being deleted",
            vec![Init, InitApply(set(false)), InitDone, Apply(set(true))],
            Some(true),
        ),
        ("a list began", vec![Init], None),
    ];
    for (name, told, gone) in cases {
        let server = Server::default();
        let source = server.source();
        for event in told {
            source.state.sets.lock().hear(Ok(event));
        }
        server.answers(503, refused(503));
        assert_eq!(source.uninstalled().await, gone, "{name}");
    }
}
