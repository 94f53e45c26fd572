//! Who a peer is, and whether that is whom we want.

use std::sync::Arc;

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::Error;
use crate::revocation::{Judge, Revoked};

/// Certificates that a peer shows at most, its leaf and those above: as many as the longest path of the verifier's has with its root.
const LONGEST_CHAIN: usize = 8;

/// The one identity in a certificate.
///
/// # Errors
/// When it is not X.509, has not exactly one URI subject alternative name, or the URI is no
/// identity of the mesh.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| Error::X509(error.to_string()))?;
    let mut uris = Vec::new();
    for extension in parsed.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            uris.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    match uris[..] {
        [uri] => uri.parse().map_err(|source| Error::Identity {
            uri: uri.into(),
            source,
        }),
        _ => Err(Error::UriCount(uris.len())),
    }
}

/// Accepts servers that show one of the expected identities, under whatever name of the trust domain.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Settled.
    pub(super) expected: Arc<[Identity]>,
    pub(super) names: TrustDomains,
    pub(super) judge: Judge,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        short_enough(intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.judge
            .check(end_entity, intermediates)
            .map_err(taken_back)?;
        let found = identity_of(end_entity).map_err(refused)?;
        if !self.expected.contains(&self.names.settle(found.clone())) {
            return Err(refused(WrongPeer {
                found,
                expected: self.expected.clone(),
            }));
        }
        Ok(ServerCertVerified::assertion())
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
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What no verifier of the mesh is ever asked.
pub(super) fn tls12_not_offered() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls12NotOffered.into())
}

/// Accepts clients of the trust domain, under whatever name.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// Checks the chain, its dates and its purpose.
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    /// Settled.
    pub(super) trust_domain: Arc<str>,
    pub(super) names: TrustDomains,
    pub(super) judge: Judge,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A hint names the CA to anybody who asks; mesh clients have one certificate anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        short_enough(intermediates)?;
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        self.judge
            .check(end_entity, intermediates)
            .map_err(taken_back)?;
        let found = identity_of(end_entity).map_err(refused)?;
        let settled = self.names.settle(found.clone());
        if *settled.trust_domain() != self.trust_domain {
            return Err(refused(WrongTrustDomain {
                found,
                expected: self.trust_domain.clone(),
            }));
        }
        Ok(verified)
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
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the peer is {found}, expected one of {expected:?}")]
struct WrongPeer {
    found: Identity,
    expected: Arc<[Identity]>,
}

#[derive(Debug, thiserror::Error)]
#[error("the peer is {found}, expected trust domain {expected}")]
struct WrongTrustDomain {
    found: Identity,
    expected: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
#[error("the peer shows {0} certificates, at most {LONGEST_CHAIN} are looked at")]
struct LongChain(usize);

/// Before a signature is looked at: each costs, and whoever shows them decides how many there are.
pub(super) fn short_enough(intermediates: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
    match intermediates.len() + 1 {
        ..=LONGEST_CHAIN => Ok(()),
        count => Err(refused(LongChain(count))),
    }
}

/// The peer hears that its certificate is revoked, and the log which one it is.
pub(super) fn taken_back(revoked: Revoked) -> rustls::Error {
    tracing::info!(%revoked, "refused a peer");
    CertificateError::Revoked.into()
}

fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}
