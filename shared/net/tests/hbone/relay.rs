//! What is carried: data, ends and resets.

use ambit_net::sys::reset;
use tokio::net::TcpSocket;

use super::*;

#[tokio::test]
async fn bytes_arrive_intact_and_half_close_is_carried() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let app = doubling_app().await;
    let opening = open(&target, &ca.certified(CLIENT), app)
        .await
        .expect("open");
    let (mut near, relay) = through(opening).await;

    let payload: Vec<u8> = (0..3_000_001u32).map(|n| (n * 31 % 251) as u8).collect();
    let (mut read, mut write) = near.split();
    let mut answer = Vec::new();
    let send = async {
        write.write_all(&payload).await.expect("room");
        write.shutdown().await.expect("half-close");
    };
    let (_, received) = tokio::join!(send, read.read_to_end(&mut answer));
    received.expect("an orderly end");
    assert_eq!(answer.len(), payload.len() * 2);
    assert!(answer[..payload.len()] == payload[..] && answer[payload.len()..] == payload[..]);
    relay.await.expect("no panic").expect("a clean end");
}

/// Answers a CONNECT once the first word of the client has arrived.
async fn hears_before_it_answers(ca: &Ca) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = ca
        .certified(SERVER)
        .server_config()
        .expect("a configuration");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let tls = tls::Stream::accept(tcp, config).await.expect("TLS");
        let mut connection = h2::server::handshake(tls).await.expect("HTTP/2");
        let (request, mut respond) = connection.accept().await.expect("one").expect("a CONNECT");
        let mut body = request.into_body();
        let answer = async {
            let heard = body.data().await.expect("a word").expect("a stream");
            let response = http::Response::new(());
            let mut send = respond.send_response(response, false).expect("a peer");
            send.send_data(heard, true).expect("a peer");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = connection.accept() => {}
            () = answer => {}
        }
    });
    server_at(address)
}

#[tokio::test]
async fn the_first_bytes_do_not_wait_for_the_answer() {
    let ca = Ca::new();
    let target = hears_before_it_answers(&ca).await;
    let nowhere = ([10, 0, 0, 1], 80).into();
    let opening = open(&target, &ca.certified(CLIENT), nowhere)
        .await
        .expect("open");
    let (mut near, _relay) = through(opening).await;
    near.write_all(b"early").await.expect("room");
    let mut echoed = [0; 5];
    tokio::time::timeout(Duration::from_secs(10), near.read_exact(&mut echoed))
        .await
        .expect("no wait for an answer that waits for us")
        .expect("an answer");
    assert_eq!(&echoed, b"early");
}

#[tokio::test]
async fn a_refusal_is_the_error_and_the_client_sees_a_reset() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    // A port that is taken, and that nobody listens on.
    let taken = TcpSocket::new_v4().expect("a socket");
    taken.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let nobody = taken.local_addr().expect("an address");
    let opening = open(&target, &ca.certified(CLIENT), nobody)
        .await
        .expect("open");
    let (mut near, relay) = through(opening).await;
    near.write_all(b"early").await.expect("room");
    let error = relay.await.expect("no panic").expect_err("refused");
    assert!(
        matches!(&error, ambit_net::relay::Error::Tunnel(error) if error.stage() == Stage::Refused(503)),
        "{error}"
    );
    let reset = near.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A client, the application that it reached through a tunnel, and the relay at its end.
async fn joined() -> (TcpStream, TcpStream, Relay) {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = listener.local_addr().expect("an address");
    let opening = open(&target, &ca.certified(CLIENT), app)
        .await
        .expect("open");
    let (mut near, relay) = through(opening).await;
    near.write_all(b"x").await.expect("room");
    let (mut accepted, _) = listener.accept().await.expect("the tunnel's connection");
    accepted.read_exact(&mut [0]).await.expect("the byte");
    (near, accepted, relay)
}

#[tokio::test]
async fn a_reset_of_the_client_reaches_the_application() {
    let (near, mut accepted, _relay) = joined().await;
    reset(near);
    let error = accepted.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_relay_that_is_cut_resets_both_ends() {
    let (mut near, mut accepted, relay) = joined().await;
    relay.abort();
    for end in [&mut near, &mut accepted] {
        let error = end.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reset_of_the_application_reaches_the_client() {
    let (mut near, accepted, _relay) = joined().await;
    reset(accepted);
    let error = near.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
