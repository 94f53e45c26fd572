//! What a client gets when: interim responses, the end of its connection.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, SendStream};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::http::websocket;
use crate::testing::{Scene, Server, connection, head};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A server, a session and a client that speaks HTTP/2 in it.
async fn scene() -> (Server, Scene, Client) {
    scene_of(OK).await
}

/// The same with a server that answers so.
async fn scene_of(answer: &'static str) -> (Server, Scene, Client) {
    let server = Server::start(answer).await;
    let scene = Scene::new(&[server.address]);
    let client = Client::of(&scene).await;
    (server, scene, client)
}

impl Client {
    async fn of(scene: &Scene) -> Self {
        let (client, io) = connection().await;
        tokio::spawn(super::serve(scene.session.clone(), io, Bytes::new()));
        let (requests, connection) = h2::client::handshake(client).await.expect("a greeting");
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// An extended CONNECT, as soon as the other side has said that it takes them.
    async fn connect(&mut self, protocol: &'static str) -> (ResponseFuture, SendStream<Bytes>) {
        let enabled = async {
            while !self.requests.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        };
        let enabled = timeout(Duration::from_secs(20), enabled).await;
        enabled.expect("its settings in time");
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://server.bench/chat")
            .extension(Protocol::from_static(protocol));
        let request = request.body(()).expect("a request");
        self.requests.send_request(request, false).expect("sent")
    }

    fn get(&mut self) -> h2::client::ResponseFuture {
        let request = Request::get("http://server.bench/").body(());
        let sent = self
            .requests
            .send_request(request.expect("a request"), true);
        sent.expect("sent").0
    }

    /// The connection ends, in order.
    async fn ends(self) {
        drop(self.requests);
        let ended = timeout(Duration::from_secs(20), self.connection).await;
        let ended = ended.expect("an end in time").expect("no panic");
        ended.expect("an orderly end");
    }
}

#[tokio::test]
async fn what_is_under_way_is_answered_and_nothing_more_is_taken() {
    let (mut server, scene, mut client) = scene().await;
    let response = client.get();
    server.arrived.recv().await.expect("a request");
    scene.end();
    // It refuses once it has heard of the end.
    let refuses = async {
        while client.requests.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let refuses = timeout(Duration::from_secs(20), refuses).await;
    refuses.expect("a refusal in time");
    server.answers.add_permits(1);
    let mut body = response.await.expect("a response").into_body();
    let piece = body.data().await.expect("a body").expect("all of it");
    assert_eq!(&*piece, b"ok");
    drop(body);
    client.ends().await;
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let (_server, scene, client) = scene().await;
    scene.end();
    let ended = timeout(Duration::from_secs(20), client.connection).await;
    let ended = ended.expect("an end in time").expect("no panic");
    ended.expect("an orderly end");
}

#[tokio::test]
async fn an_interim_response_that_comes_with_the_response_goes_before_it() {
    let both = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (server, _scene, mut client) = scene_of(both).await;
    server.answers.add_permits(1);
    let mut response = client.get();
    let early = poll_fn(|cx| response.poll_informational(cx)).await;
    let early = early.expect("hints").expect("an interim response");
    assert_eq!(early.status(), 103);
    assert_eq!(early.headers()["link"], "</a>");
    assert_eq!(response.await.expect("a response").status(), 200);
}

/// What a server of WebSocket says to a handshake (RFC 6455 section 4.2.2).
fn answered(head: &str) -> String {
    let mut lines = head.lines();
    let key = lines.find_map(|line| line.strip_prefix("sec-websocket-key: "));
    let accept = websocket::accept(key.expect("a key"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-protocol: chat\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// A backend that has got a handshake, and what it got.
async fn handshake(listener: &TcpListener) -> (TcpStream, String) {
    let (mut backend, _) = listener.accept().await.expect("a connection");
    let head = head(&mut backend).await.expect("a handshake");
    (backend, head)
}

#[tokio::test]
async fn a_websocket_goes_on_over_http_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let scene = Scene::new(&[listener.local_addr().expect("an address")]);
    let mut client = Client::of(&scene).await;
    let (response, mut up) = client.connect("websocket").await;
    up.send_data(Bytes::from_static(b"early"), false)
        .expect("room");
    let (mut backend, head) = handshake(&listener).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    // The client's bytes stay where they are until the backend has agreed.
    let mut bytes = [0; 5];
    let waiting = timeout(Duration::from_millis(50), backend.read(&mut bytes)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    backend
        .write_all(answered(&head).as_bytes())
        .await
        .expect("sent");
    backend
        .read_exact(&mut bytes)
        .await
        .expect("what was sent early");
    assert_eq!(&bytes, b"early");
    backend.write_all(b"reply").await.expect("sent");
    let response = response.await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let mut down = response.into_body();
    let piece = down.data().await.expect("a reply").expect("all of it");
    assert_eq!(&*piece, b"reply");
    // Each direction ends by itself.
    up.send_data(Bytes::new(), true).expect("room");
    assert_eq!(backend.read(&mut bytes).await.expect("an end"), 0);
    drop(backend);
    while let Some(piece) = down.data().await {
        assert_eq!(piece.expect("an orderly end"), "");
    }
}

#[tokio::test]
async fn an_answer_to_another_handshake_opens_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let scene = Scene::new(&[listener.local_addr().expect("an address")]);
    let mut client = Client::of(&scene).await;
    let (response, _up) = client.connect("websocket").await;
    let (mut backend, _) = handshake(&listener).await;
    let other = answered("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    backend.write_all(other.as_bytes()).await.expect("sent");
    let error = response.await.expect_err("nothing is open");
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
    assert_eq!(backend.read(&mut [0; 5]).await.expect("an end"), 0);
}

#[tokio::test]
async fn a_refused_handshake_and_another_protocol_are_answered() {
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let (server, _scene, mut client) = scene_of(refused).await;
    server.answers.add_permits(1);
    let (response, _up) = client.connect("websocket").await;
    assert_eq!(response.await.expect("a response").status(), 403);
    // OK would mean to the client that its WebSocket is open.
    let (server, _scene, mut plain) = scene_of(OK).await;
    server.answers.add_permits(1);
    let (response, _up) = plain.connect("websocket").await;
    let error = response.await.expect_err("nothing is open");
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
    let (response, _up) = client.connect("connect-udp").await;
    assert_eq!(response.await.expect("a response").status(), 501);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_nobodys_cancellation() {
    let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nno chunk\r\n";
    let (server, _scene, mut client) = scene_of(broken).await;
    server.answers.add_permits(1);
    // The reset may overtake what came before it.
    let error = match client.get().await {
        Ok(response) => {
            let mut body = response.into_body();
            loop {
                match body.data().await.expect("no end") {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            }
        }
        Err(error) => error,
    };
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
}
