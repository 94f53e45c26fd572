//! UDP in tunnels: datagrams arrive as they were, in both directions, and nothing waits for room.

use ambit_net::hbone::Datagrams;
use ambit_net::relay;

use super::*;

/// Tunnels for UDP are offered.
fn offering() -> Settings {
    Settings {
        takes_udp: true,
        ..Settings::default()
    }
}

/// Sends back what comes, to who asks for port 7; refuses anything else.
fn echo(connect: server::Connect, _peer: ambit_core::identity::Identity) {
    tokio::spawn(async move {
        let asked = connect.datagrams().expect("UDP").expect("an address");
        assert!(connect.headers().contains_key("capsule-protocol"));
        if asked.port() != 7 {
            return connect.refuse(StatusCode::UNAUTHORIZED);
        }
        let stream = connect.accept(HeaderMap::new()).expect("a peer");
        let mut tunnel = Datagrams::from(stream);
        while let Ok(Some(payload)) = tunnel.receive().await {
            if payload == b"over" {
                return tunnel.finish();
            }
            tunnel.send(&payload).expect("a peer");
        }
    });
}

async fn tunnel(settings: Settings, to: &str) -> Result<Datagrams, ambit_net::hbone::Error> {
    let ca = Ca::new();
    let address = serve(ca.certified(SERVER), settings, never_drain(), echo).await;
    let opening = Pool::new(Sockets::default(), Settings::default())
        .open_datagrams(
            None,
            &server_at(address),
            &ca.certified(CLIENT),
            to.parse().expect("an address"),
            HeaderMap::new(),
        )
        .await?;
    Ok(opening.into())
}

#[tokio::test]
async fn datagrams_arrive_as_they_were() {
    for to in ["10.0.0.1:7", "[fd00::1]:7"] {
        let mut tunnel = tunnel(offering(), to).await.expect("a tunnel");
        for payload in [&b""[..], b"one", &[7; 8_000], &[9; 60_000]] {
            assert!(tunnel.send(payload).expect("open"), "{}", payload.len());
            let back = tunnel.receive().await.expect("open");
            assert!(back.as_deref() == Some(payload), "{}", payload.len());
        }
        assert!(
            !tunnel.send(&[0; 65_528]).expect("open"),
            "longer than UDP has it"
        );
        assert!(tunnel.send(b"over").expect("open"));
        assert_eq!(tunnel.receive().await.expect("an end"), None);
    }
}

#[tokio::test]
async fn who_offers_none_is_asked_for_none() {
    let refused = tunnel(Settings::default(), "10.0.0.1:7").await.err();
    let error = refused.expect("not offered");
    assert_eq!(error.stage(), Stage::Http2);
    assert!(
        error.to_string().contains("the peer carries no UDP"),
        "{error}"
    );
}

#[tokio::test]
async fn who_is_gone_before_it_could_say_is_not_said_to_offer_none() {
    let ca = Ca::new();
    let certified = ca.certified(SERVER);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = certified.server_config().expect("a certificate");
            drop(tls::Stream::accept(stream, config).await);
        }
    });
    let pool = Pool::new(Sockets::default(), Settings::default());
    let (target, own) = (server_at(address), ca.certified(CLIENT));
    let to = "10.0.0.1:7".parse().expect("an address");
    let opening = pool.open_datagrams(None, &target, &own, to, HeaderMap::new());
    let error = opening.await.err().expect("nobody is there");
    assert!(!error.to_string().contains("UDP"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_how_the_flow_ends() {
    let mut tunnel = tunnel(offering(), "10.0.0.1:8").await.expect("asked");
    match tunnel.receive().await.expect_err("refused") {
        relay::Error::Tunnel(error) => assert_eq!(error.stage(), Stage::Refused(401)),
        error => panic!("{error}"),
    }
}

/// Takes UDP and reads nothing of it.
fn hold(connect: server::Connect, _peer: ambit_core::identity::Identity) {
    let stream = connect.accept(HeaderMap::new()).expect("a peer");
    tokio::spawn(async move {
        let _held = Datagrams::from(stream);
        std::future::pending::<()>().await;
    });
}

#[tokio::test]
async fn what_finds_no_room_is_not_kept() {
    let ca = Ca::new();
    let address = serve(ca.certified(SERVER), offering(), never_drain(), hold).await;
    let pool = Pool::new(Sockets::default(), Settings::default());
    let (target, certified) = (server_at(address), ca.certified(CLIENT));
    let to = "10.0.0.1:7".parse().expect("an address");
    let open = || pool.open_datagrams(None, &target, &certified, to, HeaderMap::new());
    let mut tunnel = Datagrams::from(open().await.expect("a tunnel"));
    let payload = [0; 1_000];
    let mut sent = 0;
    while tunnel.send(&payload).expect("open") {
        sent += 1;
        assert!(sent < 100_000, "a window is finite");
        tokio::task::yield_now().await;
    }
    assert!(sent > 100, "{sent}");
}
