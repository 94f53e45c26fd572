//! `IstioCertificateService`: a token and a CSR in, a certificate out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_proto::ca::istio_certificate_service_server::IstioCertificateService;
use ambit_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::Signing;
use super::permission::permit;
use super::request::public_key;
use crate::admin::metrics::Metrics;
use crate::engine::State;
use crate::tokens::{Authenticator, Caller};

const IMPERSONATED: &str = "ImpersonatedIdentity";

/// Signs.
pub struct Service {
    /// With this.
    pub authority: Signing,
    /// For those who show a token.
    pub tokens: Arc<Authenticator>,
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
            .tokens
            .authenticate(request.metadata())
            .await
            .inspect_err(|error| {
                tracing::warn!(%error, "certificate refused");
            })?;
        let body = request.get_ref();
        let identity = self.identity(&caller, body).inspect_err(|status| {
            let (account, reason) = (caller.account(), status.message());
            tracing::warn!(%account, reason, "certificate refused");
        })?;
        let key = public_key(&body.csr).map_err(Status::invalid_argument)?;
        let lifetime = self.lifetime_of(body.validity_duration)?;
        let authority = self.authority.borrow().clone();
        let cert_chain = authority
            .sign_workload(&key, &identity, lifetime, SystemTime::now())
            .map_err(Status::internal)?;
        tracing::info!(account = %caller.account(), %identity, lifetime = lifetime.as_secs(), "certificate signed");
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn identity(
        &self,
        caller: &Caller,
        body: &IstioCertificateRequest,
    ) -> Result<Identity, Status> {
        let wanted = impersonated(body)?;
        permit(caller, wanted, &self.trusted, &self.state.index())
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

fn impersonated(body: &IstioCertificateRequest) -> Result<Option<Identity>, Status> {
    let fields = body.metadata.as_ref().map(|metadata| &metadata.fields);
    let Some(value) = fields.and_then(|fields| fields.get(IMPERSONATED)) else {
        return Ok(None);
    };
    match &value.kind {
        Some(Kind::StringValue(text)) if text.is_empty() => Ok(None),
        Some(Kind::StringValue(text)) => text
            .parse()
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("{IMPERSONATED} {text:?}: {error}"))),
        _ => Err(Status::invalid_argument(format!(
            "{IMPERSONATED} is not a text"
        ))),
    }
}
