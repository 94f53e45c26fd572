//! `IstioCertificateService`: a token and a CSR in, a certificate out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_net::ca::WORKLOAD_ENTRY;
use ambit_net::tls::Shown;
use ambit_proto::ca::istio_certificate_service_server::IstioCertificateService;
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::{Request, Response, Status};

use super::Signing;
use super::permission::{Permit, permit_either};
use super::request::public_key;
use crate::admin::metrics::Metrics;
use crate::engine::State;
use crate::tls::Peer;
use crate::tokens::{Caller, Callers};

const IMPERSONATED: &str = "ImpersonatedIdentity";

/// Signs.
pub struct Service {
    /// With this.
    pub authority: Signing,
    /// Knows callers by what they show.
    pub callers: Arc<Callers>,
    /// Knows who runs where.
    pub state: Arc<State>,
    /// Counted.
    pub metrics: Arc<Metrics>,
    /// `namespace/serviceaccount` of node proxies.
    pub trusted: BTreeSet<String>,
    /// No certificate lives longer.
    pub lifetime: Duration,
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let result = self.create(&request).await;
        self.metrics.signed(result.as_ref().err().map(Status::code));
        result.map(Response::new)
    }
}

impl Service {
    async fn create(
        &self,
        request: &Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        let caller = self
            .callers
            .authenticate(request.metadata(), request.extensions().get::<Peer>())
            .await
            .inspect_err(|error| {
                tracing::warn!(%error, "certificate refused");
            })?;
        let body = request.get_ref();
        let Permit { identity, entry } = self.permit(&caller, body).inspect_err(|status| {
            let (account, reason) = (caller.account(), status.message());
            tracing::warn!(%account, reason, "certificate refused");
        })?;
        let key = public_key(&body.csr).map_err(Status::invalid_argument)?;
        let lifetime = self.lifetime_of(body.validity_duration)?;
        let authority = self.authority.borrow().clone();
        let now = SystemTime::now();
        let cert_chain = match &entry {
            Some(entry) => authority.sign_machine(&key, &identity, entry, lifetime, now),
            None => authority.sign_workload(&key, &identity, lifetime, now),
        };
        let cert_chain = cert_chain.map_err(Status::internal)?;
        let serial = cert_chain.first().and_then(|leaf| serial(leaf));
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let proof = match caller.entry {
            Some(_) => "certificate",
            None => "token",
        };
        let entry = entry.as_deref();
        tracing::info!(account = %caller.account(), %identity, entry, serial, ?peer, proof, lifetime = lifetime.as_secs(), "certificate signed");
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn permit(&self, caller: &Caller, body: &IstioCertificateRequest) -> Result<Permit, Status> {
        let wanted = impersonated(body)?;
        let entry = text(body, WORKLOAD_ENTRY)?;
        let index = self.state.index();
        permit_either(caller, wanted, entry, &self.trusted, &index)
            .map_err(|refusal| Status::permission_denied(refusal.to_string()))
    }

    fn lifetime_of(&self, seconds: i64) -> Result<Duration, Status> {
        match u64::try_from(seconds) {
            Ok(0) => Ok(self.lifetime),
            Ok(seconds) => Ok(Duration::from_secs(seconds).min(self.lifetime)),
            Err(_) => Err(Status::invalid_argument("validity_duration is negative")),
        }
    }
}

/// The serial number of a certificate (PEM), decimal as `ambit ztunnel certificates` and lists of what is revoked have it.
fn serial(pem: &str) -> Option<String> {
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Shown::of(&leaf).ok().map(|leaf| leaf.serial)
}

fn impersonated(body: &IstioCertificateRequest) -> Result<Option<Identity>, Status> {
    let Some(text) = text(body, IMPERSONATED)? else {
        return Ok(None);
    };
    let identity = text.parse::<Identity>();
    let wrong = |error| Status::invalid_argument(format!("{IMPERSONATED} {text:?}: {error}"));
    identity.map(Some).map_err(wrong)
}

/// What a request says besides its fields; an empty text says nothing.
fn text<'a>(body: &'a IstioCertificateRequest, name: &str) -> Result<Option<&'a str>, Status> {
    let fields = body.metadata.as_ref().map(|metadata| &metadata.fields);
    let Some(value) = fields.and_then(|fields| fields.get(name)) else {
        return Ok(None);
    };
    match &value.kind {
        Some(Kind::StringValue(text)) => Ok(Some(&**text).filter(|text| !text.is_empty())),
        _ => Err(Status::invalid_argument(format!("{name} is not a text"))),
    }
}
