//! A signer inside the process, which does as a test says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use ambit_core::identity::Identity;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, SanType};
use tokio::time::Instant;

use super::{CaError, Signer};
use crate::clock::Clock;
use crate::grpc::testing::Authority;
use crate::tls::Certified;

/// A wall clock that follows tokio's, so that pausing one pauses both.
pub(crate) fn clock() -> Clock {
    let origin = Instant::now();
    Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + origin.elapsed())
}

/// A certificate of `names`, PEM, signed for the public key of `key`.
pub(crate) fn leaf(
    authority: &Authority,
    names: &[&str],
    key: &impl rcgen::PublicKeyData,
    from: SystemTime,
    until: SystemTime,
) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = from.into();
    params.not_after = until.into();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = names
        .iter()
        .map(|name| SanType::URI((*name).try_into().expect("ASCII")))
        .collect();
    params
        .signed_by(key, authority.issuer())
        .expect("signed")
        .pem()
}

/// What a [`TestSigner`] does with one request; after the script it signs.
pub(crate) enum Step {
    Fail(&'static str),
    /// As if there were no authority.
    Gone,
    Hang,
    Take(Duration),
}

/// Signs at once unless its script says otherwise. Clones are the same signer.
#[derive(Clone)]
pub(crate) struct TestSigner(Arc<Inner>);

struct Inner {
    authority: Authority,
    clock: Clock,
    lifetime: Duration,
    script: Mutex<VecDeque<Step>>,
    broken: Mutex<bool>,
    asked: Mutex<Vec<Identity>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl TestSigner {
    pub(crate) fn new(clock: Clock, lifetime: Duration) -> Self {
        Self(Arc::new(Inner {
            authority: Authority::new(),
            clock,
            lifetime,
            script: Mutex::default(),
            broken: Mutex::new(false),
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn then(&self, step: Step) {
        self.0.script.lock().push_back(step);
    }

    /// Fails every request from now on, or none.
    pub(crate) fn broken(&self, broken: bool) {
        *self.0.broken.lock() = broken;
    }

    /// Every request so far, in order.
    pub(crate) fn asked(&self) -> Vec<Identity> {
        self.0.asked.lock().clone()
    }

    /// The most requests that ran at the same time.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}

impl Signer for TestSigner {
    async fn sign(&self, identity: &Identity) -> Result<Certified, CaError> {
        let inner = &self.0;
        inner.asked.lock().push(identity.clone());
        let running = Running::count(inner);
        let step = inner.script.lock().pop_front();
        let refuse = |reason: &str| {
            Err(CaError::Request {
                identity: identity.clone(),
                reason: reason.to_owned(),
            })
        };
        match step {
            Some(Step::Fail(reason)) => return refuse(reason),
            Some(Step::Gone) => {
                return Err(CaError::Silent {
                    address: "https://localhost:15012".parse().expect("an address"),
                    after: Duration::ZERO,
                });
            }
            Some(Step::Hang) => std::future::pending().await,
            Some(Step::Take(time)) => tokio::time::sleep(time).await,
            None => {}
        }
        if *inner.broken.lock() {
            return refuse("broken");
        }
        drop(running);
        let key = KeyPair::generate().expect("a key");
        let now = (inner.clock)();
        let name = identity.to_string();
        let leaf = leaf(&inner.authority, &[&name], &key, now, now + inner.lifetime);
        Certified::from_pem(&[leaf, inner.authority.root_pem()], &key.serialize_pem()).map_err(
            |source| CaError::Answer {
                identity: identity.clone(),
                source,
            },
        )
    }
}

/// Counts a request for as long as it runs, dropped ones included.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn count(inner: &'a Inner) -> Self {
        let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most.fetch_max(running, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
