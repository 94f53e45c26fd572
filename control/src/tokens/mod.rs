//! Who calls: service-account tokens, checked against the issuer's published keys, or by the API server. Machines that have a
//! certificate show that instead.
//!
//! A token is never logged and never part of an error.

pub mod keys;
pub mod review;

use std::sync::Arc;
use std::time::SystemTime;

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use ambit_net::tls::{Chain, Proven};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use tonic::Status;
use tonic::metadata::MetadataMap;

use keys::Keys;
use review::Reviews;

use crate::ca::Signing;
use crate::ca::machine::entry_of;
use crate::tls::Peer;

const AUTHORIZATION: &str = "authorization";
/// Signatures that are accepted. Symmetric ones and `none` are not.
const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
];
/// Clocks may differ by this many seconds.
const LEEWAY: u64 = 30;

/// Knows callers by what they show.
pub struct Callers {
    /// For those who show a token.
    pub tokens: Authenticator,
    /// For machines that show a certificate: who has signed it, if that is this process.
    pub authority: Option<Signing>,
    /// The names of the mesh's trust domain: a root may be another mesh's as well.
    pub trust_domains: TrustDomains,
}

impl Callers {
    /// Who sends a request: as its token says, and without one as the certificate of a machine does.
    ///
    /// # Errors
    /// Neither was shown, it does not hold, or nobody can tell now.
    pub async fn authenticate(
        &self,
        metadata: &MetadataMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, TokenError> {
        let shown = peer.and_then(|peer| peer.shown.as_ref());
        match (shown, &self.authority) {
            (Some(shown), Some(authority)) if !metadata.contains_key(AUTHORIZATION) => {
                self.certified(authority, shown)
            }
            _ => self.tokens.authenticate(metadata).await,
        }
    }

    /// Who shows these certificates, by what the authority trusts and has revoked now.
    ///
    /// # Errors
    /// Nobody is known by them.
    pub fn certified(&self, authority: &Signing, shown: &Chain) -> Result<Caller, TokenError> {
        let authority = authority.borrow().clone();
        let proven = authority.check(shown, SystemTime::now());
        self.machine(&proven.map_err(TokenError::Certificate)?)
    }

    /// The machine that a certificate is of.
    fn machine(&self, proven: &Proven) -> Result<Caller, TokenError> {
        let identity = &proven.identity;
        if !self.trust_domains.contains(identity.trust_domain()) {
            return Err(TokenError::Stranger(identity.clone()));
        }
        let entry = proven.qualifier.as_deref().and_then(entry_of);
        let entry = entry.ok_or_else(|| TokenError::NotAMachine(identity.clone()))?;
        Ok(Caller {
            namespace: identity.namespace().clone(),
            service_account: identity.service_account().clone(),
            pod: None,
            node: None,
            entry: Some(entry.into()),
        })
    }
}

/// Who checks tokens.
pub enum Authenticator {
    /// Published keys do, here.
    Keys(Tokens),
    /// The API server does.
    Reviews(Reviews),
}

impl Authenticator {
    /// Who sends a request.
    ///
    /// # Errors
    /// There is no token, it does not hold, or nobody can tell now.
    pub async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, TokenError> {
        let token = bearer(metadata)?;
        match self {
            Self::Keys(tokens) => tokens.verify(token),
            Self::Reviews(reviews) => reviews.verify(token).await,
        }
    }
}

/// Checks tokens by keys.
#[derive(Debug)]
pub struct Tokens {
    keys: Keys,
    issuer: String,
    audiences: Vec<String>,
}

/// Who a valid token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Namespace of the service account.
    pub namespace: Arc<str>,
    /// The service account.
    pub service_account: Arc<str>,
    /// The pod the token is bound to.
    pub pod: Option<BoundPod>,
    /// The node that pod runs on, when the token says.
    pub node: Option<Arc<str>>,
    /// The WorkloadEntry of the machine whose certificate it has shown in place of a token.
    pub entry: Option<Arc<str>>,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPod {
    #[allow(missing_docs)]
    pub name: Arc<str>,
    #[allow(missing_docs)]
    pub uid: Arc<str>,
}

impl Caller {
    /// `namespace/serviceaccount`.
    #[must_use]
    pub fn account(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("no token: the request needs the metadata `authorization: Bearer TOKEN`")]
    Missing,
    #[error("the token is not a JWT")]
    Malformed,
    #[error("the token is signed with {0:?}, which is not accepted")]
    Algorithm(Algorithm),
    #[error("no key of the issuer has the id {0:?} for {1:?}")]
    UnknownKey(Option<String>, Algorithm),
    #[error("the token does not hold: {0}")]
    Invalid(String),
    #[error("the token is not that of a service account: {0}")]
    NotAServiceAccount(&'static str),
    #[error("the certificate does not hold: {0}")]
    Certificate(String),
    #[error("the certificate of {0} is of another trust domain")]
    Stranger(Identity),
    #[error("the certificate of {0} is no machine's: a pod shows a token")]
    NotAMachine(Identity),
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

impl From<TokenError> for Status {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Unavailable(_) => Self::unavailable(error.to_string()),
            _ => Self::unauthenticated(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesClaims>,
}

#[derive(Deserialize)]
struct KubernetesClaims {
    namespace: String,
    #[serde(default)]
    pod: Option<Reference>,
    serviceaccount: Reference,
    #[serde(default)]
    node: Option<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    #[serde(default)]
    uid: String,
}

impl Tokens {
    /// Tokens of `issuer` for one of `audiences`.
    #[must_use]
    pub fn new(keys: Keys, issuer: String, audiences: Vec<String>) -> Self {
        Self {
            keys,
            issuer,
            audiences,
        }
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// It does not hold.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Algorithm(header.alg));
        }
        let key = self
            .keys
            .find(header.kid.as_deref(), header.alg)
            .ok_or_else(|| TokenError::UnknownKey(header.kid.clone(), header.alg))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| TokenError::Invalid(error.to_string()))?;
        caller(decoded.claims)
    }
}

/// The token of a request.
fn bearer(metadata: &MetadataMap) -> Result<&str, TokenError> {
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?;
    if values.next().is_some() {
        return Err(TokenError::Malformed);
    }
    let text = value.to_str().map_err(|_| TokenError::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Missing);
    }
    Ok(token.trim())
}

/// What the user names of service accounts begin with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The user name of a service account.
pub(crate) fn user_of(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
fn account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(SERVICE_ACCOUNT)
        .and_then(|rest| rest.split_once(':'))
        .filter(|(ns, name)| !ns.is_empty() && !name.is_empty() && !name.contains(':'))
}

fn caller(claims: Claims) -> Result<Caller, TokenError> {
    let Some((namespace, service_account)) = account(&claims.sub) else {
        let why = "sub is not system:serviceaccount:NAMESPACE:NAME";
        return Err(TokenError::NotAServiceAccount(why));
    };
    let mut caller = Caller {
        namespace: namespace.into(),
        service_account: service_account.into(),
        pod: None,
        node: None,
        entry: None,
    };
    if let Some(claims) = claims.kubernetes {
        if claims.namespace != namespace || claims.serviceaccount.name != service_account {
            let why = "sub and kubernetes.io disagree";
            return Err(TokenError::NotAServiceAccount(why));
        }
        caller.pod = claims.pod.map(|pod| BoundPod {
            name: pod.name.into(),
            uid: pod.uid.into(),
        });
        caller.node = claims.node.map(|node| node.name.into());
    }
    Ok(caller)
}

#[cfg(test)]
pub(crate) mod certificate_tests;
#[cfg(test)]
mod tests;
