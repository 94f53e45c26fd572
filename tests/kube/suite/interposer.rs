//! What stands between a control plane and the API server: it hands requests on as an administrator, and does on
//! demand what API servers, load balancers and networks do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::replayed::Replayed;

/// It ends with this value.
pub(crate) struct Interposer {
    shared: Arc<Shared>,
    port: u16,
    _runtime: Runtime,
}

struct Shared {
    client: Client,
    rules: Mutex<Rules>,
    /// Everything that is open ends when this changes.
    cuts: watch::Sender<u64>,
}

#[derive(Default)]
struct Rules {
    replayed: Vec<Replayed>,
    refusals: VecDeque<Refusal>,
    is_cut_off: bool,
    spoilt: Option<Spoilt>,
    seen: Vec<String>,
}

struct Refusal {
    what: &'static str,
    status: u16,
    left: usize,
}

/// How objects of one name are changed on their way.
#[derive(Clone, Copy)]
pub(crate) struct Spoilt {
    pub(crate) plural: &'static str,
    pub(crate) name: &'static str,
    pub(crate) with: Change,
}

/// What is done to an object.
pub(crate) type Change = fn(&mut Value);

pub(crate) type Sent = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<Sent>;

impl Interposer {
    /// One in front of the API server of a kubeconfig.
    pub(crate) fn start(kubeconfig: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let (shared, port) = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await;
            let mut config = config.expect("a configuration");
            config.default_retry = false;
            config.read_timeout = None;
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let port = listener.local_addr().expect("bound").port();
            let shared = Arc::new(Shared {
                client: Client::try_from(config).expect("a client"),
                rules: Mutex::default(),
                cuts: watch::Sender::new(0),
            });
            tokio::spawn(serve(listener, shared.clone()));
            (shared, port)
        });
        Self {
            shared,
            port,
            _runtime: runtime,
        }
    }

    /// Writes a kubeconfig that leads here.
    pub(crate) fn write_kubeconfig(&self, path: &Path) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": {}}],
        });
        std::fs::write(path, config.to_string()).expect("written");
    }

    /// Answers the next `times` requests that contain `what` with a status.
    pub(crate) fn refuse(&self, what: &'static str, status: u16, times: usize) {
        let refusal = Refusal {
            what,
            status,
            left: times,
        };
        self.shared.rules.lock().refusals.push_back(refusal);
    }

    /// Refuses nothing any more; how often each refusal was still to be given.
    pub(crate) fn relent(&self) -> Vec<usize> {
        let mut rules = self.shared.rules.lock();
        let left = rules.refusals.drain(..);
        left.map(|refusal| refusal.left).collect()
    }

    /// Ends every answer that is under way, watches above all.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing through from now on, or everything.
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.shared.rules.lock().is_cut_off = is_cut_off;
        if is_cut_off {
            self.cut();
        }
    }

    /// Changes objects on their way from now on.
    pub(crate) fn spoil(&self, spoilt: Option<Spoilt>) {
        self.shared.rules.lock().spoilt = spoilt;
        self.cut();
    }

    /// Begins streamed lists with these from now on, besides what there is.
    pub(crate) fn replay(&self, replayed: Vec<Replayed>) {
        self.shared.rules.lock().replayed = replayed;
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        self.shared.rules.lock().seen.clear();
    }

    /// What was asked and let through: `METHOD path`.
    pub(crate) fn seen(&self, what: &str) -> Vec<String> {
        let rules = self.shared.rules.lock();
        let found = rules.seen.iter().filter(|line| line.contains(what));
        found.cloned().collect()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.answer(request).await }
            });
            // Errors are what it is for.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let line = format!("{} {}", request.method(), request.uri());
        let mut cuts = self.cuts.subscribe();
        let (spoilt, replayed) = {
            let mut rules = self.rules.lock();
            if rules.is_cut_off {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let fits = |refusal: &&mut Refusal| refusal.left > 0 && line.contains(refusal.what);
            if let Some(refusal) = rules.refusals.iter_mut().find(fits) {
                refusal.left -= 1;
                return Ok(refused(refusal.status));
            }
            rules.seen.push(line.clone());
            let is_of = |plural: &str| line.contains(&format!("/{plural}?"));
            // Lists of a part of a kind have none of them.
            let all = line.contains("sendInitialEvents") && !line.contains("Selector=");
            let replayed = rules.replayed.iter().find(|it| all && is_of(it.plural));
            (
                rules.spoilt.filter(|it| is_of(it.plural)),
                replayed.cloned(),
            )
        };
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let mut onward = Request::new(Body::from(body));
        *onward.method_mut() = head.method;
        *onward.uri_mut() = head.uri;
        for name in [http::header::CONTENT_TYPE, http::header::ACCEPT] {
            if let Some(value) = head.headers.get(&name) {
                onward.headers_mut().insert(name, value.clone());
            }
        }
        let answer = tokio::select! {
            answer = self.client.send(onward) => answer.map_err(io::Error::other)?,
            _ = cuts.changed() => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        let (mut head, body) = answer.into_parts();
        for name in [
            http::header::CONTENT_LENGTH,
            http::header::TRANSFER_ENCODING,
        ] {
            head.headers.remove(name);
        }
        let is_watch = line.contains("watch=true");
        let body = match spoilt {
            Some(spoilt) if is_watch => spoilt.lines(body),
            Some(spoilt) => {
                let whole = body.collect().await.map_err(io::Error::other)?;
                spoilt.whole(&whole.to_bytes())
            }
            None => body.map_err(io::Error::other).boxed_unsync(),
        };
        let body = match replayed {
            Some(replayed) => replayed.before(body),
            None => body,
        };
        Ok(Response::from_parts(head, until_cut(body, cuts)))
    }
}

/// A body that breaks off at the next cut.
fn until_cut(
    body: UnsyncBoxBody<Bytes, io::Error>,
    cuts: watch::Receiver<u64>,
) -> UnsyncBoxBody<Bytes, io::Error> {
    let frames = stream::unfold((Some(body), cuts), |(body, mut cuts)| async move {
        let mut body = body?;
        tokio::select! {
            frame = body.frame() => Some((frame?, (Some(body), cuts))),
            _ = cuts.changed() => Some((Err(io::ErrorKind::ConnectionReset.into()), (None, cuts))),
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

impl Spoilt {
    fn object(self, object: &mut Value) {
        if object["metadata"]["name"] == self.name {
            (self.with)(object);
        }
    }

    fn whole(self, list: &[u8]) -> UnsyncBoxBody<Bytes, io::Error> {
        let mut list: Value = serde_json::from_slice(list).expect("a list");
        for object in list["items"].as_array_mut().into_iter().flatten() {
            self.object(object);
        }
        let text = Bytes::from(list.to_string());
        Full::new(text).map_err(never).boxed_unsync()
    }

    fn lines(self, body: Body) -> UnsyncBoxBody<Bytes, io::Error> {
        let data = body.into_data_stream();
        let lines = data.scan(Vec::new(), move |rest: &mut Vec<u8>, data| {
            let whole = data.map_err(io::Error::other).map(|data| {
                rest.extend_from_slice(&data);
                let end = rest
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1);
                let lines: Vec<u8> = rest.drain(..end).collect();
                let mut out = Vec::new();
                for line in lines
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                {
                    let mut event: Value = serde_json::from_slice(line).expect("an event");
                    self.object(&mut event["object"]);
                    out.extend_from_slice(event.to_string().as_bytes());
                    out.push(b'\n');
                }
                Frame::data(Bytes::from(out))
            });
            std::future::ready(Some(whole))
        });
        BodyExt::boxed_unsync(StreamBody::new(lines))
    }
}

fn never(error: Infallible) -> io::Error {
    match error {}
}

fn refused(status: u16) -> Answer {
    let said = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
        "reason": "Interposed", "message": format!("it is told to say {status}"),
    });
    let body = Full::new(Bytes::from(said.to_string())).map_err(never);
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("retry-after", "1");
    answer.body(body.boxed_unsync()).expect("an answer")
}
