//! Who is accepted.

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use tokio::sync::mpsc;

use super::*;

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

/// Both ends settle what they are shown: a server what clients show, a client what servers do.
#[tokio::test]
async fn a_peer_is_believed_under_every_name_of_the_trust_domain() {
    const NAMES: [&str; 3] = ["new.example", "old.example", "other.example"];
    let party = |name: &str, who: &str| format!("spiffe://{name}/ns/shop/sa/{who}");
    let within = |own: &str, aliases: &str| {
        let own = own.parse().expect("a name");
        TrustDomains::new(own, aliases.parse().expect("aliases"))
    };
    let (ca, app) = (Ca::new(), doubling_app().await);
    let certified = |shown: &str, who: &str, names: &TrustDomains| {
        let (chain, key) = ca.issue_pem(&Leaf::of(&[&party(shown, who)]));
        let certified = Certified::from_pem(&chain, &key).expect("certified");
        Arc::new(certified.within(names.clone()))
    };
    // What is an alias to some is what others call it.
    for names in [
        within("new.example", "old.example"),
        within("old.example", "new.example"),
        within("new.example", ""),
    ] {
        let own = &**names.own();
        for (shown, meant) in NAMES.iter().flat_map(|it| NAMES.map(|meant| (*it, meant))) {
            let case = format!("{names:?}: {shown}, {meant}");
            let same = shown == meant || (names.contains(shown) && names.contains(meant));
            // A server that shows one name, to a client that means another.
            let server = certified(shown, "server", &names);
            let settings = Settings::default();
            let address = serve(server, settings.clone(), never_drain(), forward).await;
            let target = Target {
                address,
                identities: ids(&[&party(meant, "server")]),
            };
            let client = certified(shown, "client", &names);
            let opened = open(&target, &client, app).await;
            assert_eq!(opened.is_ok(), same, "{case}");
            drop(opened);
            // A client that shows one name, to a server that has another.
            let (seen, mut callers) = mpsc::unbounded_channel();
            let on_connect = move |connect: server::Connect, peer: Identity| {
                let _ = seen.send(peer.clone());
                forward(connect, peer);
            };
            let server = certified(meant, "server", &names);
            let address = serve(server, settings, never_drain(), on_connect).await;
            let target = Target {
                address,
                identities: ids(&[&party(meant, "server")]),
            };
            if !same {
                assert_refused(&case, &target, &client, app).await;
                continue;
            }
            let opening = open(&target, &client, app).await.expect(&case);
            opening.established().await.expect(&case);
            let caller = callers.recv().await.expect("a caller");
            let settled = if names.contains(shown) { own } else { shown };
            assert_eq!(caller.to_string(), party(settled, "client"), "{case}");
        }
    }
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

/// A server of the mesh but for what it says about ALPN.
async fn offering(ca: &Ca, protocols: Vec<Vec<u8>>) -> Target {
    let config = ca
        .certified(SERVER)
        .server_config()
        .expect("a configuration");
    let mut config = rustls::ServerConfig::clone(&config);
    config.alpn_protocols = protocols;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let tls = acceptor.accept(tcp).await?;
        // It would speak HTTP/2, had it been asked to.
        let mut connection = h2::server::handshake(tls)
            .await
            .map_err(std::io::Error::other)?;
        connection.accept().await;
        std::io::Result::Ok(())
    });
    server_at(address)
}

#[tokio::test]
async fn a_server_that_did_not_agree_on_h2_is_not_spoken_to() {
    let ca = Ca::new();
    let certified = ca.certified(CLIENT);
    let app = doubling_app().await;
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let target = offering(&ca, protocols.clone()).await;
        let error = open(&target, &certified, app)
            .await
            .map(drop)
            .expect_err("no ALPN");
        assert_eq!(error.stage(), Stage::Tls, "{protocols:?}: {error}");
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
