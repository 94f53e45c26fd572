//! TLS to applications (`BackendTLSPolicy`), inside the mesh's tunnel where there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambit_core::addr::NamespacedName;
use ambit_http::model::BackendTls;
use ambit_http::refusal::{Flag, Refusal};
use ambit_net::tls::provider;
use hashbrown::HashMap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::roots;
use crate::io::Io;

/// One policy, ready for use.
pub(crate) struct Client {
    /// No other client has it.
    pub(crate) number: u64,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

/// The clients of all policies that were used; made again when a policy changes.
#[derive(Default)]
pub(crate) struct Clients(Mutex<HashMap<NamespacedName, Made>>);

type Made = (Arc<BackendTls>, Result<Arc<Client>, String>);

impl Clients {
    /// The client of a policy.
    ///
    /// # Errors
    /// 500 when the policy cannot be honoured; it is never plain text instead.
    pub(crate) fn client(&self, policy: &Arc<BackendTls>) -> Result<Arc<Client>, Refusal> {
        let mut made = self.0.lock();
        let known = made
            .get(&policy.key)
            .filter(|it| Arc::ptr_eq(&it.0, policy));
        let client = match known {
            Some((_, client)) => client.clone(),
            None => {
                let client = Client::new(policy).map(Arc::new);
                made.insert(policy.key.clone(), (policy.clone(), client.clone()));
                client
            }
        };
        client.map_err(|reason| {
            let reason = format!("TLS policy {} cannot be followed: {reason}", policy.key);
            Refusal::new(500, Flag::NoClusterFound, reason)
        })
    }
}

impl Client {
    fn new(policy: &BackendTls) -> Result<Self, String> {
        if let Some(reason) = &policy.invalid {
            return Err(reason.to_string());
        }
        let name = ServerName::try_from(policy.hostname.to_string());
        let name = name.map_err(|_| format!("{} is no name of a server", policy.hostname))?;
        let roots = match &policy.roots {
            Some(pem) => roots::parse(pem.as_bytes())?,
            None => roots::of_machine()?,
        };
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider().clone())
                .build()
                .map_err(|error| error.to_string())?;
        let names = policy.subject_alt_names.iter().map(|name| {
            let name = ServerName::try_from(name.to_string());
            name.map_err(|_| "subject alternative names of kind URI are not supported".to_owned())
        });
        let verifier = Verifier {
            chain,
            names: names.collect::<Result<_, _>>()?,
        };
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            name,
            config: config(Arc::new(verifier))?,
        })
    }

    /// For a server that is known by its name, and roots that this machine trusts.
    ///
    /// # Errors
    /// No name of a server, or no roots.
    pub(crate) fn of_machine(host: &str) -> Result<Self, String> {
        Self::new(&BackendTls {
            key: NamespacedName::new("", host),
            service: NamespacedName::new("", host),
            port: None,
            hostname: host.into(),
            subject_alt_names: Vec::new(),
            roots: None,
            invalid: None,
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The server is not who it should be, or does not speak TLS.
    pub(crate) async fn connect(&self, io: Io) -> Result<Io, String> {
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(self.name.clone(), io).await;
        let stream = stream.map_err(|error| format!("TLS to {:?}: {error}", self.name))?;
        Ok(Io::Tls(Box::new(stream)))
    }
}

fn config(verifier: Arc<Verifier>) -> Result<Arc<ClientConfig>, String> {
    // Servers outside the mesh may have no TLS 1.3 yet.
    let config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|error| error.to_string())?
    .dangerous()
    .with_custom_certificate_verifier(verifier)
    .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The chain ends in a root, and the certificate names the host, or one of `names` where there are any.
#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name: &ServerName<'_>| {
            self.chain
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        if self.names.is_empty() {
            return verify(server_name);
        }
        let mut result = Err(CertificateError::NotValidForName.into());
        for name in &self.names {
            result = verify(name);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
