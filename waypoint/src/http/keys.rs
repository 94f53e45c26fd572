//! The keys of JSON Web Tokens: parsed, fetched and kept. When to fetch is `jwt::KeyRing`'s decision.

mod fetch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_http::jwt::{Jwks, KeyRing, Keys, Next};
use ambit_http::model::KeySource;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::session::Session;

/// How long a request waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sources that are remembered.
const MOST: usize = 1000;
/// A source that nobody asked for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// All key sets, shared by all workers.
#[derive(Default)]
pub(super) struct KeyStore(Mutex<Vec<Known>>);

struct Known {
    source: KeySource,
    used: Instant,
    set: Set,
}

enum Set {
    Inline(Result<Arc<Jwks>, String>),
    Fetched(KeyRing, Arc<Notify>),
}

/// The key sets as one request asks for them: those that are due are fetched in the background.
pub(super) struct ForRequest<'a> {
    store: &'a Arc<KeyStore>,
    session: &'a Arc<Session>,
}

impl Keys for ForRequest<'_> {
    fn keys(&self, source: &KeySource) -> Result<Arc<Jwks>, String> {
        let now = Instant::now();
        let due = self.store.with(source, now, |set| match set {
            Set::Inline(_) => false,
            Set::Fetched(ring, _) => ring.next(now) == Next::Fetch,
        });
        if due {
            self.store.fetch(self.session, source);
        }
        self.store.with(source, now, |set| match set {
            Set::Inline(keys) => keys.clone(),
            Set::Fetched(ring, _) => ring.keys(now),
        })
    }
}

impl KeyStore {
    /// For a request.
    pub(super) fn known<'a>(self: &'a Arc<Self>, session: &'a Arc<Session>) -> ForRequest<'a> {
        let store = self;
        ForRequest { store, session }
    }

    /// A key was missing: waits for a newer set, if there may be one. Whether it is worth another look.
    pub(super) async fn refreshed(
        self: &Arc<Self>,
        session: &Arc<Session>,
        source: &KeySource,
    ) -> bool {
        let now = Instant::now();
        let waiting = self.with(source, now, |set| match set {
            Set::Inline(_) => None,
            Set::Fetched(ring, done) => ring.missing(now).then(|| {
                // Registered before the fetch can end.
                let waiting = done.clone().notified_owned();
                (waiting, ring.next(now) == Next::Fetch)
            }),
        });
        let Some((waiting, due)) = waiting else {
            return false;
        };
        if due {
            self.fetch(session, source);
        }
        timeout(PATIENCE, waiting).await.is_ok()
    }

    fn fetch(self: &Arc<Self>, session: &Arc<Session>, source: &KeySource) {
        let (store, session, source) = (self.clone(), session.clone(), source.clone());
        tokio::spawn(async move {
            let fetched = fetch::fetch(&session, &source).await;
            let now = Instant::now();
            store.with(&source, now, |set| {
                let Set::Fetched(ring, done) = set else {
                    return;
                };
                match fetched {
                    Ok(keys) => ring.fetched(Arc::new(keys), now),
                    Err(error) => {
                        tracing::warn!(?source, error, "cannot fetch the keys of tokens");
                        ring.failed(error, now, rand::random());
                    }
                }
                done.notify_waiters();
            });
        });
    }

    fn with<T>(&self, source: &KeySource, now: Instant, look: impl FnOnce(&mut Set) -> T) -> T {
        let mut all = self.0.lock();
        if let Some(known) = all.iter_mut().find(|known| known.source == *source) {
            known.used = now;
            return look(&mut known.set);
        }
        let fresh = |known: &Known| now.saturating_duration_since(known.used) < FORGOTTEN;
        all.retain(fresh);
        let mut set = match source {
            KeySource::Inline(text) => {
                let keys = Jwks::parse(text.as_bytes());
                Set::Inline(keys.map(Arc::new).map_err(|error| error.to_string()))
            }
            KeySource::Service { .. } | KeySource::Url(_) => {
                Set::Fetched(KeyRing::new(now), Arc::default())
            }
        };
        let found = look(&mut set);
        if all.len() < MOST {
            all.push(Known {
                source: source.clone(),
                used: now,
                set,
            });
        }
        found
    }
}
