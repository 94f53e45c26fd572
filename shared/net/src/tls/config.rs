//! TLS configurations: one provider, one version, two cipher suites.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Error;
use super::chain::KeyVerifier;
use super::verify::{ClientVerifier, ServerVerifier};
use crate::clock::Clock;
use crate::revocation::Judge;

/// What HBONE negotiates.
const ALPN_H2: &[u8] = b"h2";
/// Session tickets a client keeps for each expected peer.
const SESSIONS: usize = 8;
/// Tickets a server hands out after a handshake; clients pool connections and use one at most.
const TICKETS: usize = 1;

/// The cryptography of the mesh: aws-lc-rs, AES-GCM, X25519MLKEM768 first.
#[must_use]
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    &PROVIDER
}

/// What rustls asks for the time.
struct By(Clock);

impl TimeProvider for By {
    fn current_time(&self) -> Option<UnixTime> {
        let now = (self.0)().duration_since(UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(now))
    }
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("By").finish_non_exhaustive()
    }
}

pub(super) fn server(
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    trust_domain: Arc<str>,
    names: TrustDomains,
    judge: Judge,
    clock: Clock,
) -> Result<Arc<ServerConfig>, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider().clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider().clone(), Arc::new(By(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier {
            chain,
            trust_domain,
            names,
            judge,
        }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

pub(super) fn client(
    key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    expected: Arc<[Identity]>,
    names: TrustDomains,
    judge: Judge,
    clock: Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_details(provider().clone(), Arc::new(By(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier {
            roots,
            algorithms: provider().signature_verification_algorithms,
            expected: expected.iter().map(|it| names.settle(it.clone())).collect(),
            names,
            judge,
        }))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// For a server of the control plane: clients show tokens, and may show certificates; HTTP/2. The handshake proves that a
/// client has the key of what it shows, and nothing else: whether that makes it anybody is to be judged of each request, by
/// [`ChainJudge::check`](super::ChainJudge::check). No session is resumed, which would prove nothing.
///
/// # Errors
/// When TLS refuses the material.
pub fn plain_server_config(
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(KeyVerifier))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a client of the control plane: server verified by name against `roots`, HTTP/2; with a
/// certificate that is shown when the server asks for one.
///
/// # Errors
/// When TLS refuses the material.
pub fn plain_client_config(
    roots: RootCertStore,
    shown: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(key) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Arc::new(config))
}
