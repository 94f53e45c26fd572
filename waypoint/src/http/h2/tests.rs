//! What a client gets when: interim responses, the end of its connection.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::testing::{Scene, Server, connection};

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
    let (client, io) = connection().await;
    tokio::spawn(super::serve(scene.session.clone(), io, Bytes::new()));
    let (requests, connection) = h2::client::handshake(client).await.expect("a greeting");
    let client = Client {
        requests,
        connection: tokio::spawn(connection),
    };
    (server, scene, client)
}

impl Client {
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
    while client.requests.clone().ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
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
