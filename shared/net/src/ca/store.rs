//! The store: one current certificate for each identity that is wanted here, and for no other.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use ambit_core::rotation::{Priority, Rotation};
use ambit_core::trust_domain::TrustDomains;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::snapshot::{self, Entry};
use super::{CaError, Driver, Signer, Wanted};
use crate::clock::Clock;
use crate::revocation::Revocations;
use crate::tls::Certified;

/// What is to be renewed soon is within this: those who sign are not asked for everything at once.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// Limits of a store.
#[derive(Clone)]
pub struct Settings {
    /// Signatures asked for at the same time.
    pub concurrency: usize,
    /// Longest time that [`Wanted::get`] waits.
    pub wait: Duration,
    /// The wall clock.
    pub clock: Clock,
    /// The names of the mesh's trust domain, under which peers are believed.
    pub trust_domains: TrustDomains,
    /// The certificates of peers that are not believed any longer.
    pub revocations: Revocations,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            wait: Duration::from_secs(5),
            clock: Arc::new(SystemTime::now),
            trust_domains: TrustDomains::default(),
            revocations: Revocations::default(),
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

/// Keeps certificates; cheap to clone. Its [`Driver`] obtains and renews them.
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
                seats: HashMap::new(),
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

    /// Obtains a certificate of `identity` before it is needed, and keeps it renewed for as long
    /// as what this returns, or a clone of it, is held.
    #[must_use]
    pub fn want(&self, identity: &Identity) -> Wanted {
        self.shared.take_seat(identity);
        Wanted {
            shared: Arc::clone(&self.shared),
            identity: Arc::new(identity.clone()),
        }
    }

    /// Every identity that is wanted here and how its certificate stands, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        snapshot::take(&self.shared)
    }

    /// Has all certificates renewed soon: who signs gives other roots with them now.
    pub fn renew_all(&self) {
        let now = Instant::now().into_std();
        let mut desk = self.shared.desk.lock();
        desk.rotation.renew_all(now, SOON, rand::random::<f64>);
        drop(desk);
        self.shared.wake.notify_one();
    }

    /// Wakes whenever a certificate was obtained or renewed; the number counts them.
    #[must_use]
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.shared.renewals.subscribe()
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
    /// One for every wanted identity.
    pub(super) seats: HashMap<Identity, Seat>,
    pub(super) stopped: bool,
}

/// A wanted identity.
pub(super) struct Seat {
    /// The outcome of the last attempt; None once it succeeded.
    pub(super) attempts: watch::Sender<Option<Failure>>,
    /// How many want it, at least one.
    holders: usize,
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: CaError,
    pub(super) retry_at: Instant,
}

impl Shared {
    pub(super) fn current(&self, identity: &Identity) -> Option<Arc<Certified>> {
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

    /// Counts one more that wants `identity`.
    pub(super) fn take_seat(&self, identity: &Identity) {
        let mut desk = self.desk.lock();
        match desk.seats.get_mut(identity) {
            Some(seat) => seat.holders += 1,
            None => {
                let seat = Seat {
                    attempts: watch::Sender::new(None),
                    holders: 1,
                };
                desk.seats.insert(identity.clone(), seat);
                let now = Instant::now().into_std();
                desk.rotation.want(identity, Priority::Prefetch, now);
                self.wake.notify_one();
            }
        }
    }

    /// Counts one less; the last one gives it up.
    pub(super) fn leave_seat(&self, identity: &Identity) {
        let mut desk = self.desk.lock();
        let Some(seat) = desk.seats.get_mut(identity) else {
            return;
        };
        seat.holders -= 1;
        if seat.holders == 0 {
            desk.seats.remove(identity);
            desk.rotation.forget(identity);
            self.change(|serving| {
                serving.remove(identity);
            });
        }
    }

    /// Puts a held `identity` first and gives its attempts.
    pub(super) fn hurry(&self, identity: &Identity) -> watch::Receiver<Option<Failure>> {
        let mut desk = self.desk.lock();
        // Somebody else may have waited for it and got it since the caller looked.
        if self.current(identity).is_none() {
            let now = Instant::now().into_std();
            desk.rotation.want(identity, Priority::Now, now);
            self.wake.notify_one();
        }
        let seat = desk.seats.get(identity);
        seat.expect("a held identity keeps its seat")
            .attempts
            .subscribe()
    }

    /// Whether the driver is gone.
    pub(super) fn stopped(&self) -> bool {
        self.desk.lock().stopped
    }
}
