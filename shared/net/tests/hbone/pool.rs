//! How streams share connections.

use super::support::frames::{
    self, ACK, Frame, GOAWAY, HEADERS, PING, PREFACE, SETTINGS, WHOLE, write,
};
use rustls::HandshakeKind;
use tokio::sync::mpsc;

use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_pool_reuses_and_spreads_connections() {
    let ca = Ca::new();
    let settings = Settings {
        streams_per_connection: 3,
        spread: 1,
        ..Settings::default()
    };
    let target = target(&ca, &settings).await;
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), settings);
    let app = doubling_app().await.to_string();
    let mut held = Vec::new();
    for wanted in [1, 1, 1, 2, 2, 2, 3] {
        let opening = pool
            .open(&target, &certified, &app, HeaderMap::new())
            .await
            .expect("open");
        held.push(opening.established().await.expect("agreed"));
        assert_eq!(pool.connections(), wanted);
    }
    held.clear();
    let opening = pool
        .open(&target, &certified, &app, HeaderMap::new())
        .await
        .expect("open");
    opening.established().await.expect("agreed");
    assert_eq!(pool.connections(), 3, "an open connection is reused");
}

#[tokio::test]
async fn a_crowd_waits_for_one_connection_and_one_failure() {
    let (address, accepted) = silent().await;
    let settings = Settings {
        handshake_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), settings);
    let target = server_at(address);
    let certified = Ca::new().certified(CLIENT);
    let crowd = (0..50).map(|_| pool.open(&target, &certified, "10.0.0.1:80", HeaderMap::new()));
    for result in futures_util::future::join_all(crowd).await {
        let error = result.map(drop).expect_err("no answer");
        assert_eq!(error.stage(), Stage::Tls);
        assert!(error.timed_out() && error.nothing_sent(), "{error}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

/// Agrees to every tunnel over one connection, and gives what it was told last: the reason of a GOAWAY, if that was it.
async fn told_last(mut stream: tls::Stream) -> Option<h2::Reason> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.expect("HTTP/2");
    assert_eq!(preface, PREFACE);
    write(&mut stream, &Frame::new(SETTINGS, 0, 0, []).bytes()).await;
    let mut last = None;
    while let Some(frame) = frames::read(&mut stream).await {
        last = (frame.kind == GOAWAY).then(|| frame.word(4).into());
        let answer = match frame.kind {
            SETTINGS | PING if frame.flags & ACK == 0 => {
                let payload = if frame.kind == PING {
                    frame.payload
                } else {
                    Vec::new()
                };
                Frame::new(frame.kind, ACK, 0, payload)
            }
            // `:status: 200`, of the static table (RFC 7541 appendix A).
            HEADERS => Frame::new(HEADERS, WHOLE, frame.stream, [0x88]),
            _ => continue,
        };
        write(&mut stream, &answer.bytes()).await;
    }
    last
}

#[tokio::test]
async fn a_pool_that_lets_go_of_a_connection_says_goaway() {
    let ca = Ca::new();
    for how in ["the pool is gone", "the peer is evicted", "nobody used it"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let config = ca
            .certified(SERVER)
            .server_config()
            .expect("a configuration");
        let serving = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            told_last(tls::Stream::accept(tcp, config).await.expect("TLS")).await
        });
        let settings = Settings {
            idle_timeout: Duration::from_millis(if how == "nobody used it" { 50 } else { 60_000 }),
            ..Settings::default()
        };
        let pool = Pool::new(Sockets::default(), settings);
        let target = server_at(address);
        let opening = pool
            .open(
                &target,
                &ca.certified(CLIENT),
                "10.0.0.1:80",
                HeaderMap::new(),
            )
            .await
            .expect("open");
        drop(opening.established().await.expect("agreed"));
        match how {
            "the pool is gone" => drop(pool),
            "the peer is evicted" => pool.evict(address),
            _ => {}
        }
        let told = tokio::time::timeout(LIMIT, serving).await;
        let told = told.unwrap_or_else(|_| panic!("{how}: the connection stays open"));
        let told = told.expect("no panic");
        assert_eq!(told, Some(h2::Reason::NO_ERROR), "{how}");
    }
}

/// One that accepts connections, counts them and says nothing.
async fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(connection);
        }
    });
    (address, accepted)
}

#[tokio::test]
async fn a_silent_peer_delays_no_other() {
    let ca = Ca::new();
    let (address, accepted) = silent().await;
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), Settings::default());
    let to_silent = tokio::spawn({
        let (pool, certified) = (pool.clone(), certified.clone());
        async move {
            let target = server_at(address);
            pool.open(&target, &certified, "10.0.0.1:80", HeaderMap::new())
                .await
        }
    });
    while accepted.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let target = target(&ca, &Settings::default()).await;
    let app = doubling_app().await.to_string();
    let opening = pool
        .open(&target, &certified, &app, HeaderMap::new())
        .await
        .expect("open");
    opening.established().await.expect("agreed");
    assert!(!to_silent.is_finished(), "it is still being waited for");
    to_silent.abort();
}

#[tokio::test]
async fn a_burst_to_a_peer_that_takes_one_stream_gets_connections_enough() {
    let ca = Ca::new();
    let one = Settings {
        max_streams: 1,
        ..Settings::default()
    };
    let target = target(&ca, &one).await;
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), Settings::default());
    let app = doubling_app().await.to_string();
    let burst = (0..10).map(async |_| {
        let opening = pool
            .open(&target, &certified, &app, HeaderMap::new())
            .await
            .expect("open");
        opening.established().await.expect("agreed")
    });
    let held = tokio::time::timeout(LIMIT, futures_util::future::join_all(burst)).await;
    assert_eq!(held.expect("no stream waits for another").len(), 10);
    assert_eq!(pool.connections(), 10);
}

#[tokio::test]
async fn a_peer_that_takes_no_stream_is_an_error_for_all_who_wait() {
    let ca = Ca::new();
    let none = Settings {
        max_streams: 0,
        ..Settings::default()
    };
    let target = target(&ca, &none).await;
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), Settings::default());
    let crowd = (0..5).map(async |_| {
        let opening = pool
            .open(&target, &certified, "10.0.0.1:80", HeaderMap::new())
            .await?;
        opening.established().await.map(drop)
    });
    let crowd = futures_util::future::join_all(crowd);
    for result in tokio::time::timeout(LIMIT, crowd).await.expect("no wait") {
        let error = result.expect_err("no stream");
        assert!(error.nothing_sent(), "{error}");
    }
}

/// Agrees to everything, and tells how each connection's handshake went.
async fn agreeing(ca: &Ca) -> (Target, mpsc::UnboundedReceiver<HandshakeKind>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = server_at(listener.local_addr().expect("an address"));
    let config = ca
        .certified(SERVER)
        .server_config()
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let (kinds, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = acceptor.accept(tcp).await.expect("TLS");
            let kind = tls.get_ref().1.handshake_kind().expect("a handshake");
            kinds.send(kind).expect("the test goes on");
            let mut connection = h2::server::handshake(tls).await.expect("HTTP/2");
            tokio::spawn(async move {
                let mut held = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let response = http::Response::new(());
                    held.push((request, respond.send_response(response, false)));
                }
            });
        }
    });
    (target, told)
}

#[tokio::test]
async fn further_connections_to_a_peer_resume_its_session() {
    let ca = Ca::new();
    let (target, mut kinds) = agreeing(&ca).await;
    let certified = ca.certified(CLIENT);
    let one_each = Settings {
        streams_per_connection: 1,
        spread: 1,
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), one_each);
    let mut held = Vec::new();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let opening = pool
            .open(&target, &certified, "10.0.0.1:80", HeaderMap::new())
            .await
            .expect("open");
        held.push(opening.established().await.expect("agreed"));
        assert_eq!(kinds.recv().await, Some(kind));
    }
}
