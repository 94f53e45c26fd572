//! How long connections and answers may take, and how they end.

use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_draining_server_finishes_streams() {
    let ca = Ca::new();
    let (drain, drained) = tokio::sync::watch::channel(false);
    let address = serve(ca.certified(SERVER), Settings::default(), drained, forward).await;
    let target = server_at(address);
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), Settings::default());
    let app = doubling_app().await.to_string();
    let opening = pool
        .open(&target, &certified, &app, HeaderMap::new())
        .await
        .expect("open");
    let (mut near, _relay) = through(opening).await;
    near.write_all(b"before").await.expect("room");
    drain.send(true).expect("a server");
    near.write_all(b" after").await.expect("room");
    near.shutdown().await.expect("half-close");
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "before afterbefore after");
}

#[tokio::test]
async fn a_draining_server_says_goaway_and_the_stream_that_runs_goes_on() {
    let ca = Ca::new();
    let (drain, drained) = tokio::sync::watch::channel(false);
    let address = serve(ca.certified(SERVER), Settings::default(), drained, forward).await;
    let mut requests = raw_client(&ca, address).await;
    let app = doubling_app().await.to_string();
    let connect = || {
        let request = http::Request::connect(&*app).body(());
        request.expect("a request")
    };
    let (response, mut send) = requests.send_request(connect(), false).expect("sent");
    let mut body = response.await.expect("agreed").into_body();
    drain.send(true).expect("a server");
    let goaway = async {
        loop {
            match std::future::poll_fn(|cx| requests.poll_ready(cx)).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), goaway).await;
    let error = error.expect("a GOAWAY");
    assert!(error.is_go_away() && error.is_remote(), "{error}");
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
    let refused = requests.send_request(connect(), false);
    refused.map(drop).expect_err("nothing new");
    send.send_data("on".into(), true).expect("it still runs");
    let answer = body.data().await.expect("an answer").expect("a stream");
    assert_eq!(answer, "onon");
}

/// HTTP/2 as a client of the mesh, without a pool.
pub(super) async fn raw_client(
    ca: &Ca,
    address: SocketAddr,
) -> h2::client::SendRequest<bytes::Bytes> {
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let config = ca
        .certified(CLIENT)
        .client_config(&ids(&[SERVER]))
        .expect("a configuration");
    let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
    let tls = tls::Stream::connect(tcp, config, name).await.expect("TLS");
    let (requests, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
    tokio::spawn(connection);
    requests
}

#[tokio::test]
async fn a_connection_of_age_keeps_its_streams_and_takes_no_more() {
    let ca = Ca::new();
    let settings = Settings {
        connection_age: Some(Duration::from_millis(50)),
        ..Settings::default()
    };
    let target = target(&ca, &settings).await;
    let certified = ca.certified(CLIENT);
    let one = Settings {
        spread: 1,
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), one);
    let app = doubling_app().await.to_string();
    let open = async || {
        let opening = pool.open(&target, &certified, &app, HeaderMap::new()).await;
        opening.expect("open")
    };
    let (mut near, _relay) = through(open().await).await;
    near.write_all(b"early").await.expect("room");
    let another = async {
        loop {
            let later = open().await.established().await.expect("agreed");
            // The first stream is counted for as long as its connection takes new ones.
            if pool.streams(&target) == 1 {
                return later;
            }
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, another)
        .await
        .expect("another connection");
    near.write_all(b" late").await.expect("room");
    near.shutdown().await.expect("half-close");
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "early lateearly late");
}

#[tokio::test]
async fn tunnels_hear_that_their_connection_is_of_age() {
    let ca = Ca::new();
    let settings = Settings {
        connection_age: Some(Duration::from_millis(50)),
        ..Settings::default()
    };
    let (told, mut ends) = mpsc::unbounded_channel();
    let on_connect = move |connect: server::Connect, _| {
        let (told, mut ending) = (told.clone(), connect.ending());
        tokio::spawn(async move {
            let _stream = connect.accept(HeaderMap::new()).expect("a peer");
            let _ = told.send(ending.wait_for(|ending| *ending).await.is_ok());
        });
    };
    let address = serve(ca.certified(SERVER), settings, never_drain(), on_connect).await;
    let target = server_at(address);
    let opening = open(&target, &ca.certified(CLIENT), address).await;
    let _tunnel = opening.expect("open");
    let ended = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await;
    assert_eq!(ended, Ok(Some(true)));
}

/// A certificate that expires within five seconds.
fn short_lived(ca: &Ca, identity: &str) -> Arc<Certified> {
    let leaf = Leaf {
        valid: -60..5,
        ..Leaf::of(&[identity])
    };
    let (chain, key) = ca.issue_pem(&leaf);
    Arc::new(Certified::from_pem(&chain, &key).expect("certified"))
}

fn with_grace(expired_grace: Duration) -> Settings {
    Settings {
        expired_grace,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_connection_ends_when_a_certificate_of_it_has_expired() {
    let ca = Ca::new();
    let app = doubling_app().await.to_string();
    let hour = Duration::from_secs(3600);
    // Each end alone sees to it.
    for (case, expires, graces) in [
        (
            "the server closes when the client's expires",
            CLIENT,
            [hour, Duration::ZERO],
        ),
        (
            "the client closes when the server's expires",
            SERVER,
            [Duration::ZERO, hour],
        ),
        (
            "the client closes when its own expires",
            CLIENT,
            [Duration::ZERO, hour],
        ),
    ] {
        let [client, server] = [CLIENT, SERVER].map(|who| {
            if who == expires {
                short_lived(&ca, who)
            } else {
                ca.certified(who)
            }
        });
        let [of_client, of_server] = graces.map(with_grace);
        let address = serve(server, of_server, never_drain(), forward).await;
        let target = server_at(address);
        let pool = Pool::new(Sockets::default(), of_client);
        let opening = pool.open(&target, &client, &app, HeaderMap::new()).await;
        let (mut near, relay) = through(opening.expect("open")).await;
        near.write_all(b"still going").await.expect("room");
        let ended = tokio::time::timeout(Duration::from_secs(30), near.read(&mut [0])).await;
        let ended = ended.unwrap_or_else(|_| panic!("{case}: it goes on"));
        ended.expect_err("a reset");
        relay.await.expect("no panic").expect_err("cut");
    }
}

#[tokio::test]
async fn a_connection_takes_nothing_new_once_a_certificate_of_it_has_expired() {
    let ca = Ca::new();
    let app = doubling_app().await.to_string();
    let server = short_lived(&ca, SERVER);
    let address = serve(server, Settings::default(), never_drain(), forward).await;
    let target = server_at(address);
    let certified = ca.certified(CLIENT);
    let pool = Pool::new(Sockets::default(), Settings::default());
    let open = || pool.open(&target, &certified, &app, HeaderMap::new());
    let (mut near, _relay) = through(open().await.expect("open")).await;
    // The server has no other certificate, so the next connection is refused in its handshake.
    let error = loop {
        match open().await {
            Ok(opening) => drop(opening.established().await.expect("agreed")),
            Err(error) => break error,
        }
    };
    assert_eq!(error.stage(), Stage::Tls, "{error}");
    // What ran before goes on.
    near.write_all(b"after").await.expect("room");
    near.shutdown().await.expect("half-close");
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "afterafter");
}

#[tokio::test]
async fn an_answer_to_a_connect_has_its_time() {
    let ca = Ca::new();
    let (held, holding) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(
        ca.certified(SERVER),
        Settings::default(),
        never_drain(),
        move |connect, _| held.send(connect).map_err(drop).expect("the test goes on"),
    )
    .await;
    let target = server_at(address);
    let settings = Settings {
        answer_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), settings);
    let certified = ca.certified(CLIENT);
    let open = || pool.open(&target, &certified, "10.0.0.1:80", HeaderMap::new());
    let opening = open().await.expect("open");
    let error = opening.established().await.map(drop).expect_err("silence");
    assert!(
        error.stage() == Stage::Response && error.timed_out() && !error.nothing_sent(),
        "{error}"
    );
    let (mut near, relay) = through(open().await.expect("open")).await;
    near.read(&mut [0]).await.expect_err("a reset");
    relay.await.expect("no panic").expect_err("silence");
    drop(holding);
}
