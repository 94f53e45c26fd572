//! The store: one current certificate for each identity that is wanted here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_core::rotation::{Priority, Rotation};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::snapshot::{self, Entry};
use super::{CaError, Driver, Signer};
use crate::tls::Certified;

/// The wall clock, which certificates are valid by.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Limits of a store.
#[derive(Clone)]
pub struct Settings {
    /// Signatures asked for at the same time.
    pub concurrency: usize,
    /// Longest time that [`CertificateStore::get`] waits.
    pub wait: Duration,
    /// The wall clock.
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            wait: Duration::from_secs(5),
            clock: Arc::new(SystemTime::now),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Hands out certificates; cheap to clone. Its [`Driver`] obtains and renews them.
#[derive(Clone)]
pub struct CertificateStore {
    shared: Arc<Shared>,
}

impl CertificateStore {
    /// A store and the driver to be run beside it.
    #[must_use]
    pub fn new<S: Signer>(signer: S, settings: Settings) -> (Self, Driver<S>) {
        let shared = Arc::new(Shared {
            serving: ArcSwap::default(),
            desk: Mutex::new(Desk {
                rotation: Rotation::new(settings.concurrency),
                attempts: HashMap::new(),
                stopped: false,
            }),
            wake: Notify::new(),
            renewals: watch::Sender::new(0),
            settings,
        });
        let store = Self {
            shared: Arc::clone(&shared),
        };
        (store, Driver::new(shared, signer))
    }

    /// The current certificate of `identity`; waits for the first one, before everything else
    /// that is to be signed.
    ///
    /// # Errors
    /// What the last attempt failed with, when none succeeds within [`Settings::wait`]; at once,
    /// when the next attempt is further away than that.
    pub async fn get(&self, identity: &Identity) -> Result<Arc<Certified>, CaError> {
        match self.current(identity) {
            Some(certified) => Ok(certified),
            None => Box::pin(self.wait(identity)).await,
        }
    }

    /// The current certificate of `identity`, if there is one and it has not expired.
    #[must_use]
    pub fn current(&self, identity: &Identity) -> Option<Arc<Certified>> {
        self.shared.current(identity)
    }

    /// Obtains a certificate of `identity` before it is needed, and keeps it renewed.
    pub fn prefetch(&self, identity: &Identity) {
        self.shared.want(identity, Priority::Prefetch);
    }

    /// Gives up `identity`: its last pod is gone. Callers that wait for it fail.
    pub fn forget(&self, identity: &Identity) {
        let mut desk = self.shared.desk.lock();
        desk.rotation.forget(identity);
        desk.attempts.remove(identity);
        self.shared.change(|serving| {
            serving.remove(identity);
        });
    }

    /// Every identity that is wanted here and how its certificate stands, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        snapshot::take(&self.shared)
    }

    /// Wakes whenever a certificate was obtained or renewed; the number counts them.
    #[must_use]
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.shared.renewals.subscribe()
    }

    async fn wait(&self, identity: &Identity) -> Result<Arc<Certified>, CaError> {
        let deadline = Instant::now() + self.shared.settings.wait;
        let mut attempts = self
            .shared
            .want(identity, Priority::Now)
            .ok_or(CaError::Stopped)?;
        loop {
            let last = attempts.borrow_and_update().clone();
            if let Some(certified) = self.current(identity) {
                return Ok(certified);
            }
            if let Some(Failure { error, retry_at }) = &last
                && *retry_at > deadline
            {
                return Err(error.clone());
            }
            match tokio::time::timeout_at(deadline, attempts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.shared.gone(identity)),
                Err(_) => return Err(self.overdue(identity, last)),
            }
        }
    }

    fn overdue(&self, identity: &Identity, last: Option<Failure>) -> CaError {
        last.map_or_else(
            || CaError::NotYet {
                identity: identity.clone(),
                waited: self.shared.settings.wait,
            },
            |failure| failure.error,
        )
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore")
            .field("serving", &self.shared.serving.load().len())
            .finish_non_exhaustive()
    }
}

/// What the store and its driver have in common.
pub(super) struct Shared {
    /// Read for every connection; replaced as a whole when a certificate changes.
    pub(super) serving: ArcSwap<HashMap<Identity, Arc<Certified>>>,
    pub(super) desk: Mutex<Desk>,
    /// Rings when the driver has something new to consider.
    pub(super) wake: Notify,
    pub(super) renewals: watch::Sender<u64>,
    pub(super) settings: Settings,
}

/// What is wanted and how the attempts went.
pub(super) struct Desk {
    pub(super) rotation: Rotation,
    /// One for every wanted identity: the outcome of its last attempt, None once it succeeded.
    pub(super) attempts: HashMap<Identity, watch::Sender<Option<Failure>>>,
    pub(super) stopped: bool,
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: CaError,
    pub(super) retry_at: Instant,
}

impl Shared {
    fn current(&self, identity: &Identity) -> Option<Arc<Certified>> {
        let serving = self.serving.load();
        let certified = serving.get(identity)?;
        self.is_valid(certified).then(|| Arc::clone(certified))
    }

    pub(super) fn is_valid(&self, certified: &Certified) -> bool {
        certified.not_after() > (self.settings.clock)()
    }

    /// Replaces what is served. The caller holds the desk, so that changes do not race.
    pub(super) fn change(&self, edit: impl FnOnce(&mut HashMap<Identity, Arc<Certified>>)) {
        let mut next = HashMap::clone(&self.serving.load());
        edit(&mut next);
        self.serving.store(Arc::new(next));
    }

    /// Queues `identity` and gives its attempts; None once the driver has stopped.
    fn want(
        &self,
        identity: &Identity,
        priority: Priority,
    ) -> Option<watch::Receiver<Option<Failure>>> {
        let mut desk = self.desk.lock();
        if desk.stopped {
            return None;
        }
        // Somebody else may have waited for it and got it since the caller looked.
        if priority != Priority::Now || self.current(identity).is_none() {
            desk.rotation
                .want(identity, priority, Instant::now().into_std());
        }
        let attempts = desk
            .attempts
            .entry(identity.clone())
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        drop(desk);
        self.wake.notify_one();
        Some(attempts)
    }

    /// Why attempts ended while somebody waited for them.
    fn gone(&self, identity: &Identity) -> CaError {
        if self.desk.lock().stopped {
            CaError::Stopped
        } else {
            CaError::Forgotten {
                identity: identity.clone(),
            }
        }
    }
}
