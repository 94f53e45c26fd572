use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::sys::reset;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connected"), accepted.expect("accepted").0)
}

/// The client and the server of a relay between two TCP connections.
async fn relayed(half_closed: Duration) -> (TcpStream, TcpStream, JoinHandle<Result<(), Error>>) {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let relay = tokio::spawn(async move {
        let counters = Counters::default();
        relay_tcp(near, far, &counters, half_closed).await
    });
    (client, server, relay)
}

async fn assert_reset(mut stream: TcpStream, who: &str) {
    let error = stream.read_u8().await.expect_err(who);
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{who}");
}

#[tokio::test]
async fn a_reset_of_either_end_reaches_the_other_one() {
    for resets in ["the client", "the server"] {
        let (mut client, mut server, relay) = relayed(Duration::MAX).await;
        client.write_u8(1).await.expect("room");
        server.read_u8().await.expect("it runs");
        let other = if resets == "the client" {
            reset(client);
            server
        } else {
            reset(server);
            client
        };
        assert_reset(other, resets).await;
        relay.await.expect("no panic").expect_err(resets);
    }
}

#[tokio::test]
async fn what_is_half_closed_and_idle_is_reset_at_both_ends() {
    let (mut client, mut server, relay) = relayed(Duration::from_secs(1)).await;
    client.shutdown().await.expect("half-close");
    let ended = server.read_u8().await.expect_err("the end");
    assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    assert_reset(client, "the client").await;
    let error = relay.await.expect("no panic").expect_err("given up");
    assert_eq!(error.to_string(), "half closed, and idle for 1s");
    let written = async {
        // The first write is what the reset answers.
        while server.write_all(&[1]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let written = tokio::time::timeout(Duration::from_secs(20), written).await;
    written.expect("a reset in time");
}
