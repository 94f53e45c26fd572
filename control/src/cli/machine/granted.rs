//! Tokens that an API server grants.

use anyhow::Context;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::jiff::Timestamp;

use crate::cluster::collection::path;
use crate::cluster::{Cluster, escaped};

/// A token, and how long it is good.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) token: String,
    pub(super) until: Timestamp,
}

impl Granted {
    /// The seconds for which it is good from now, if those are fewer than this many by more than asking takes.
    pub(super) fn is_shorter_than(&self, seconds: u32) -> Option<i64> {
        /// Seconds: an answer on its way, and clocks that differ.
        const SLACK: i64 = 60;
        let left = self.until.duration_since(Timestamp::now()).as_secs();
        (left < i64::from(seconds) - SLACK).then_some(left)
    }
}

/// A token of a service account (namespace and name) that is bound to no pod. The API server may make it shorter than it is asked to.
///
/// # Errors
/// It grants none.
pub(super) async fn ask(
    cluster: &Cluster,
    (namespace, account): (&str, &str),
    audience: &str,
    seconds: u32,
) -> anyhow::Result<Granted> {
    let accounts = path("", "v1", Some(namespace), "serviceaccounts");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(seconds.into()),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let place = format!("{accounts}/{}/token", escaped(account));
    let granted: Result<TokenRequest, _> = cluster.create(&place, &request).await;
    let granted =
        granted.with_context(|| format!("a token of service account {namespace}/{account}"))?;
    let status = granted.status;
    let status = status.context("the API server's answer has no token")?;
    Ok(Granted {
        token: status.token,
        until: status.expiration_timestamp.0,
    })
}
