//! The authority's material in a Secret, in the layout of Istio's `cacerts`.
//!
//! Secret `cacerts` counts if there is one: a person has put it there. Else `ambit-ca` does, which the first
//! replica that finds neither makes. Both are watched: what changes is taken up, what does not hold together
//! is reported, and the authority stays as it was.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{mpsc, watch};

use super::change::take_up;
use super::files::{CRL, NAMES};
use super::material::{Authority, Pems};
use crate::cluster::collection::{Collection, path};
use crate::cluster::follow::{Hint, News, follow};
use crate::cluster::{Cluster, FIELD_MANAGER};
use crate::source::parse::Wire;

/// What a person plugs in.
pub const PLUGGED: &str = "cacerts";
/// What is made when there is nothing.
pub const MADE: &str = "ambit-ca";
/// After the Secret could not be made.
const RETRY: Duration = Duration::from_secs(5);

const SECRETS: Collection = Collection::all("", &["v1"], "secrets");

/// Keeps the authority that is in the Secrets of a namespace, for as long as somebody signs with it. The
/// answer comes with the first authority.
///
/// # Errors
/// The first material that was found does not hold together, or nobody waits any more.
pub async fn follow_secrets(
    cluster: Cluster,
    namespace: String,
    trust_domain: String,
) -> Result<watch::Receiver<Arc<Authority>>, String> {
    let mut secrets = Secrets::new(cluster, namespace, trust_domain);
    let first = loop {
        secrets.hear().await?;
        if let Some(pems) = secrets.found()? {
            let first = Authority::new(&pems, SystemTime::now());
            let first = first.map_err(|error| secrets.names(&error))?;
            secrets.in_force = Some(pems);
            break first;
        }
    };
    let (sender, signing) = watch::channel(Arc::new(first));
    tokio::spawn(secrets.keep(sender));
    Ok(signing)
}

struct Secrets {
    cluster: Cluster,
    namespace: String,
    trust_domain: String,
    news: mpsc::Receiver<(usize, News<Told>)>,
    /// Plugged in, and made.
    known: [Known; 2],
    /// What was looked at last, and what is in force.
    looked: Option<Pems>,
    in_force: Option<Pems>,
    _hints: watch::Sender<Hint>,
}

#[derive(Default)]
struct Known {
    listed: bool,
    listing: bool,
    pems: Option<Result<Pems, String>>,
}

/// A Secret's material, or what is wrong with it.
type Told = Result<Pems, String>;

impl Secrets {
    fn new(cluster: Cluster, namespace: String, trust_domain: String) -> Self {
        let (sender, news) = mpsc::channel(16);
        let hints = watch::channel(Hint::default()).0;
        for (at, name) in [PLUGGED, MADE].into_iter().enumerate() {
            let collection = SECRETS.one(&namespace, name);
            let told = (at, sender.clone());
            tokio::spawn(follow(
                cluster.clone(),
                collection,
                read,
                hints.subscribe(),
                told,
            ));
        }
        Self {
            cluster,
            namespace,
            trust_domain,
            news,
            known: Default::default(),
            looked: None,
            in_force: None,
            _hints: hints,
        }
    }

    /// Takes in news; makes the Secret when there is none.
    async fn hear(&mut self) -> Result<(), String> {
        let (at, news) = self.news.recv().await.ok_or("stopping")?;
        self.known[at].take(news);
        let listed = self.known.iter().all(|known| known.listed);
        if listed && self.known.iter().all(|known| known.pems.is_none()) {
            self.make().await?;
        }
        Ok(())
    }

    /// The material that counts; `None` while that is not known.
    fn found(&mut self) -> Result<Option<Pems>, String> {
        if !self.known.iter().all(|known| known.listed) {
            return Ok(None);
        }
        let found = self.known.iter().find_map(|known| known.pems.clone());
        match found {
            Some(Ok(pems)) => {
                self.looked = Some(pems.clone());
                Ok(Some(pems))
            }
            Some(Err(error)) => Err(self.names(&error)),
            None => Ok(None),
        }
    }

    /// Takes up what changes until nobody signs any more.
    async fn keep(mut self, signing: watch::Sender<Arc<Authority>>) {
        loop {
            let before = self.looked.clone();
            let heard = tokio::select! {
                heard = self.hear() => heard,
                () = signing.closed() => return,
            };
            if heard.is_err() {
                return;
            }
            let found = match self.found() {
                Ok(Some(pems)) if before.as_ref() == Some(&pems) => continue,
                Ok(Some(pems)) => {
                    let found = Authority::new(&pems, SystemTime::now());
                    found.map_err(|error| self.names(&error))
                }
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            if take_up(&signing, found) {
                self.in_force = self.looked.clone();
            }
        }
    }

    /// Makes the Secret: of what was in force, if somebody has removed it, else anew. Whoever is first wins.
    async fn make(&mut self) -> Result<(), String> {
        let pems = match self.in_force.clone() {
            Some(pems) => pems,
            None => Pems::generate(&self.trust_domain, SystemTime::now())
                .map_err(|error| error.to_string())?,
        };
        let path = path("", "v1", Some(&self.namespace), "secrets");
        let secret = secret(&self.namespace, &pems);
        loop {
            match self.cluster.create::<Secret>(&path, &secret).await {
                Ok(_) => {
                    tracing::info!(secret = MADE, "made a new certificate authority");
                    return Ok(());
                }
                Err(failure) if failure.status() == Some(409) => return Ok(()),
                Err(failure) => {
                    tracing::warn!(%failure, secret = MADE, "the certificate authority is not made yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn names(&self, error: &str) -> String {
        let name = if self.known[0].pems.is_some() {
            PLUGGED
        } else {
            MADE
        };
        format!("Secret {}/{name}: {error}", self.namespace)
    }
}

impl Known {
    fn take(&mut self, news: News<Told>) {
        match news {
            News::Begin(_) => self.listing = true,
            News::Set(told) => {
                self.listing = false;
                self.pems = Some(told);
            }
            News::Gone(_) => self.pems = None,
            News::Complete | News::Absent(_) => {
                if std::mem::take(&mut self.listing) {
                    self.pems = None;
                }
                self.listed = true;
            }
            News::Trouble(_) | News::Well => {}
        }
    }
}

fn read(wire: Wire<'_>) -> Told {
    let secret: Secret = wire.object().map_err(|error| error.to_string())?;
    let data = secret.data.unwrap_or_default();
    let text = |name: &str| match data.get(name) {
        Some(ByteString(bytes)) => {
            String::from_utf8(bytes.clone()).map_err(|_| format!("{name} is not text"))
        }
        None => Err(format!("{name} is missing")),
    };
    let optional = |name: &str| match data.contains_key(name) {
        true => text(name).map(Some),
        false => Ok(None),
    };
    let [ca_cert, ca_key, root_cert, cert_chain] = NAMES;
    Ok(Pems {
        ca_cert: text(ca_cert)?,
        ca_key: text(ca_key)?,
        root_cert: text(root_cert)?,
        cert_chain: optional(cert_chain)?.unwrap_or_default(),
        revoked: optional(CRL)?,
    })
}

fn secret(namespace: &str, pems: &Pems) -> Secret {
    let lists = pems.revoked.as_deref().map(|lists| (CRL, lists));
    let data = pems.files().into_iter().chain(lists);
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into())));
    let managed = [("app.kubernetes.io/managed-by", FIELD_MANAGER)];
    let managed = managed.map(|(label, value)| (label.to_owned(), value.to_owned()));
    Secret {
        metadata: ObjectMeta {
            name: Some(MADE.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(managed.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
