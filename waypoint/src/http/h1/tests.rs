//! What a client gets when: interim responses, the end of its connection, another attempt.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::testing::{Scene, Server, connection, head};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: server.bench\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A server, a session and a client that speaks HTTP/1.1 in it.
async fn scene() -> (Server, Scene, TcpStream) {
    scene_of(OK).await
}

/// The same with a server that answers so.
async fn scene_of(answer: &'static str) -> (Server, Scene, TcpStream) {
    let server = Server::start(answer).await;
    let scene = Scene::new(&[server.address]);
    let (client, io) = connection().await;
    tokio::spawn(super::serve(scene.session.clone(), io, Bytes::new()));
    (server, scene, client)
}

/// The next response; whether its connection goes on.
async fn response(client: &mut TcpStream) -> bool {
    let head = head(client).await.expect("a response");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = [0; 2];
    client.read_exact(&mut body).await.expect("a body");
    assert_eq!(&body, b"ok");
    !head.to_ascii_lowercase().contains("connection: close")
}

/// What still comes before the connection ends.
async fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let reading = timeout(Duration::from_secs(20), client.read_to_end(&mut rest));
    let read = reading.await.expect("an end in time");
    read.expect("an orderly end");
    rest
}

#[tokio::test]
async fn what_is_under_way_is_answered_and_the_last() {
    let (mut server, scene, mut client) = scene().await;
    client.write_all(GET).await.expect("sent");
    server.arrived.recv().await.expect("a request");
    scene.end();
    server.answers.add_permits(1);
    assert!(!response(&mut client).await, "it says that it ends");
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn a_connection_in_use_has_one_more_answer() {
    let (server, scene, mut client) = scene().await;
    server.answers.add_permits(2);
    client.write_all(GET).await.expect("sent");
    assert!(response(&mut client).await, "it goes on");
    scene.end();
    client.write_all(GET).await.expect("sent");
    assert!(!response(&mut client).await, "it says that it ends");
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let (server, scene, mut client) = scene().await;
    server.answers.add_permits(1);
    client.write_all(GET).await.expect("sent");
    assert!(response(&mut client).await, "it goes on");
    scene.end();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn an_interim_response_that_comes_with_the_response_goes_before_it() {
    let both = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (server, _scene, mut client) = scene_of(both).await;
    server.answers.add_permits(1);
    client.write_all(GET).await.expect("sent");
    let early = head(&mut client).await.expect("hints");
    assert!(early.starts_with("HTTP/1.1 103 "), "{early}");
    assert!(early.contains("link: </a>"), "{early}");
    assert!(response(&mut client).await);
}

#[tokio::test]
async fn a_handshake_that_nobody_has_seen_is_made_elsewhere() {
    let server = Server::start(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    // Nobody listens there.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 2], server.address.port()));
    let scene = Scene::new(&[server.address, nobody]);
    // That none of them tries the other first is as likely as 1 in 65,536.
    for number in 0..16 {
        server.answers.add_permits(1);
        let (mut client, io) = connection().await;
        tokio::spawn(super::serve(scene.session.clone(), io, Bytes::new()));
        let handshake = "GET / HTTP/1.1\r\nhost: server.bench\r\n\
             connection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let sent = client.write_all(handshake.as_bytes()).await;
        sent.expect("sent");
        let head = head(&mut client).await.expect("a response");
        assert!(head.starts_with("HTTP/1.1 101 "), "{number}: {head}");
    }
}
