//! Tunnels end to end on loopback: who is accepted, what arrives, what happens when it breaks.

#[allow(unreachable_pub, missing_docs, reason = "shared by tests")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_net::hbone::{Opening, Pool, Settings, Stage, Target, server};
use ambit_net::relay::{Counters, Far, relay_tunnel};
use ambit_net::sys::Sockets;
use ambit_net::tls::{self, Certified};
use http::{HeaderMap, StatusCode};
use support::{Ca, Leaf, ids, never_drain, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

/// Dials the authority and relays.
fn forward(connect: server::Connect, _peer: ambit_core::identity::Identity) {
    tokio::spawn(async move {
        let Ok(app) = TcpStream::connect(connect.authority()).await else {
            return connect.refuse(StatusCode::SERVICE_UNAVAILABLE);
        };
        let stream = connect.accept(HeaderMap::new()).expect("a peer");
        let counters = Counters::default();
        let _ = relay_tunnel(app, Far::Established(stream), &counters, |_| {}).await;
    });
}

async fn target(ca: &Ca, settings: &Settings) -> Target {
    let certified = ca.certified(SERVER);
    let address = serve(certified, settings.clone(), never_drain(), forward).await;
    Target {
        address,
        identities: ids(&[SERVER]),
    }
}

async fn open(
    target: &Target,
    certified: &Arc<Certified>,
    authority: SocketAddr,
) -> Result<Opening, ambit_net::hbone::Error> {
    Pool::new(Sockets::default(), Settings::default())
        .open(target, certified, &authority.to_string(), HeaderMap::new())
        .await
}

/// A TCP connection whose other end is relayed into the tunnel.
async fn through(
    opening: Opening,
) -> (
    TcpStream,
    tokio::task::JoinHandle<Result<(), ambit_net::relay::Error>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address"))
        .await
        .expect("a connection");
    let (accepted, _) = listener.accept().await.expect("a connection");
    let relay = tokio::spawn(async move {
        let counters = Counters::default();
        relay_tunnel(accepted, Far::Opening(opening), &counters, |_| {}).await
    });
    (near, relay)
}

/// Answers everything it got, doubled at the end, once the client has finished sending.
async fn doubling_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("data");
                let copy = all.clone();
                all.extend(copy);
                stream.write_all(&all).await.expect("room");
            });
        }
    });
    address
}

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

#[tokio::test]
async fn data_is_sent_before_the_answer_and_a_refusal_is_the_error() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    // A port nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = free.local_addr().expect("an address");
    drop(free);
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

#[tokio::test]
async fn a_reset_of_the_client_reaches_the_application() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let app = listener.local_addr().expect("an address");
    let opening = open(&target, &ca.certified(CLIENT), app)
        .await
        .expect("open");
    let (mut near, _relay) = through(opening).await;
    near.write_all(b"x").await.expect("room");
    let (mut accepted, _) = listener.accept().await.expect("the tunnel's connection");
    accepted.read_exact(&mut [0]).await.expect("the byte");
    socket2::SockRef::from(&near)
        .set_linger(Some(Duration::ZERO))
        .expect("linger");
    drop(near);
    let error = accepted.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_relay_that_is_cut_resets_both_ends() {
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
    relay.abort();
    for end in [&mut near, &mut accepted] {
        let error = end.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

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
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let address = silent.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = silent.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(connection);
        }
    });
    let settings = Settings {
        handshake_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let pool = Pool::new(Sockets::default(), settings);
    let target = Target {
        address,
        identities: ids(&[SERVER]),
    };
    let certified = Ca::new().certified(CLIENT);
    let crowd = (0..50).map(|_| pool.open(&target, &certified, "10.0.0.1:80", HeaderMap::new()));
    for result in futures_util::future::join_all(crowd).await {
        let error = result.map(drop).expect_err("no answer");
        assert_eq!(error.stage(), Stage::Tls);
        assert!(error.timed_out() && error.nothing_sent(), "{error}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_ends_when_its_pool_has_let_go_of_it() {
    let ca = Ca::new();
    let app = doubling_app().await.to_string();
    for how in ["the pool is gone", "the peer is evicted", "nobody used it"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let config = ca
            .certified(SERVER)
            .server_config()
            .expect("a configuration");
        let serving = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let stream = tls::Stream::accept(tcp, config).await.expect("TLS");
            let settings = Settings::default();
            server::serve(stream, &settings, never_drain(), |connect| {
                forward(connect, ids(&[CLIENT])[0].clone());
            })
            .await
        });
        let settings = Settings {
            idle_timeout: Duration::from_millis(if how == "nobody used it" { 50 } else { 60_000 }),
            ..Settings::default()
        };
        let pool = Pool::new(Sockets::default(), settings);
        let target = Target {
            address,
            identities: ids(&[SERVER]),
        };
        let opening = pool
            .open(&target, &ca.certified(CLIENT), &app, HeaderMap::new())
            .await
            .expect("open");
        drop(opening.established().await.expect("agreed"));
        match how {
            "the pool is gone" => drop(pool),
            "the peer is evicted" => pool.evict(address),
            _ => {}
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
        assert!(ended.is_ok(), "{how}: the connection stays open");
    }
}

#[tokio::test]
async fn a_draining_server_finishes_streams_and_takes_no_more() {
    let ca = Ca::new();
    let (drain, drained) = tokio::sync::watch::channel(false);
    let address = serve(ca.certified(SERVER), Settings::default(), drained, forward).await;
    let target = Target {
        address,
        identities: ids(&[SERVER]),
    };
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
    let target = Target {
        address,
        identities: ids(&[SERVER]),
    };
    let opening = open(&target, &ca.certified(CLIENT), address).await;
    let _tunnel = opening.expect("open");
    let ended = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await;
    assert_eq!(ended, Ok(Some(true)));
}

/// A certificate that expires within two seconds.
fn short_lived(ca: &Ca, identity: &str) -> Arc<Certified> {
    let leaf = Leaf {
        valid: -60..2,
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
        let target = Target {
            address,
            identities: ids(&[SERVER]),
        };
        let pool = Pool::new(Sockets::default(), of_client);
        let opening = pool.open(&target, &client, &app, HeaderMap::new()).await;
        let (mut near, relay) = through(opening.expect("open")).await;
        near.write_all(b"still going").await.expect("room");
        let ended = tokio::time::timeout(Duration::from_secs(10), near.read(&mut [0])).await;
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
    let target = Target {
        address,
        identities: ids(&[SERVER]),
    };
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
    let target = Target {
        address,
        identities: ids(&[SERVER]),
    };
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

#[tokio::test]
async fn a_client_pins_the_server() {
    let ca = Ca::new();
    let certified = ca.certified(CLIENT);
    let app = doubling_app().await;
    let mut target = target(&ca, &Settings::default()).await;
    for expected in [
        "spiffe://cluster.local/ns/shop/sa/other",
        "spiffe://other.domain/ns/shop/sa/server",
    ] {
        target.identities = ids(&[expected]);
        let error = open(&target, &certified, app)
            .await
            .map(drop)
            .expect_err("pinned");
        assert_eq!(error.stage(), Stage::Tls, "{error}");
        assert!(error.to_string().contains(SERVER), "{error}");
    }
    target.identities = ids(&["spiffe://cluster.local/ns/shop/sa/other", SERVER]);
    open(&target, &certified, app)
        .await
        .map(drop)
        .expect("one of the expected");
}

#[tokio::test]
async fn a_server_refuses_strangers() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let app = doubling_app().await;
    let of = |ca: &Ca, leaf: Leaf| {
        let (chain, key) = ca.issue_pem(&leaf);
        Arc::new(Certified::from_pem(&chain, &key).expect("certified"))
    };
    let stranger = Ca::new();
    // Trusts our CA, but shows a certificate of another.
    let (mut chain, key) = stranger.issue_pem(&Leaf::of(&[CLIENT]));
    chain.extend(ca.issue_pem(&Leaf::of(&[CLIENT])).0.into_iter().skip(1));
    let other_root = Arc::new(Certified::from_pem(&chain, &key).expect("certified"));
    let cases = [
        ("another root", other_root),
        (
            "another trust domain",
            of(&ca, Leaf::of(&["spiffe://other.domain/ns/shop/sa/client"])),
        ),
        (
            "not yet valid",
            of(
                &ca,
                Leaf {
                    valid: 3600..7200,
                    ..Leaf::of(&[CLIENT])
                },
            ),
        ),
    ];
    for (case, certified) in cases {
        assert_refused(case, &target, &certified, app).await;
    }
    let expired = of(
        &ca,
        Leaf {
            valid: -7200..-3600,
            ..Leaf::of(&[CLIENT])
        },
    );
    let error = open(&target, &expired, app)
        .await
        .map(drop)
        .expect_err("expired");
    assert_eq!(
        error.to_string(),
        "the TLS handshake failed: our own certificate has expired"
    );
    assert_eq!(
        of_two_uris(&ca)
            .map(drop)
            .expect_err("two URIs")
            .to_string(),
        "a certificate of the mesh has exactly one URI subject alternative name, this one has 2"
    );
}

fn of_two_uris(ca: &Ca) -> Result<Certified, tls::Error> {
    let (chain, key) = ca.issue_pem(&Leaf::of(&[CLIENT, SERVER]));
    Certified::from_pem(&chain, &key)
}

/// In TLS 1.3 a server refuses a client after the client's handshake has ended: the refusal shows
/// at the first use of the connection.
async fn assert_refused(case: &str, target: &Target, certified: &Arc<Certified>, app: SocketAddr) {
    let refused = match open(target, certified, app).await {
        Err(_) => true,
        Ok(opening) => opening.established().await.is_err(),
    };
    assert!(refused, "{case} was accepted");
}

/// Clients that our own types refuse to be: raw rustls.
#[tokio::test]
async fn a_server_refuses_what_is_not_mesh_tls() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let material = |leaf: Leaf| {
        let (chain, key) = ca.issue_pem(&leaf);
        (
            vec![CertificateDer::from_pem_slice(chain[0].as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
        )
    };
    let client = |leaf: Leaf| {
        let (chain, key) = material(leaf);
        builder_of()
            .with_client_auth_cert(chain, key)
            .expect("a client")
    };
    fn builder_of() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>
    {
        rustls::ClientConfig::builder_with_provider(tls::provider().clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(support::AnyServer))
    }
    let h2 = |mut config: rustls::ClientConfig| {
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let cases = [
        (
            "no client certificate",
            h2(builder_of().with_no_client_auth()),
        ),
        ("two URIs", h2(client(Leaf::of(&[CLIENT, SERVER])))),
        (
            "expired",
            h2(client(Leaf {
                valid: -7200..-3600,
                ..Leaf::of(&[CLIENT])
            })),
        ),
        ("no ALPN", client(Leaf::of(&[CLIENT]))),
    ];
    for (case, config) in cases {
        let tcp = TcpStream::connect(target.address)
            .await
            .expect("a connection");
        let name = rustls::pki_types::ServerName::IpAddress(target.address.ip().into());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let Ok(mut tls) = connector.connect(name, tcp).await else {
            continue;
        };
        let refused = tls.read(&mut [0]).await;
        assert!(
            !matches!(refused, Ok(n) if n > 0),
            "{case}: the server spoke"
        );
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let tcp = TcpStream::connect(target.address)
        .await
        .expect("a connection");
    let config = ca
        .certified(CLIENT)
        .client_config(&target.identities)
        .expect("a configuration");
    let name = rustls::pki_types::ServerName::IpAddress(target.address.ip().into());
    let tls = tls::Stream::connect(tcp, config, name).await.expect("TLS");
    let (mut requests, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get("https://10.0.0.1/")
        .body(())
        .expect("a request");
    let (response, _) = requests.send_request(request, true).expect("sent");
    assert_eq!(
        response.await.expect("an answer").status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn sessions_resume_and_key_exchange_is_post_quantum() {
    let ca = Ca::new();
    let target = target(&ca, &Settings::default()).await;
    let config = ca
        .certified(CLIENT)
        .client_config(&target.identities)
        .expect("a configuration");
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let tcp = TcpStream::connect(target.address)
            .await
            .expect("a connection");
        let name = rustls::pki_types::ServerName::IpAddress(target.address.ip().into());
        let mut tls = tokio_rustls::TlsConnector::from(config.clone())
            .connect(name, tcp)
            .await
            .expect("TLS");
        // The server's first bytes come with the session ticket.
        tls.read_exact(&mut [0]).await.expect("HTTP/2 settings");
        let (_, session) = tls.get_ref();
        kinds.push(session.handshake_kind());
        assert_eq!(
            session
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
            Some(rustls::NamedGroup::X25519MLKEM768)
        );
        assert_eq!(
            session.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
    }
    assert_eq!(
        kinds,
        [
            Some(rustls::HandshakeKind::Full),
            Some(rustls::HandshakeKind::Resumed)
        ]
    );
}
