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
use x509_parser::prelude::{FromDer, X509Certificate};

use super::config::provider;
use super::verify::{identity_of, short_enough};
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

    /// Who that makes it now.
    ///
    /// # Errors
    /// The chain leads to none of the roots, is not good now or not for a client, is revoked by the lists, or its leaf is no
    /// identity of the mesh.
    pub fn check(
        &self,
        roots: &[CertificateDer<'static>],
        lists: &Lists,
        now: SystemTime,
    ) -> Result<Proven, String> {
        let [leaf, intermediates @ ..] = &*self.0 else {
            return Err("no certificate was shown".to_owned());
        };
        let words = |error: rustls::Error| error.to_string();
        short_enough(intermediates).map_err(words)?;
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(words)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider().clone())
                .build()
                .map_err(|error| error.to_string())?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since.unwrap_or_default());
        verifier
            .verify_client_cert(leaf, intermediates, now)
            .map_err(words)?;
        if let Some(revoked) = lists.find(leaf, intermediates, roots) {
            return Err(revoked.to_string());
        }
        Ok(Proven {
            identity: identity_of(leaf).map_err(|error| error.to_string())?,
            qualifier: qualifier(leaf)?,
        })
    }
}

fn qualifier(leaf: &CertificateDer<'_>) -> Result<Option<String>, String> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
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
        // See [`Chain::check`].
        short_enough(intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
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
