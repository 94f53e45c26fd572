//! A certificate authority and a pair of connected tunnels, in process.
#![allow(dead_code, reason = "each test uses a part")]

pub mod frames;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_net::hbone::{Settings, server};
use ambit_net::revocation::Lists;
use ambit_net::revocation::testing::list;
use ambit_net::sys::{Listen, Sockets};
use ambit_net::tls::{self, Certified};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, SerialNumber,
};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Signs certificates for the tests.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What a test certificate says.
pub struct Leaf {
    pub uris: Vec<String>,
    pub valid: std::ops::Range<i64>,
}

impl Leaf {
    /// Valid from an hour ago for a day.
    pub fn of(uris: &[&str]) -> Self {
        Self {
            uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
            valid: -3600..86400,
        }
    }
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "test root");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// PEM chain and key of `leaf`.
    pub fn issue_pem(&self, leaf: &Leaf) -> (Vec<String>, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = leaf
            .uris
            .iter()
            .map(|uri| SanType::URI(uri.as_str().try_into().expect("a URI")))
            .collect();
        let at = |seconds: i64| {
            let offset = Duration::from_secs(seconds.unsigned_abs());
            let now = SystemTime::now();
            if seconds < 0 {
                now - offset
            } else {
                now + offset
            }
            .into()
        };
        params.not_before = at(leaf.valid.start);
        params.not_after = at(leaf.valid.end);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (vec![certificate.pem(), self.0.pem()], key.serialize_pem())
    }

    /// A list of these certificates.
    pub fn list(&self, revoked: &[&Certified]) -> Lists {
        let serial = |certified: &&Certified| {
            let parsed = X509Certificate::from_der(&certified.chain()[0]);
            let (_, certificate) = parsed.expect("a certificate");
            SerialNumber::from_slice(certificate.raw_serial())
        };
        let list = list(&self.0, revoked.iter().map(serial), |_| {});
        Lists::parse(list.as_bytes()).expect("read")
    }

    pub fn certified(&self, identity: &str) -> Arc<Certified> {
        let (chain, key) = self.issue_pem(&Leaf::of(&[identity]));
        Arc::new(Certified::from_pem(&chain, &key).expect("certified"))
    }
}

pub fn ids(texts: &[&str]) -> Arc<[Identity]> {
    texts
        .iter()
        .map(|text| text.parse().expect("an identity"))
        .collect()
}

/// A drain signal that never fires.
pub fn never_drain() -> watch::Receiver<bool> {
    static NEVER: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));
    NEVER.subscribe()
}

/// Serves HBONE on loopback as `certified`; every CONNECT goes to `on_connect`.
pub async fn serve(
    certified: Arc<Certified>,
    settings: Settings,
    drain: watch::Receiver<bool>,
    on_connect: impl Fn(server::Connect, Identity) + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let loopback = ([127, 0, 0, 1], 0).into();
    let listener = Sockets::default().listen(loopback, Listen::Plain);
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let config = certified.server_config().expect("a TLS configuration");
            let certified = certified.clone();
            let settings = settings.clone();
            let drain = drain.clone();
            let on_connect = on_connect.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls::Stream::accept(tcp, config).await else {
                    return;
                };
                let Ok(peer) = certified.peer_identity(&stream, certified.now()) else {
                    return;
                };
                let revoked = certified.until_revoked(&stream);
                let now = certified.now();
                let _ = server::serve(stream, &settings, now, drain, revoked, |connect| {
                    on_connect(connect, peer.clone());
                })
                .await;
            });
        }
    });
    address
}

/// A client that does not care who the server is.
#[derive(Debug)]
pub struct AnyServer;

mod any_server {
    use super::AnyServer;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for AnyServer {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ambit_net::tls::provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
