//! Tokens that the API server checks (TokenReview): it also knows of pods and accounts that are gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{BoundPod, Caller, TokenError, account};
use crate::cluster::Cluster;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// What the API server said holds for this long at most.
const KEPT: Duration = Duration::from_secs(60);
/// Answers that are kept.
const MANY: usize = 10_000;
/// Questions at a time; who asks more waits.
const AT_ONCE: usize = 32;
/// No service account token is longer.
const LONGEST: usize = 16 << 10;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Asks the API server, and remembers for a moment what it said.
pub struct Reviews {
    cluster: Cluster,
    audiences: Vec<String>,
    kept: Mutex<HashMap<Digest, Kept>>,
    permits: Semaphore,
}

/// Of a token: tokens themselves are not kept.
type Digest = [u8; 32];

struct Kept {
    caller: Arc<Caller>,
    /// The token's own end.
    ends: SystemTime,
    /// When the API server is asked again, by a clock that nobody sets.
    until: Instant,
}

/// Both clocks of a moment.
#[derive(Clone, Copy)]
struct Now {
    wall: SystemTime,
    monotonic: Instant,
}

impl Now {
    fn read() -> Self {
        Self {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }
}

impl Kept {
    /// What is known of a token; nothing, if it does not say when it ends or has ended.
    fn new(token: &str, caller: &Caller, now: Now) -> Option<Self> {
        let ends = end_of(token).filter(|ends| *ends > now.wall)?;
        Some(Self {
            caller: Arc::new(caller.clone()),
            ends,
            until: now.monotonic + KEPT,
        })
    }

    fn holds(&self, now: Now) -> bool {
        now.wall < self.ends && now.monotonic < self.until
    }
}

impl Reviews {
    /// Tokens for one of `audiences`.
    #[must_use]
    pub fn new(cluster: Cluster, audiences: Vec<String>) -> Self {
        Self {
            cluster,
            audiences,
            kept: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
        }
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// It does not hold, or the API server does not answer.
    pub async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.is_empty() || token.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let digest = digest_of(token);
        if let Some(caller) = self.known(&digest, Now::read()) {
            return Ok((*caller).clone());
        }
        let status = self.ask(token).await?;
        let caller = judge(&status, &self.audiences)?;
        let now = Now::read();
        if let Some(new) = Kept::new(token, &caller, now) {
            self.keep(digest, new, now);
        }
        Ok(caller)
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, TokenError> {
        let unavailable = |why: String| TokenError::Unavailable(why);
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|error| unavailable(error.to_string()))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(self.audiences.clone()),
            },
            ..TokenReview::default()
        };
        let answer: Result<TokenReview, _> = self.cluster.create(PATH, &review).await;
        let answer = answer.map_err(|failure| unavailable(failure.to_string()))?;
        let status = answer.status;
        status.ok_or_else(|| unavailable("the API server's answer has no status".to_owned()))
    }

    fn known(&self, digest: &Digest, now: Now) -> Option<Arc<Caller>> {
        let kept = self.kept.lock();
        let found = kept.get(digest).filter(|kept| kept.holds(now))?;
        Some(found.caller.clone())
    }

    fn keep(&self, digest: Digest, new: Kept, now: Now) {
        let mut kept = self.kept.lock();
        if kept.len() >= MANY {
            kept.retain(|_, kept| kept.holds(now));
        }
        if kept.len() < MANY {
            kept.insert(digest, new);
        }
    }
}

/// What the API server's answer means.
fn judge(status: &TokenReviewStatus, audiences: &[String]) -> Result<Caller, TokenError> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().unwrap_or("the API server says so");
        return Err(TokenError::Invalid(why.to_owned()));
    }
    // An API server that knows no audiences says none: then the token may be for someone else.
    let fit = |audience: &String| audiences.contains(audience);
    if !status.audiences.iter().flatten().any(fit) {
        let why = format!("it is not for {}", audiences.join(" or "));
        return Err(TokenError::Invalid(why));
    }
    let none = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&none);
    let name = user.username.as_deref().unwrap_or_default();
    let Some((namespace, service_account)) = account(name) else {
        let why = "its user is not system:serviceaccount:NAMESPACE:NAME";
        return Err(TokenError::NotAServiceAccount(why));
    };
    let extra = |name: &str| {
        let values = user.extra.as_ref()?.get(name)?;
        values.first().map(|value| Arc::from(value.as_str()))
    };
    let pod = extra(POD_NAME).map(|name| BoundPod {
        name,
        uid: extra(POD_UID).unwrap_or_default(),
    });
    Ok(Caller {
        namespace: namespace.into(),
        service_account: service_account.into(),
        pod,
        node: extra(NODE_NAME),
        entry: None,
    })
}

/// When a token ends, which is believed since the API server has checked its signature. `None` when it does not say.
fn end_of(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Ends {
        exp: u64,
    }
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let ends: Ends = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(ends.exp))
}

fn digest_of(token: &str) -> Digest {
    let mut of = Digest::default();
    of.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    of
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
