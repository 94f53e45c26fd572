//! The client against a control plane that the test plays by hand.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_proto::xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ambit_proto::xds::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status as Code, Streaming};

use super::*;
use crate::grpc::testing::{Authority, Files, Running, serve};

const A: &str = "type.example/A";
const B: &str = "type.example/B";

#[tokio::test]
async fn subscribes_as_itself_and_acknowledges() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    assert_eq!(stream.header("authorization"), "Bearer first");
    assert_eq!(stream.header("clusterid"), "cluster-1");
    for type_url in [A, B] {
        let request = stream.request().await;
        assert_eq!(request.type_url, type_url);
        assert_eq!(request.node.expect("says who it is").id, t.node_id);
        assert!(request.resource_names_subscribe.is_empty(), "wildcard");
        assert!(request.initial_resource_versions.is_empty());
    }
    assert!(!t.status.is_synced());
    stream.push(A, "n1", &[("x", "1")], &[]);
    assert_eq!(
        t.applied().await,
        (A.to_owned(), vec!["x".to_owned()], vec![])
    );
    assert_eq!(stream.answer().await, (A.to_owned(), "n1".to_owned(), None));
    stream.push(B, "n2", &[], &["y"]);
    assert_eq!(
        t.applied().await,
        (B.to_owned(), vec![], vec!["y".to_owned()])
    );
    assert_eq!(stream.answer().await, (B.to_owned(), "n2".to_owned(), None));
    t.status.synced().await;
    assert!(t.status.state().connected);
    assert_eq!(t.status.state_age(), Some(Duration::ZERO));
    assert_eq!(t.status.state().pushes, 2);
}

#[tokio::test]
async fn names_what_it_rejects_and_asks_for_it_again_on_the_next_stream() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    stream.push(
        A,
        "n1",
        &[("x", "1"), ("bad-1", "1"), ("y", "7"), ("bad-2", "1")],
        &[],
    );
    let error = "2 of 4 rejected; bad-1: not good; bad-2: not good".to_owned();
    assert_eq!(
        stream.answer().await,
        (A.to_owned(), "n1".to_owned(), Some((3, error.clone())))
    );
    stream.push(B, "n2", &[("b", "1")], &[]);
    assert_eq!(stream.answer().await.2, None);
    assert_eq!(
        (t.status.state().nacks, t.status.state().last_nack),
        (1, Some(error))
    );

    t.files.write("token", "second\n");
    drop(stream);
    let mut stream = t.stream().await;
    assert_eq!(stream.header("authorization"), "Bearer second");
    let held = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    };
    assert_eq!(
        stream.request().await.initial_resource_versions,
        held(&[("x", "1"), ("y", "7"), ("bad-1", ""), ("bad-2", "")])
    );
    assert_eq!(
        stream.request().await.initial_resource_versions,
        held(&[("b", "1")])
    );
    assert!(t.status.is_synced(), "what is known stays known");
}

#[tokio::test]
async fn a_rejected_first_answer_does_not_block_readiness() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    stream.push(A, "n1", &[("bad", "1")], &[]);
    stream.push(B, "n2", &[], &[]);
    t.status.synced().await;
}

#[tokio::test]
async fn a_piece_of_a_state_is_not_all_of_it() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    stream.push(B, "n1", &[], &[]);
    assert_eq!(stream.answer().await.1, "n1");
    stream.more_follows = true;
    stream.push(A, "n2", &[("x", "1")], &[]);
    assert_eq!(stream.answer().await.1, "n2");
    assert!(!t.status.is_synced());
    stream.more_follows = false;
    stream.push(A, "n3", &[("y", "1")], &[]);
    t.status.synced().await;
}

#[tokio::test]
async fn a_type_it_did_not_ask_for_is_refused_without_applying_it() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    stream.push("type.example/C", "n1", &[("x", "1")], &[]);
    let (_, _, error) = stream.answer().await;
    assert_eq!(
        error.expect("refused").1,
        "not subscribed to type.example/C"
    );
    assert!(t.applied.try_recv().is_err());
}

#[tokio::test]
async fn a_lost_stream_ages_the_state() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    assert_eq!(t.status.state_age(), None, "nothing is known yet");
    stream.push(A, "n1", &[], &[]);
    stream.push(B, "n2", &[], &[]);
    t.status.synced().await;
    stream.fail(Code::unavailable("restarting"));
    t.until(|state| !state.connected).await;
    assert!(
        t.status
            .state()
            .last_error
            .expect("said why")
            .contains("restarting")
    );
    assert!(t.status.state_age().expect("known") < Duration::from_secs(60));
    let _stream = t.stream().await;
    t.until(|state| state.connected && state.last_error.is_none())
        .await;
    assert_eq!(t.status.state_age(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_push_beyond_the_bound_ends_the_stream() {
    let mut t = Test::with(|config| config.max_message = 1024).await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    stream.push(A, &"n".repeat(2048), &[], &[]);
    t.until(|state| state.attempts > 1).await;
    assert!(t.applied.try_recv().is_err());
    let _stream = t.stream().await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let mut t = Test::with(|config| config.answer_timeout = Duration::from_millis(50)).await;
    t.until(|state| state.attempts > 1).await;
    let state = t.status.state();
    assert_eq!(
        state.last_error.as_deref(),
        Some("the control plane did not answer within 50ms")
    );
    assert!(!state.connected);
}

#[tokio::test]
async fn only_a_server_of_the_given_roots_and_name_is_talked_to() {
    let (ours, other) = (Authority::new(), Authority::new());
    let cases = [
        (
            "another authority",
            other.server("localhost", b"h2"),
            "invalid peer certificate",
        ),
        (
            "another name",
            ours.server("elsewhere", b"h2"),
            "not valid for name",
        ),
        (
            "no HTTP/2",
            ours.server("localhost", b"http/1.1"),
            "TLS handshake",
        ),
    ];
    for (name, tls, reason) in cases {
        let (ads, mut streams) = Ads::new();
        let server = serve(ads, Some(tls)).await;
        let mut t = Test::on(server, &ours, |_| {});
        t.until(|state| state.attempts > 1).await;
        let error = t.status.state().last_error.expect("said why");
        assert!(error.contains(reason), "{name}: {error}");
        assert!(
            streams.try_recv().is_err(),
            "{name}: nothing was said to it"
        );
    }
}

#[tokio::test]
async fn roots_and_token_are_read_again_for_every_connection() {
    let mut t = Test::start().await;
    let stream = t.stream().await;
    let right = t.authority.root_pem();
    let cases = [
        (
            "roots.pem",
            Authority::new().root_pem(),
            right.clone(),
            "invalid peer certificate",
        ),
        ("roots.pem", String::new(), right, "holds no certificate"),
        (
            "token",
            " \n".to_owned(),
            "third".to_owned(),
            "token is empty",
        ),
    ];
    let mut stream = Some(stream);
    for (file, wrong, right, reason) in cases {
        t.files.write(file, &wrong);
        stream.take();
        t.until(|state| {
            state
                .last_error
                .as_ref()
                .is_some_and(|e| e.contains(reason))
        })
        .await;
        t.files.write(file, &right);
        stream = Some(t.stream().await);
    }
    assert_eq!(
        stream.expect("connected").header("authorization"),
        "Bearer third"
    );
}

#[tokio::test]
async fn plain_http_serves_loopback() {
    let (ads, streams) = Ads::new();
    let server = serve(ads, None).await;
    let address = format!("http://{}", server.address).parse().expect("valid");
    let mut t = Test::on(server, &Authority::new(), |config| {
        config.remote.address = address
    });
    t.streams = Some(streams);
    t.stream().await.subscribed().await;
}

#[tokio::test]
async fn dropping_it_ends_the_stream() {
    let mut t = Test::start().await;
    let mut stream = t.stream().await;
    stream.subscribed().await;
    t.running.abort_all();
    stream.ended().await;
}

/// A client, and the control plane it talks to.
struct Test {
    authority: Authority,
    files: Files,
    node_id: String,
    status: Status,
    applied: mpsc::UnboundedReceiver<Push>,
    streams: Option<mpsc::UnboundedReceiver<Call>>,
    running: JoinSet<()>,
    _server: Running,
}

impl Test {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let (ads, streams) = Ads::new();
        let server = serve(ads, Some(authority.server("localhost", b"h2"))).await;
        let mut test = Self::on(server, &authority, edit);
        test.authority = authority;
        test.streams = Some(streams);
        test
    }

    fn on(server: Running, authority: &Authority, edit: impl FnOnce(&mut Config)) -> Self {
        let files = Files::new(&authority.root_pem(), "first");
        let node = Node::new("ztunnel", [10, 0, 0, 1].into(), "pod", "ns", "node-1");
        let node_id = node.id().to_owned();
        let mut config = Config::new(files.remote(&server), node, [A, B]);
        config.retry = (Duration::from_millis(1), Duration::from_millis(10));
        edit(&mut config);
        let (pushes, applied) = mpsc::unbounded_channel();
        let (client, status) = Client::new(config, move |push: Push| {
            let bad = push.resources.iter().filter(|r| r.name.starts_with("bad"));
            let rejections: Vec<_> = bad
                .map(|r| Rejection {
                    name: r.name.clone(),
                    reason: "not good".to_owned(),
                })
                .collect();
            let _ = pushes.send(push);
            if rejections.is_empty() {
                Ok(())
            } else {
                Err(rejections)
            }
        });
        let mut running = JoinSet::new();
        running.spawn(async move { match client.run().await {} });
        Self {
            authority: Authority::new(),
            files,
            node_id,
            status,
            applied,
            streams: None,
            running,
            _server: server,
        }
    }

    /// The next stream that the client opens.
    async fn stream(&mut self) -> Call {
        let streams = self.streams.as_mut().expect("has an ADS server");
        let call = streams.recv().await.expect("serving");
        call.accept();
        call
    }

    /// The next push that the handler saw: type, names, removed.
    async fn applied(&mut self) -> (String, Vec<String>, Vec<String>) {
        let push = self.applied.recv().await.expect("running");
        let names = push.resources.into_iter().map(|r| r.name).collect();
        (push.type_url.to_string(), names, push.removed)
    }

    async fn until(&mut self, condition: impl FnMut(&State) -> bool) {
        self.status
            .watch()
            .wait_for(condition)
            .await
            .expect("running");
    }
}

/// One stream, seen by the control plane.
struct Call {
    metadata: MetadataMap,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Code>>,
    accept: Arc<tokio::sync::Notify>,
    /// What pushes from now on say.
    more_follows: bool,
}

impl Call {
    fn accept(&self) {
        self.accept.notify_one();
    }

    fn header(&self, name: &str) -> &str {
        self.metadata
            .get(name)
            .expect("present")
            .to_str()
            .expect("text")
    }

    async fn request(&mut self) -> DeltaDiscoveryRequest {
        self.requests
            .message()
            .await
            .expect("no error")
            .expect("not the end")
    }

    async fn subscribed(&mut self) {
        for type_url in [A, B] {
            assert_eq!(self.request().await.type_url, type_url);
        }
    }

    /// Type, nonce, and code and message of the error if there is one.
    async fn answer(&mut self) -> (String, String, Option<(i32, String)>) {
        let request = self.request().await;
        assert!(request.node.is_none() && request.initial_resource_versions.is_empty());
        let error = request
            .error_detail
            .map(|status| (status.code, status.message));
        (request.type_url, request.response_nonce, error)
    }

    fn push(&self, type_url: &str, nonce: &str, resources: &[(&str, &str)], removed: &[&str]) {
        let resources = resources.iter().map(|(name, version)| xds::Resource {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            resource: Some(prost_types::Any {
                type_url: type_url.to_owned(),
                value: vec![1],
            }),
            ..Default::default()
        });
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            resources: resources.collect(),
            removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
            system_version_info: match self.more_follows {
                true => xds::MORE_FOLLOWS.to_owned(),
                false => "1".to_owned(),
            },
        };
        self.responses.send(Ok(response)).expect("the stream is up");
    }

    fn fail(&self, status: Code) {
        self.responses.send(Err(status)).expect("the stream is up");
    }

    async fn ended(&mut self) {
        while let Ok(Some(_)) = self.requests.message().await {}
    }
}

/// Hands every stream to the test, which accepts it when it likes.
struct Ads(mpsc::UnboundedSender<Call>);

impl Ads {
    fn new() -> (
        AggregatedDiscoveryServiceServer<Self>,
        mpsc::UnboundedReceiver<Call>,
    ) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (
            AggregatedDiscoveryServiceServer::new(Self(sender)),
            receiver,
        )
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Code>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Code> {
        let (metadata, _, requests) = request.into_parts();
        let (responses, outgoing) = mpsc::unbounded_channel();
        let accept = Arc::new(tokio::sync::Notify::new());
        let call = Call {
            metadata,
            requests,
            responses,
            accept: Arc::clone(&accept),
            more_follows: false,
        };
        self.0
            .send(call)
            .map_err(|_| Code::cancelled("the test is over"))?;
        accept.notified().await;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            outgoing,
        ))))
    }
}
