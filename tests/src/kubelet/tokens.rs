//! The tokens that a pod's volumes ask for: from the API server when there is one, else the lab's own.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};

use crate::cluster::Cluster;
use crate::tokens::{ISSUER, Subject};

/// How long a token is valid when its volume does not say.
const SECONDS: i64 = 3600;
/// When nothing has to be renewed.
const FOR_EVER: u64 = 1 << 30;

/// Tokens, by what asked for them.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<(ServiceAccountTokenProjection, String)>);

impl Tokens {
    pub(super) fn get(&self, wanted: &ServiceAccountTokenProjection) -> Option<&String> {
        let found = self.0.iter().find(|(projection, _)| projection == wanted);
        found.map(|(_, token)| token)
    }

    /// How long the tokens are good before they should be renewed: four fifths of the shortest life.
    pub(super) fn lasting(&self) -> Duration {
        let lives = self.0.iter().map(|(projection, _)| seconds(projection));
        let shortest = lives.min().and_then(|it| u64::try_from(it).ok());
        Duration::from_secs(shortest.unwrap_or(FOR_EVER) * 4 / 5)
    }
}

/// Everything that the volumes of `pod` ask for.
///
/// # Errors
/// The first token that is not given, and why.
pub(super) async fn of_pod(cluster: &Cluster, pod: &Pod) -> Result<Tokens, String> {
    let mut tokens = Vec::new();
    for wanted in wanted(pod) {
        let seconds = seconds(wanted);
        let audience = wanted.audience.as_deref();
        let token = match cluster.api_server() {
            Some(server) => server.token(pod, audience, seconds).await?,
            None => {
                let subject = cluster.read(|store| Subject::of_pod(store, pod));
                let issuer = &cluster.issuer;
                let issued = issuer.issue(&subject, audience.unwrap_or(ISSUER), seconds);
                issued.map_err(|error| error.to_string())?
            }
        };
        tokens.push((wanted.clone(), token));
    }
    Ok(Tokens(tokens))
}

fn seconds(wanted: &ServiceAccountTokenProjection) -> i64 {
    wanted.expiration_seconds.unwrap_or(SECONDS)
}

fn wanted(pod: &Pod) -> impl Iterator<Item = &ServiceAccountTokenProjection> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let projected = volumes.filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref())
}
