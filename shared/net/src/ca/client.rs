//! The client of a certificate authority that speaks `istio.v1.auth`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_proto::ca::IstioCertificateRequest;
use ambit_proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use parking_lot::Mutex;
use prost_types::{Struct, Value, value::Kind};

use super::csr::{self, Request};
use super::{CaError, Signer};
use crate::grpc::{self, Connection, Remote};
use crate::tls::Certified;

/// Under this name the authority is told which WorkloadEntry a machine is of.
pub const WORKLOAD_ENTRY: &str = "WorkloadEntry";
/// A chain is a few kilobytes; a bundle of roots may be more.
const MAX_ANSWER: usize = 1024 * 1024;

/// Where certificates come from and what is asked for.
#[derive(Debug, Clone)]
pub struct CaConfig {
    /// The certificate authority.
    pub remote: Remote,
    /// Lifetime asked for; the authority may give less.
    pub lifetime: Duration,
    /// Ask on behalf of other identities, as a node proxy does for its pods. Without it only the
    /// identity of the token is signed for.
    pub impersonate: bool,
    /// Bound on one signature, connection included.
    pub timeout: Duration,
}

impl CaConfig {
    /// What a node proxy uses: a day, on behalf of its pods.
    #[must_use]
    pub fn new(remote: Remote) -> Self {
        Self {
            remote,
            lifetime: Duration::from_secs(24 * 60 * 60),
            impersonate: true,
            timeout: Duration::from_secs(20),
        }
    }
}

/// Asks a certificate authority for certificates.
///
/// One connection is shared by all requests and dropped at the first one that fails, so that the
/// next is made with the roots and the address of that moment.
pub struct CaClient {
    remote: Arc<Remote>,
    config: CaConfig,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl CaClient {
    /// A client; it connects when it is first asked.
    #[must_use]
    pub fn new(config: CaConfig) -> Self {
        Self {
            remote: Arc::new(config.remote.clone()),
            config,
            connection: Mutex::new(None),
        }
    }

    /// A new key and a certificate for `identity`.
    ///
    /// # Errors
    /// The authority is not reached, refuses, or answers with anything but a certificate that
    /// names exactly `identity` and fits the key.
    pub async fn fetch(&self, identity: &Identity) -> Result<Certified, CaError> {
        let limit = self.config.timeout;
        let result = tokio::time::timeout(limit, self.exchange(identity))
            .await
            .unwrap_or_else(|_| {
                Err(CaError::Silent {
                    address: self.remote.address.clone(),
                    after: limit,
                })
            });
        // A machine shows what it has now the next time, a new certificate for instance.
        if result.is_err() || self.remote.machine.is_some() {
            *self.connection.lock() = None;
        }
        if let (Ok(certified), Some(machine)) = (&result, &self.remote.machine) {
            machine.hold(certified, SystemTime::now());
        }
        result
    }

    async fn exchange(&self, identity: &Identity) -> Result<Certified, CaError> {
        let request = csr::request(identity).map_err(|e| CaError::Request {
            identity: identity.clone(),
            reason: e.to_string(),
        })?;
        let kept = self.connection.lock().clone();
        if let Some(connection) = kept {
            match self.ask(&connection, identity, &request).await {
                // It may have been lost long ago, which says nothing of the authority.
                Err(Asked::Lost(_)) => {}
                answered => return answered.map_err(Into::into),
            }
        }
        // Two callers at once may both dial; the later connection stays, and nobody waits for
        // another's handshake.
        let connection = Arc::new(grpc::connect(&self.remote).await?);
        *self.connection.lock() = Some(Arc::clone(&connection));
        Ok(self.ask(&connection, identity, &request).await?)
    }

    async fn ask(
        &self,
        connection: &Connection,
        identity: &Identity,
        request: &Request,
    ) -> Result<Certified, Asked> {
        let message = connection
            .request(self.message(identity, request))
            .await
            .map_err(CaError::from)?;
        let answer = IstioCertificateServiceClient::new(connection.channel.clone())
            .max_decoding_message_size(MAX_ANSWER)
            .create_certificate(message)
            .await
            .map_err(|status| {
                let refused = CaError::Refused {
                    address: self.remote.address.clone(),
                    identity: identity.clone(),
                    status: connection.refusal(&status),
                };
                if grpc::is_local(&status) {
                    Asked::Lost(refused)
                } else {
                    Asked::Failed(refused)
                }
            })?;
        Ok(accept(
            identity,
            &answer.into_inner().cert_chain,
            &request.key_pem,
        )?)
    }

    fn message(&self, identity: &Identity, request: &Request) -> IstioCertificateRequest {
        let text = |text: String| Value {
            kind: Some(Kind::StringValue(text)),
        };
        let mut fields = BTreeMap::new();
        if self.config.impersonate {
            let name = "ImpersonatedIdentity".to_owned();
            fields.insert(name, text(identity.to_string()));
        }
        if let Some(machine) = &self.remote.machine {
            fields.insert(WORKLOAD_ENTRY.to_owned(), text(machine.entry().to_owned()));
        }
        let metadata = (!fields.is_empty()).then_some(Struct { fields });
        IstioCertificateRequest {
            csr: request.csr_pem.clone(),
            validity_duration: self
                .config
                .lifetime
                .as_secs()
                .try_into()
                .unwrap_or(i64::MAX),
            metadata,
        }
    }
}

impl Signer for CaClient {
    async fn sign(&self, identity: &Identity) -> Result<Certified, CaError> {
        self.fetch(identity).await
    }
}

/// Why asking on one connection gave nothing.
enum Asked {
    /// The connection broke.
    Lost(CaError),
    /// Anything else.
    Failed(CaError),
}

impl From<CaError> for Asked {
    fn from(error: CaError) -> Self {
        Self::Failed(error)
    }
}

impl From<Asked> for CaError {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Lost(error) | Asked::Failed(error) => error,
        }
    }
}

/// Takes an answer only if it is what was asked for.
fn accept(identity: &Identity, chain: &[String], key_pem: &str) -> Result<Certified, CaError> {
    let certified = Certified::from_pem(chain, key_pem).map_err(|source| CaError::Answer {
        identity: identity.clone(),
        source,
    })?;
    if certified.identity() != identity {
        return Err(CaError::WrongIdentity {
            asked: identity.clone(),
            got: certified.identity().clone(),
        });
    }
    if certified.not_after() <= SystemTime::now() {
        return Err(CaError::Expired {
            identity: identity.clone(),
        });
    }
    Ok(certified)
}
