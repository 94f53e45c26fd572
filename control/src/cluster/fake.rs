//! A small API server for tests: lists, watches, writes, and failures on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::Cluster;

/// Group, plural, namespace, name.
type Id = (String, String, String, String);

#[derive(Default)]
struct World {
    version: u64,
    /// Changes before this are forgotten.
    compacted: u64,
    objects: BTreeMap<Id, Value>,
    changes: Vec<(u64, &'static str, Id, Value)>,
    /// Watches with a lower number are over.
    closed: u64,
    no_streams: bool,
    absent: BTreeSet<String>,
    failures: VecDeque<Failing>,
    requests: Vec<String>,
    uids: u64,
    /// Answers of `tokenreviews`: by token, the status.
    reviews: BTreeMap<String, Value>,
    /// Seconds that no token outlives, if there is such a limit.
    longest: Option<i64>,
}

struct Failing {
    /// Part of `METHOD path`.
    what: String,
    status: u16,
    after: Option<u64>,
}

/// The server; it stops with this value.
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Server {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let server = Server {
            world: Arc::default(),
            changed: watch::channel(0).0,
        };
        let (world, changed) = (server.world.clone(), server.changed.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tcp), service)
                        .await;
                });
            }
        });
        Self {
            world,
            changed,
            port,
            task,
        }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        let url = format!("http://127.0.0.1:{}", self.port);
        Cluster::new(kube::Config::new(url.parse().expect("a URL"))).expect("a client")
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    /// Sets an object in `group/plural`.
    pub(crate) fn set(&self, resource: &str, object: Value) {
        let (group, plural) = resource.split_once('/').expect("GROUP/PLURAL");
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let id = (
            group.to_owned(),
            plural.to_owned(),
            text("namespace").to_owned(),
            text("name").to_owned(),
        );
        self.world().put(id, object);
        self.wake();
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.world().delete(&id(resource, namespace, name));
        self.wake();
    }

    pub(crate) fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let id = id(resource, namespace, name);
        self.world().objects.get(&id).cloned()
    }

    /// Changes up to now are forgotten: whoever asks for them hears 410.
    pub(crate) fn compact(&self) {
        let mut world = self.world();
        world.version += 1;
        world.compacted = world.version;
        world.changes.clear();
    }

    pub(crate) fn close_watches(&self) {
        self.world().closed += 1;
        self.wake();
    }

    pub(crate) fn no_streams(&self) {
        self.world().no_streams = true;
    }

    pub(crate) fn absent(&self, plural: &str, absent: bool) {
        let mut world = self.world();
        if absent {
            world.absent.insert(plural.to_owned());
        } else {
            world.absent.remove(plural);
        }
    }

    /// The next request that contains this fails.
    pub(crate) fn fail(&self, what: &str, status: u16, after: Option<u64>) {
        self.world().failures.push_back(Failing {
            what: what.to_owned(),
            status,
            after,
        });
    }

    /// Nothing of this fails any more.
    pub(crate) fn heal(&self) {
        self.world().failures.clear();
    }

    /// Tokens are made no longer than this, whatever is asked for.
    pub(crate) fn shorten_tokens(&self, seconds: i64) {
        self.world().longest = Some(seconds);
    }

    pub(crate) fn review(&self, token: &str, status: Value) {
        self.world().reviews.insert(token.to_owned(), status);
    }

    /// `METHOD path?query` of requests that contain this.
    pub(crate) fn requests(&self, what: &str) -> Vec<String> {
        let world = self.world();
        let found = world.requests.iter().filter(|it| it.contains(what));
        found.cloned().collect()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, mut so: impl FnMut(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !so(self) {
                // Requests change nothing; look at them as well.
                let tick = std::time::Duration::from_millis(10);
                let _ = tokio::time::timeout(tick, changed.changed()).await;
            }
        };
        let patience = std::time::Duration::from_secs(30);
        tokio::time::timeout(patience, wait).await.expect("in time");
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

fn id(resource: &str, namespace: &str, name: &str) -> Id {
    let (group, plural) = resource.split_once('/').expect("GROUP/PLURAL");
    (group.into(), plural.into(), namespace.into(), name.into())
}

impl World {
    fn put(&mut self, id: Id, mut object: Value) -> Value {
        self.version += 1;
        let old = self.objects.get(&id);
        let uid = old.map(|old| old["metadata"]["uid"].clone());
        if !object["metadata"].is_object() {
            // As no API server would send it.
        } else if let Some(uid) = uid.filter(|uid| !uid.is_null()) {
            object["metadata"]["uid"] = uid;
        } else if object["metadata"].get("uid").is_none() {
            self.uids += 1;
            object["metadata"]["uid"] = json!(format!("uid-{}", self.uids));
        }
        if object["metadata"].is_object() {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(id.clone(), object.clone());
        self.changes.push((self.version, kind, id, object.clone()));
        object
    }

    fn delete(&mut self, id: &Id) -> Option<Value> {
        let object = self.objects.remove(id)?;
        self.version += 1;
        self.changes
            .push((self.version, "DELETED", id.clone(), object.clone()));
        Some(object)
    }
}

/// What a path asks for.
#[derive(Clone)]
struct Asked {
    id: Id,
    status: bool,
    query: BTreeMap<String, String>,
}

impl Asked {
    fn selects(&self, id: &Id, object: &Value) -> bool {
        let labels = self.query.get("labelSelector").map(String::as_str);
        let name = self.query.get("fieldSelector").map(String::as_str);
        (&id.0, &id.1) == (&self.id.0, &self.id.1)
            && (self.id.2.is_empty() || id.2 == self.id.2)
            && name.is_none_or(|name| name == format!("metadata.name={}", id.3))
            && labels.is_none_or(|labels| {
                labels.split(',').all(|label| match label.split_once('=') {
                    Some((label, value)) => object["metadata"]["labels"][label] == value,
                    None => object["metadata"]["labels"].get(label).is_some(),
                })
            })
    }
}

fn asked(request: &Request<Incoming>) -> Asked {
    let mut parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let group = if parts[0] == "api" {
        parts.drain(..2);
        ""
    } else {
        parts.drain(..3).nth(1).expect("a group")
    };
    let status = parts.last() == Some(&"status");
    if status {
        parts.pop();
    }
    let (namespace, plural, name) = match parts[..] {
        ["namespaces", namespace, plural] => (namespace, plural, ""),
        ["namespaces", namespace, plural, name]
        | [
            "namespaces",
            namespace,
            plural,
            name,
            "portforward" | "token",
        ] => (namespace, plural, name),
        [plural] => ("", plural, ""),
        [plural, name] => ("", plural, name),
        _ => panic!("{}", request.uri()),
    };
    let query = request.uri().query().unwrap_or_default();
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    Asked {
        id: (group.into(), plural.into(), namespace.into(), name.into()),
        status,
        query: query.map(|(k, v)| (k.to_owned(), unescaped(v))).collect(),
    }
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("hexadecimal"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("text")
}

fn answer(status: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

fn refused(status: u16, reason: &str) -> Answer {
    let message = format!("the fake says {reason}");
    answer(
        status,
        &json!({"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}),
    )
}

impl Server {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let line = format!("{} {}", request.method(), request.uri());
        let asked = asked(&request);
        {
            let mut world = self.world();
            world.requests.push(line.clone());
            let failing = world.failures.iter().position(|it| line.contains(&it.what));
            if let Some(failing) = failing.and_then(|at| world.failures.remove(at)) {
                let mut answer = refused(failing.status, "Failing");
                if let Some(after) = failing.after {
                    answer
                        .headers_mut()
                        .insert(header::RETRY_AFTER, after.into());
                }
                return answer;
            }
            if world.absent.contains(&asked.id.1) {
                return refused(404, "NotFound");
            }
        }
        let method = request.method().clone();
        let body = request
            .into_body()
            .collect()
            .await
            .expect("read")
            .to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = match method {
            Method::GET if asked.query.contains_key("watch") => return self.watch(asked),
            Method::GET if asked.id.3.is_empty() => return self.list(&asked),
            Method::GET => return self.get(&asked),
            Method::POST if asked.id.1 == "tokenreviews" => return self.reviewed(&body),
            Method::POST if asked.id.1 == "serviceaccounts" => return self.granted(&asked, body),
            Method::POST => self.post(asked, body),
            Method::PUT => self.put(&asked, body),
            Method::PATCH => self.apply(&asked, body),
            Method::DELETE => self.delete(&asked, &body),
            _ => refused(405, "MethodNotAllowed"),
        };
        self.changed.send_modify(|count| *count += 1);
        answer
    }

    /// A token that says whom it is of and whom for.
    fn granted(&self, asked: &Asked, mut request: Value) -> Answer {
        let spec = &request["spec"];
        let (audiences, seconds) = (&spec["audiences"], spec["expirationSeconds"].as_i64());
        let kind = [&request["apiVersion"], &request["kind"]];
        if kind != ["authentication.k8s.io/v1", "TokenRequest"] {
            return refused(400, "BadRequest");
        }
        let named = |all: &Vec<Value>| !all.is_empty() && all.iter().all(Value::is_string);
        let (Some(audiences), Some(seconds)) =
            (audiences.as_array().filter(|it| named(it)), seconds)
        else {
            return refused(422, "Invalid");
        };
        // As the API server has it.
        if !(600..=1 << 32).contains(&seconds) {
            return refused(422, "Invalid");
        }
        let audiences = audiences.iter().filter_map(Value::as_str);
        let audiences = audiences.collect::<Vec<_>>().join(",");
        let longest = self.world().longest.unwrap_or(seconds);
        let until = Timestamp::now() + SignedDuration::from_secs(seconds.min(longest));
        request["status"] = json!({
            "token": format!("token of {} for {audiences}", asked.id.3),
            "expirationTimestamp": until.to_string(),
        });
        answer(201, &request)
    }

    fn list(&self, asked: &Asked) -> Answer {
        let world = self.world();
        let from: usize = asked
            .query
            .get("continue")
            .map_or(0, |from| from.parse().expect("mine"));
        let all = world
            .objects
            .iter()
            .filter(|(id, it)| asked.selects(id, it));
        let all: Vec<_> = all.map(|(_, object)| object.clone()).collect();
        // Pages are small, so that there are several.
        let page: Vec<_> = all.iter().skip(from).take(2).cloned().collect();
        let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
        let metadata = json!({"resourceVersion": world.version.to_string(), "continue": next});
        answer(200, &json!({"metadata": metadata, "items": page}))
    }

    fn get(&self, asked: &Asked) -> Answer {
        match self.world().objects.get(&asked.id) {
            Some(object) => answer(200, object),
            None => refused(404, "NotFound"),
        }
    }

    fn post(&self, mut asked: Asked, object: Value) -> Answer {
        asked.id.3 = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .into();
        let mut world = self.world();
        if world.objects.contains_key(&asked.id) {
            return refused(409, "AlreadyExists");
        }
        answer(201, &world.put(asked.id, object))
    }

    fn put(&self, asked: &Asked, object: Value) -> Answer {
        let mut world = self.world();
        match world.objects.get(&asked.id) {
            None => refused(404, "NotFound"),
            Some(old) if stale(old, &object) => refused(409, "Conflict"),
            Some(_) => answer(200, &world.put(asked.id.clone(), object)),
        }
    }

    /// Fields that are named are set, lists as a whole; what is no longer named stays, unlike in truth.
    fn apply(&self, asked: &Asked, object: Value) -> Answer {
        let mut world = self.world();
        let old = world.objects.get(&asked.id).cloned();
        let old = match old {
            None if asked.status => return refused(404, "NotFound"),
            Some(old) if stale(&old, &object) => return refused(409, "Conflict"),
            old => old.unwrap_or_else(|| json!({})),
        };
        let new = merged(old, &object);
        answer(200, &world.put(asked.id.clone(), new))
    }

    fn delete(&self, asked: &Asked, options: &Value) -> Answer {
        let mut world = self.world();
        let uid = &options["preconditions"]["uid"];
        match world.objects.get(&asked.id) {
            None => refused(404, "NotFound"),
            Some(old) if !uid.is_null() && old["metadata"]["uid"] != *uid => {
                refused(409, "Conflict")
            }
            Some(_) => answer(200, &world.delete(&asked.id).expect("there")),
        }
    }

    fn reviewed(&self, review: &Value) -> Answer {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let mut review = review.clone();
        let status = self.world().reviews.get(token).cloned();
        review["status"] =
            status.unwrap_or_else(|| json!({"authenticated": false, "error": "unknown"}));
        answer(201, &review)
    }

    fn watch(&self, asked: Asked) -> Answer {
        let streamed = asked.query.contains_key("sendInitialEvents");
        let world = self.world();
        if streamed && world.no_streams {
            return refused(422, "Invalid");
        }
        let mut lines = Vec::new();
        let since = if streamed {
            for (id, object) in &world.objects {
                if asked.selects(id, object) {
                    lines.push(json!({"type": "ADDED", "object": object}));
                }
            }
            let ends = json!({"k8s.io/initial-events-end": "true"});
            let version = world.version.to_string();
            let metadata = json!({"resourceVersion": version, "annotations": ends});
            lines.push(json!({"type": "BOOKMARK", "object": {"metadata": metadata}}));
            world.version
        } else {
            asked.query["resourceVersion"].parse().expect("a number")
        };
        if since < world.compacted {
            let status =
                json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
            lines.push(json!({"type": "ERROR", "object": status}));
        }
        let closed = world.closed;
        drop(world);
        let (sender, receiver) = mpsc::channel(16);
        let server = self.clone();
        tokio::spawn(server.feed(asked, since, closed, sender));
        let first = stream::iter(lines).map(|line| Bytes::from(format!("{line}\n")));
        let all = first.chain(ReceiverStream::new(receiver));
        let frames = all.map(|line| Ok::<_, Infallible>(Frame::data(line)));
        Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
    }

    async fn feed(self, asked: Asked, mut since: u64, closed: u64, lines: mpsc::Sender<Bytes>) {
        let mut changed = self.changed.subscribe();
        loop {
            let news: Vec<_> = {
                let world = self.world();
                if world.closed != closed {
                    return;
                }
                let news = world.changes.iter().filter(|(version, _, id, object)| {
                    *version > since && asked.selects(id, object)
                });
                let news = news.map(|(version, kind, _, object)| {
                    (*version, json!({"type": kind, "object": object}))
                });
                news.collect()
            };
            for (version, event) in news {
                since = version;
                if lines.send(Bytes::from(format!("{event}\n"))).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
            }
        }
    }
}

/// Whether a write names a version that is over.
fn stale(old: &Value, new: &Value) -> bool {
    let version = &new["metadata"]["resourceVersion"];
    !version.is_null() && *version != old["metadata"]["resourceVersion"]
}

fn merged(old: Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(mut old), Value::Object(new)) => {
            for (field, value) in new {
                let before = old.remove(field).unwrap_or_default();
                old.insert(field.clone(), merged(before, value));
            }
            Value::Object(old)
        }
        (_, new) => new.clone(),
    }
}
