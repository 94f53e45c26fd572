//! Certificates that a client of the control plane shows. Its handshake proves that it has the key; who that makes it is judged
//! later, of each request, so that the answer can say what is wrong, and so that it is judged by what is trusted and revoked then.

use std::sync::Arc;
use std::time::SystemTime;

use ambit_core::identity::Identity;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::oid_registry::OID_X509_DN_QUALIFIER;

use super::certified::parse;
use super::config::provider;
use super::shown::Shown;
use super::verify::{identity_of, short_enough, tls12_not_offered};
use crate::revocation::Lists;

/// What a client has shown, the leaf first; the leaf's key is its.
#[derive(Debug, Clone)]
pub struct Chain(Arc<[CertificateDer<'static>]>);

/// Who has shown a chain that leads to a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// As the certificate says.
    pub identity: Identity,
    /// The qualifier of the certificate's subject (`dnQualifier`, RFC 5280 section 4.1.2.4), which says what it is for, if it has one.
    pub qualifier: Option<String>,
}

impl Chain {
    /// These certificates, the leaf first, whose key somebody was proved to have.
    #[must_use]
    pub fn new(shown: Vec<CertificateDer<'static>>) -> Self {
        Self(shown.into())
    }

    /// What the client of this handshake has shown, if it has.
    #[must_use]
    pub fn of(session: &rustls::ServerConnection) -> Option<Self> {
        let shown = session.peer_certificates()?;
        let owned = shown.iter().map(|it| it.clone().into_owned());
        Some(Self::new(owned.collect()))
    }

    /// The certificate whose key the client has.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.0.first()
    }

    /// When its leaf ends. `None` of what is no certificate.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        Some(Shown::of(self.leaf()?).ok()?.not_after)
    }
}

/// Judges what clients have shown. Made once for its roots and lists, since anybody may show something.
#[derive(Debug)]
pub struct ChainJudge {
    roots: Vec<CertificateDer<'static>>,
    lists: Lists,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ChainJudge {
    /// Believes what leads to one of the roots and is on none of the lists.
    ///
    /// # Errors
    /// There is no root, or one is not a certificate that others can lead to.
    pub fn new(roots: Vec<CertificateDer<'static>>, lists: Lists) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| error.to_string())?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider().clone())
                .build()
                .map_err(|error| error.to_string())?;
        Ok(Self {
            roots,
            lists,
            verifier,
        })
    }

    /// Who a chain makes its owner now. The lists are looked into for what a root has signed alone.
    ///
    /// # Errors
    /// The chain leads to none of the roots, is not good now or not for a client, is revoked by the lists, or its leaf is no
    /// identity of the mesh.
    pub fn check(&self, shown: &Chain, now: SystemTime) -> Result<Proven, String> {
        let [leaf, intermediates @ ..] = &*shown.0 else {
            return Err("no certificate was shown".to_owned());
        };
        let words = |error: rustls::Error| error.to_string();
        short_enough(intermediates).map_err(words)?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since.unwrap_or_default());
        self.verifier
            .verify_client_cert(leaf, intermediates, now)
            .map_err(words)?;
        if let Some(revoked) = self.lists.find(leaf, intermediates, &self.roots) {
            return Err(revoked.to_string());
        }
        Ok(Proven {
            identity: identity_of(leaf).map_err(|error| error.to_string())?,
            qualifier: qualifier(leaf)?,
        })
    }
}

fn qualifier(leaf: &CertificateDer<'_>) -> Result<Option<String>, String> {
    let leaf = parse(leaf).map_err(|error| error.to_string())?;
    let mut named = leaf.subject().iter_by_oid(&OID_X509_DN_QUALIFIER);
    let text = named.next().and_then(|it| it.as_str().ok());
    // Two would say two things.
    Ok(text.filter(|_| named.next().is_none()).map(str::to_owned))
}

/// Believes that a client has the key of what it shows, once it has signed the handshake with it.
#[derive(Debug)]
pub(super) struct KeyVerifier;

impl ClientCertVerifier for KeyVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // See [`ChainJudge::check`].
        short_enough(intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12_not_offered()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::{plain_client_config, plain_server_config};
    use super::*;
    use crate::grpc::testing::Authority;

    const ID: &str = "spiffe://cluster.local/ns/shop/sa/vm";

    fn signed(authority: &Authority, name: SanType, key: &KeyPair) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        let qualifier = DnType::CustomDnType(vec![2, 5, 4, 46]);
        params
            .distinguished_name
            .push(qualifier, "WorkloadEntry/vm-1");
        let signed = params.signed_by(key, authority.issuer()).expect("signed");
        signed.der().clone()
    }

    fn with_key(leaf: CertificateDer<'static>, key: &KeyPair) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = provider()
            .key_provider
            .load_private_key(key)
            .expect("a key");
        Arc::new(CertifiedKey::new(vec![leaf], key))
    }

    /// What a server knows of a client that shows this.
    async fn handshake(
        authority: &Authority,
        shown: Option<Arc<CertifiedKey>>,
    ) -> Result<Option<Chain>, String> {
        let key = KeyPair::generate().expect("a key");
        let name = SanType::DnsName("control".try_into().expect("a name"));
        let own = with_key(signed(authority, name, &key), &key);
        let server = plain_server_config(Arc::new(SingleCertAndKey::from(own))).expect("a server");
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer().der().clone()).expect("a root");
        let client = plain_client_config(roots, shown).expect("a client");
        let (here, there) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("control").expect("a name");
        let (accepted, _connected) = tokio::join!(
            TlsAcceptor::from(server).accept(here),
            TlsConnector::from(client).connect(name, there),
        );
        let session = accepted.map_err(|error| error.to_string())?;
        Ok(Chain::of(session.get_ref().1))
    }

    #[tokio::test]
    async fn who_has_the_key_is_who_the_certificate_says() {
        let authority = Authority::new();
        let key = KeyPair::generate().expect("a key");
        let uri = || SanType::URI(ID.try_into().expect("a URI"));
        let leaf = signed(&authority, uri(), &key);
        let shown = handshake(&authority, Some(with_key(leaf.clone(), &key))).await;
        let shown = shown.expect("a session").expect("a certificate");
        let roots = [authority.issuer().der().clone()];
        let now = SystemTime::now();
        let expected = Proven {
            identity: ID.parse().expect("an identity"),
            qualifier: Some("WorkloadEntry/vm-1".to_owned()),
        };
        let judge =
            |roots: &[_]| ChainJudge::new(roots.to_vec(), Lists::default()).expect("a judge");
        assert_eq!(judge(&roots).check(&shown, now), Ok(expected));
        let stranger = [Authority::new().issuer().der().clone()];
        let _ = judge(&stranger)
            .check(&shown, now)
            .expect_err("not of its root");
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let early = judge(&roots).check(&shown, before);
        let _ = early.expect_err("not yet");

        let other = KeyPair::generate().expect("a key");
        let stolen = handshake(&authority, Some(with_key(leaf, &other))).await;
        let _ = stolen.expect_err("not its key");
        assert!(
            handshake(&authority, None)
                .await
                .expect("a session")
                .is_none()
        );
    }
}
