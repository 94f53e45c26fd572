//! Who shows a certificate that is revoked, before and while it talks.

use ambit_net::revocation::{Lists, Revocations};
use rustls::HandshakeKind;
use tokio::sync::watch;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// Lists that a test changes, and who is told.
fn lists() -> (watch::Sender<Arc<Lists>>, Revocations) {
    let (lists, told) = watch::channel(Arc::new(Lists::default()));
    (lists, Revocations::new(told))
}

/// A certificate of this identity, twice: neither knows of the sessions of the other.
fn twins(ca: &Ca, identity: &str) -> [Arc<Certified>; 2] {
    let (chain, key) = ca.issue_pem(&Leaf::of(&[identity]));
    [(); 2].map(|()| Arc::new(Certified::from_pem(&chain, &key).expect("certified")))
}

fn refusing(ca: &Ca, identity: &str, revocations: &Revocations) -> Arc<Certified> {
    let (chain, key) = ca.issue_pem(&Leaf::of(&[identity]));
    let certified = Certified::from_pem(&chain, &key).expect("certified");
    Arc::new(certified.refusing(revocations.clone()))
}

async fn server(certified: Arc<Certified>) -> Target {
    let settings = Settings::default();
    server_at(serve(certified, settings, never_drain(), forward).await)
}

/// Opens a connection of its own, and a tunnel in it.
async fn call(target: &Target, client: &Arc<Certified>, app: SocketAddr) -> Result<(), String> {
    let opening = open(target, client, app).await;
    let opening = opening.map_err(|error| error.to_string())?;
    let established = opening.established().await.map(drop);
    established.map_err(|error| error.to_string())
}

/// How a connection's handshake went, and whether the server says something then.
async fn greet(
    target: &Target,
    client: &Certified,
) -> (Option<HandshakeKind>, std::io::Result<usize>) {
    let config = client.client_config(&target.identities);
    let connector = tokio_rustls::TlsConnector::from(config.expect("a configuration"));
    let tcp = TcpStream::connect(target.address).await.expect("TCP");
    let name = rustls::pki_types::ServerName::IpAddress(target.address.ip().into());
    let mut tls = connector.connect(name, tcp).await.expect("TLS");
    let kind = tls.get_ref().1.handshake_kind();
    let first = tls.read_exact(&mut [0]).await;
    (kind, first)
}

#[tokio::test]
async fn a_client_on_a_list_is_refused_and_others_are_not() {
    let ca = Ca::new();
    let app = doubling_app().await;
    let (lists, revocations) = lists();
    let target = server(refusing(&ca, SERVER, &revocations)).await;
    let [client, fresh] = twins(&ca, CLIENT);
    let other = ca.certified(OTHER);
    for who in [&client, &other] {
        call(&target, who, app).await.expect("nobody is revoked");
    }
    let (kind, first) = greet(&target, &client).await;
    assert_eq!(kind, Some(HandshakeKind::Resumed), "without a list");
    first.expect("HTTP/2 settings");
    lists.send_replace(Arc::new(ca.list(&[&client])));
    call(&target, &fresh, app).await.expect_err("a new session");
    // Its handshake shows no certificate, and succeeds.
    let (kind, first) = greet(&target, &client).await;
    assert_eq!(kind, Some(HandshakeKind::Resumed), "with a list");
    first.expect_err("refused after the handshake");
    call(&target, &client, app)
        .await
        .expect_err("a session of before");
    call(&target, &other, app).await.expect("not on the list");
    lists.send_replace(Arc::new(ca.list(&[])));
    call(&target, &fresh, app).await.expect("off the list");
}

#[tokio::test]
async fn a_server_on_a_list_is_refused_in_plain_words() {
    let ca = Ca::new();
    let app = doubling_app().await;
    let (lists, revocations) = lists();
    let certified = ca.certified(SERVER);
    let target = server(certified.clone()).await;
    let client = refusing(&ca, CLIENT, &revocations);
    call(&target, &client, app)
        .await
        .expect("nobody is revoked");
    lists.send_replace(Arc::new(ca.list(&[&certified])));
    let fresh = refusing(&ca, CLIENT, &revocations);
    for (case, who) in [("a session of before", &client), ("a new session", &fresh)] {
        let error = open(&target, who, app).await.map(drop).expect_err(case);
        assert_eq!(error.stage(), Stage::Tls, "{case}");
        let words = error.to_string();
        assert!(
            words.ends_with("the peer's certificate is revoked"),
            "{case}: {words}"
        );
    }
}

/// What is looked at for lists has an end, which a peer does not choose.
#[tokio::test]
async fn a_peer_that_shows_many_certificates_is_refused() {
    let ca = Ca::new();
    let app = doubling_app().await;
    let showing = |identity: &str, count: usize| {
        let (chain, key) = ca.issue_pem(&Leaf::of(&[identity]));
        let mut shown = vec![chain[0].clone(); count];
        shown.push(chain[1].clone());
        Arc::new(Certified::from_pem(&shown, &key).expect("certified"))
    };
    for (client, certified, accepted) in [(8, 8, true), (9, 1, false), (1, 9, false)] {
        let target = server(showing(SERVER, certified)).await;
        let result = call(&target, &showing(CLIENT, client), app).await;
        assert_eq!(
            result.is_ok(),
            accepted,
            "{client}, {certified}: {result:?}"
        );
    }
}

/// Each end alone sees to it.
#[tokio::test]
async fn a_connection_ends_when_the_certificate_of_its_peer_is_revoked() {
    let ca = Ca::new();
    let app = doubling_app().await;
    for revoked in [CLIENT, SERVER] {
        let (lists, revocations) = lists();
        let (client, certified) = match revoked {
            CLIENT => (ca.certified(CLIENT), refusing(&ca, SERVER, &revocations)),
            _ => (refusing(&ca, CLIENT, &revocations), ca.certified(SERVER)),
        };
        let target = server(certified.clone()).await;
        let opening = open(&target, &client, app).await.expect("open");
        let (mut near, relay) = through(opening).await;
        near.write_all(b"still going").await.expect("room");
        // Lists of others end nothing.
        lists.send_replace(Arc::new(ca.list(&[&ca.certified(OTHER)])));
        call(&target, &client, app).await.expect("it goes on");
        assert!(!relay.is_finished());
        let gone = if revoked == CLIENT {
            &client
        } else {
            &certified
        };
        lists.send_replace(Arc::new(ca.list(&[gone])));
        let ended = tokio::time::timeout(PATIENCE, near.read(&mut [0])).await;
        let ended = ended.unwrap_or_else(|_| panic!("{revoked}: it goes on"));
        ended.expect_err("a reset");
        relay.await.expect("no panic").expect_err("cut");
    }
}
