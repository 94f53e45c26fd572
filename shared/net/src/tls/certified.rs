//! A workload's certificate, its key, and the TLS configurations made from them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::config::{self, provider};
use super::verify::taken_back;
use super::{Error, Shown, Stream, identity_of};
use crate::clock::Clock;
use crate::revocation::{Judge, Revocations, Revoked};

/// Client configurations kept for one certificate; more distinct peers than this share nothing.
const CLIENT_CONFIGS: usize = 4096;

/// A certificate with its key and the roots it trusts. Immutable: a renewal is a new one.
///
/// Configurations are made once: they carry the session tickets, so that a peer seen before
/// resumes without a certificate exchange.
pub struct Certified {
    identity: Identity,
    trust_domains: TrustDomains,
    key: Arc<CertifiedKey>,
    private_key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    judge: Judge,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    server: OnceLock<Arc<ServerConfig>>,
    clients: Mutex<HashMap<Arc<[Identity]>, Arc<ClientConfig>>>,
    clock: Clock,
}

impl Certified {
    /// Reads what a CA answers: PEM certificates, the leaf first, roots last. An element may hold
    /// several. Self-signed certificates are roots, everything between leaf and roots is sent
    /// along.
    ///
    /// # Errors
    /// When something cannot be read, the leaf is no identity of the mesh, or the key is not its.
    pub fn from_pem(chain: &[String], key_pem: &str) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        for text in chain {
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                certificates.push(certificate.map_err(|error| Error::Pem {
                    what: "certificate chain",
                    reason: error.to_string(),
                })?);
            }
        }
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| Error::Pem {
                what: "private key",
                reason: error.to_string(),
            })?;
        Self::new(certificates, key)
    }

    /// See [`Certified::from_pem`].
    ///
    /// # Errors
    /// As there.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        let count = certificates.len();
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or(Error::ShortChain(count))?;
        let mut presented = vec![leaf.clone()];
        let mut root_certificates = Vec::new();
        for certificate in certificates {
            if self_signed(&certificate)? {
                root_certificates.push(certificate);
            } else {
                presented.push(certificate);
            }
        }
        let mut roots = RootCertStore::empty();
        for root in &root_certificates {
            roots.add(root.clone())?;
        }
        if roots.is_empty() {
            return Err(Error::ShortChain(count));
        }
        let identity = identity_of(&leaf)?;
        let shown = Shown::of(&leaf)?;
        let signer = provider().key_provider.load_private_key(key.clone_key())?;
        let certified = CertifiedKey::new(presented, signer);
        certified.keys_match()?;
        Ok(Self {
            identity,
            trust_domains: TrustDomains::default(),
            key: Arc::new(certified),
            private_key: key,
            roots: Arc::new(roots),
            judge: Judge::new(Revocations::default(), root_certificates.into()),
            serial: shown.serial,
            not_before: shown.not_before,
            not_after: shown.not_after,
            server: OnceLock::new(),
            clients: Mutex::default(),
            clock: Arc::new(SystemTime::now),
        })
    }

    /// The same in a mesh whose trust domain has these names: a peer is believed under each of them.
    #[must_use]
    pub fn within(self, trust_domains: TrustDomains) -> Self {
        Self {
            trust_domains,
            server: OnceLock::new(),
            clients: Mutex::default(),
            ..self
        }
    }

    /// The same by another clock: what it and its peers show is valid by that.
    #[must_use]
    pub fn by(self, clock: Clock) -> Self {
        Self {
            clock,
            server: OnceLock::new(),
            clients: Mutex::default(),
            ..self
        }
    }

    /// The time by its clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// The same, which refuses who has shown a certificate that is on one of these lists.
    #[must_use]
    pub fn refusing(self, revocations: Revocations) -> Self {
        Self {
            judge: Judge::new(revocations, self.judge.roots().clone()),
            server: OnceLock::new(),
            clients: Mutex::default(),
            ..self
        }
    }

    /// Who this is: as the certificate says, which may be under an alias of the trust domain.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Start of validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// End of validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Serial number, decimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// It and its key, as TLS has them.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// Its key.
    pub(crate) fn private_key(&self) -> &PrivateKeyDer<'static> {
        &self.private_key
    }

    /// What is presented to peers, the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// What peers are verified against.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        self.judge.roots()
    }

    /// Who the peer of a session as this identity is, by its verified certificate: under the own one of the trust domain's
    /// names. What a resumed session skips is judged here, at `now`: dates, and whether a certificate is revoked.
    ///
    /// # Errors
    /// When the peer showed no certificate, one that is not valid at `now`, or one that is revoked.
    pub fn peer_identity(&self, session: &Stream, now: SystemTime) -> Result<Identity, Error> {
        self.check(session)?;
        session.peer_identity(&self.trust_domains, now)
    }

    /// Whether the peer of a session as this identity may go on: the lists of now have none of its certificates.
    pub(crate) fn check(&self, session: &Stream) -> Result<(), Error> {
        let [leaf, intermediates @ ..] = &**session.peer_chain() else {
            return Err(Error::UriCount(0));
        };
        let judged = self.judge.check(leaf, intermediates);
        judged.map_err(|revoked| {
            taken_back(revoked);
            Error::Revoked
        })
    }

    /// Waits until a certificate of the peer of a session as this identity is revoked.
    pub fn until_revoked(&self, session: &Stream) -> impl Future<Output = Revoked> + Send + use<> {
        let chain = session.peer_chain().clone();
        self.judge.clone().until_revoked(chain)
    }

    /// For accepting HBONE as this identity: a client certificate of the same trust domain, under
    /// whatever name, is required.
    ///
    /// # Errors
    /// When TLS refuses the material.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        if let Some(config) = self.server.get() {
            return Ok(config.clone());
        }
        let own = self.trust_domains.settle(self.identity.clone());
        let config = config::server(
            self.key.clone(),
            self.roots.clone(),
            own.trust_domain().clone(),
            self.trust_domains.clone(),
            self.judge.clone(),
            self.clock.clone(),
        )?;
        Ok(self.server.get_or_init(|| config).clone())
    }

    /// For connecting as this identity to a server that is one of `expected`, under whatever name of the trust domain.
    ///
    /// # Errors
    /// When TLS refuses the material.
    pub fn client_config(&self, expected: &Arc<[Identity]>) -> Result<Arc<ClientConfig>, Error> {
        let mut clients = self.clients.lock();
        if let Some(config) = clients.get(expected) {
            return Ok(config.clone());
        }
        let config = config::client(
            self.key.clone(),
            self.roots.clone(),
            expected.clone(),
            self.trust_domains.clone(),
            self.judge.clone(),
            self.clock.clone(),
        )?;
        if clients.len() >= CLIENT_CONFIGS {
            clients.clear();
        }
        clients.insert(expected.clone(), config.clone());
        Ok(config)
    }
}

impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|error| Error::X509(error.to_string()))
}

/// Until when `certificate` is valid; an error when it is not valid at `now`.
pub(super) fn check_dates(
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<SystemTime, Error> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    if now < time(validity.not_before.timestamp()) {
        return Err(rustls::Error::from(rustls::CertificateError::NotValidYet).into());
    }
    let not_after = time(validity.not_after.timestamp());
    if now > not_after {
        return Err(rustls::Error::from(rustls::CertificateError::Expired).into());
    }
    Ok(not_after)
}

fn self_signed(certificate: &CertificateDer<'_>) -> Result<bool, Error> {
    let parsed = parse(certificate)?;
    Ok(parsed.issuer() == parsed.subject())
}

/// A time in a certificate or a list; of before 1970, then.
pub(crate) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}
